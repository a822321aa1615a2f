/* Texts, codes, citations, address codes, times. */
// @vitest-environment happy-dom
import { describe, expect, it } from "vitest";
import { bitrate, countdown, dateTime } from "@/format";
import { readGbId } from "@/gbid";
import { codeText, setLang } from "@/i18n";
import { article } from "@/i18n/articles";
import en from "@/i18n/en";
import zh from "@/i18n/zh";
import type { LedgerEntry } from "@/api/types";
import { channelText, personText, purposeOf, resultText } from "@/ledger/reading";
import { purposeText, readPurpose } from "@/wall/purposes";

function paths(value: object, prefix = ""): string[] {
  return Object.entries(value).flatMap(([key, one]) =>
    typeof one === "object" ? paths(one as object, `${prefix}${key}.`) : [`${prefix}${key}`],
  );
}

function text(tree: object, path: string): string {
  return path.split(".").reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], tree) as string;
}

describe("languages", () => {
  it("have the same texts with the same places for values", () => {
    expect(paths(en)).toEqual(paths(zh));
    const places = (one: string): string[] => (one.match(/\{\w+\}/g) ?? []).sort();
    for (const path of paths(zh)) expect(places(text(en, path)), path).toEqual(places(text(zh, path)));
  });

  it("put codes into words, whatever their case, and fall back to the server's sentence", () => {
    setLang("zh");
    expect(codeText("E_LEDGER_UNAVAILABLE")).toBe("台账不可用，平台拒绝出图");
    expect(codeText("E_NEW_RULE", "A new rule.")).toBe("A new rule.");
    setLang("en");
    expect(codeText("device_offline")).toBe("The device is offline");
    setLang("zh");
  });
});

it("cites articles in full and never hides an unknown citation", () => {
  setLang("zh");
  expect(article("N16")).toEqual({
    key: "N16",
    label: "条例第16条",
    title: "《公共安全视频图像信息系统管理条例（国务院令第799号）》第16条",
  });
  expect(article("CQ25(2)(1)").label).toBe("重庆办法第25条(2)(1)");
  expect(article("XX9").label).toBe("XX9");
});

it("purposes are sent as code and remark, and read back", () => {
  expect(purposeText("DUTY_WATCH", "  夜班\n巡看 ")).toBe("DUTY_WATCH: 夜班 巡看");
  expect(purposeText("DUTY_WATCH", "")).toBe("DUTY_WATCH");
  expect(readPurpose("DUTY_WATCH: 夜班", "zh")).toBe("值班巡查 · 夜班");
  expect(readPurpose("SOMETHING_ELSE", "zh")).toBe("SOMETHING_ELSE");
  expect(readPurpose(null, "zh")).toBe("");
});

it("reads address codes", () => {
  expect(readGbId("34020000001320000001")).toMatchObject({ valid: true, typeCode: "132", kind: "ipc" });
  expect(readGbId("34020100002000000001")).toMatchObject({ valid: true, kind: "platform" });
  expect(readGbId("34020000001180000001").kind).toBe("nvr");
  expect(readGbId("3402000000132")).toMatchObject({ valid: false, typeCode: "132" });
  expect(readGbId("34020000002150000001")).toMatchObject({ valid: true, kind: null });
  expect(readGbId("3402000000132000000x").valid).toBe(false);
});

it("shows times in Shanghai whatever the workstation says", () => {
  expect(dateTime("2026-11-20T16:30:05.123Z")).toBe("2026-11-21 00:30:05");
  expect(dateTime(1_700_000_000)).toBe("2023-11-15 06:13:20");
  expect(dateTime("nonsense")).toBe("—");
  expect(dateTime(null)).toBe("—");
});

it("shows rates and waits shortly", () => {
  expect([bitrate(0), bitrate(960), bitrate(2140), bitrate(12_400), bitrate(null)]).toEqual([
    "0 kb/s",
    "960 kb/s",
    "2.1 Mb/s",
    "12 Mb/s",
    "—",
  ]);
  expect([countdown(900), countdown(59.2), countdown(-3)]).toEqual(["15:00", "1:00", "0:00"]);
});

describe("ledger rows", () => {
  const row = (kind: string, rest: Partial<LedgerEntry>): LedgerEntry => ({
    seq: 1,
    at: "2026-11-21T00:00:00Z",
    kind,
    leaf_hash: "",
    record: {},
    ...rest,
  });

  it("name person, purpose with remark, and result", () => {
    setLang("zh");
    const view = row("intent", {
      user_name: "watch",
      purpose: "DUTY_WATCH",
      code: "OK",
      reason: "duty watch within scope",
      record: { persons: [{ username: "watch", name: "王建国" }], reason_text: "夜班" },
    });
    expect([personText(view), purposeOf(view, "zh"), resultText(view)]).toEqual([
      "王建国（watch）",
      "值班巡查 · 夜班",
      "准予",
    ]);
    expect(resultText(row("end", { reason: "viewer_closed", record: { seconds: 21.4 } }))).toBe("已关闭 · 观看 21 秒");
    expect(resultText(row("end_by_crash", { reason: "ENDED_BY_CRASH" }))).toBe("平台异常中止");
    expect(resultText(row("refusal", { code: "E_NEW", reason: "a new rule" }))).toBe("a new rule");
    expect(resultText(row("admin", { action: "DEVICE_ADDED" }))).toBe("添加设备");
    expect(resultText(row("admin", { action: "NEW_ACTION" }))).toBe("NEW_ACTION");
  });

  it("keep the name of an account or camera that is gone", () => {
    const gone = row("intent", {
      user: "usr_x",
      channel: "chn_x",
      record: { persons: [{ username: "old", name: "" }], channel_name: "东门" },
    });
    expect([personText(gone), channelText(gone)]).toEqual(["old", "东门"]);
    expect(personText(row("logout", { user: "usr_x" }))).toBe("usr_x");
  });
});
