/* What a ledger row says, in the words of the register: person, purpose, result. The raw record stays in the proof. */
import type { LedgerEntry } from "@/api/types";
import { codeText, i18n, type Lang } from "@/i18n";
import { readPurpose } from "@/wall/purposes";

const { t, te } = i18n.global;

function field(entry: LedgerEntry, name: string): unknown {
  return entry.record[name];
}

/** `姓名（用户名）`, or whatever of it is known; a withdrawn account keeps the name that stood in the row. */
export function personText(entry: LedgerEntry): string {
  const persons = field(entry, "persons");
  const first = Array.isArray(persons) ? (persons[0] as { name?: string; username?: string } | undefined) : undefined;
  const username = entry.user_name || first?.username || "";
  if (first?.name && first.name !== username) return username ? `${first.name}（${username}）` : first.name;
  return username || entry.user || "";
}

export function channelText(entry: LedgerEntry): string {
  const recorded = field(entry, "channel_name");
  return entry.channel_name || (typeof recorded === "string" ? recorded : "") || entry.channel || "";
}

export function purposeOf(entry: LedgerEntry, lang: Lang): string {
  const remark = field(entry, "reason_text");
  const purpose = readPurpose(entry.purpose, lang);
  return purpose && typeof remark === "string" && remark ? `${purpose} · ${remark}` : purpose;
}

export const isBad = (entry: LedgerEntry): boolean => /^(refusal|login_refused|end_by_crash)$/.test(entry.kind);

export function kindText(kind: string): string {
  return te(`ledger.kinds.${kind}`) ? t(`ledger.kinds.${kind}`) : kind;
}

export function resultText(entry: LedgerEntry): string {
  if (entry.kind === "intent") return t("ledger.allowed");
  if (entry.kind === "end" || entry.kind === "end_by_crash") {
    const seconds = field(entry, "seconds");
    const reason = codeText(entry.reason ?? "", entry.reason ?? "");
    return typeof seconds === "number" && seconds > 0
      ? `${reason} · ${t("ledger.seconds", { n: Math.round(seconds) })}`
      : reason;
  }
  if (entry.code) return codeText(entry.code, entry.reason || entry.code);
  if (entry.action) return te(`ledger.actions.${entry.action}`) ? t(`ledger.actions.${entry.action}`) : entry.action;
  return entry.reason ? codeText(entry.reason, entry.reason) : "";
}
