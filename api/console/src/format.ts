/* How numbers and times are shown: Asia/Shanghai always, whatever the workstation's zone is. */
const DATE = new Intl.DateTimeFormat("sv-SE", {
  timeZone: "Asia/Shanghai",
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** Accepts unix seconds or an ISO 8601 text with zone; null for anything else. */
export function toDate(value: string | number | null | undefined): Date | null {
  if (value === null || value === undefined || value === "") return null;
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** `2026-01-31 08:05:09` in Asia/Shanghai, or a dash. */
export function dateTime(value: string | number | Date | null | undefined): string {
  const date = value instanceof Date ? value : toDate(value);
  return date ? DATE.format(date) : "—";
}

export function bitrate(kbps: number | null | undefined): string {
  if (kbps === null || kbps === undefined) return "—";
  return kbps >= 1000 ? `${(kbps / 1000).toFixed(kbps >= 10_000 ? 0 : 1)} Mb/s` : `${Math.round(kbps)} kb/s`;
}

/** `14:05` of remaining seconds. */
export function countdown(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
