/* Purposes a watcher may give; the code goes to the ledger, a remark after a colon. */
export interface Purpose {
  code: string;
  zh: string;
  en: string;
}

export const PURPOSES: Purpose[] = [{ code: "DUTY_WATCH", zh: "值班巡查", en: "Duty watch" }];

/** `CODE` or `CODE: remark`, as the server takes it. */
export function purposeText(code: string, note: string): string {
  const remark = note.replace(/\s+/g, " ").trim();
  return remark ? `${code}: ${remark}` : code;
}

/** The stored form for people: `值班巡查 · remark`. Unknown codes are shown as they are. */
export function readPurpose(text: string | null | undefined, lang: "zh" | "en"): string {
  if (!text) return "";
  const match = /^([A-Z][A-Z0-9_]+)(?:\s*[:：]\s*(.*))?$/s.exec(text);
  if (!match) return text;
  const known = PURPOSES.find((purpose) => purpose.code === match[1]);
  const name = known ? known[lang] : match[1]!;
  return match[2] ? `${name} · ${match[2]}` : name;
}
