/* Every stable code of the platform has words in both languages; the table is checked against the platform's sources. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { codeTexts } from "@/i18n/codes";

const words = (text: string): string[] => text.trim().split(/\s+/);

interface Origin {
  codes: string[];
  /** Where in the repository they stand, and as what; none where they stand as plain words in a docstring only. */
  files?: string[];
  literals?: RegExp[];
}

const TABLE: Record<string, Origin> = {
  "problems of the HTTP interface": {
    codes: words(`bad_request unauthenticated forbidden not_found method_not_allowed request_timeout body_too_large
      unsupported_media_type invalid_request http_error internal_error`),
    files: ["api/problems.py"],
    literals: [/code="(\w+)"/g, /\b\d{3}: \("(\w+)"/g, /code, detail = .*\("(\w+)"/g],
  },
  "routes of the HTTP interface": {
    codes: words(`password_change_required host_unusable caller_left open_timeout stream_ended too_many_streams
      request_failed logout rate_limited viewer_closed revoked device_exists device_offline sync_running no_answer refused
      device_error too_many forbidden events_unavailable E_LEDGER_UNAVAILABLE store_unavailable`),
    files: ["authority", "streams", "auth", "devices", "events", "health", "app"].map((name) => `api/${name}.py`),
    literals: [
      /code="(\w+)"/g,
      /(?:conflict|unavailable|_throttled)\(\s*"(\w+)"/g,
      /reason="(\w+)"/g,
      /"([a-z_]+)": \(\d{3},/g,
      /else "(request_failed|revoked)"/g,
    ],
  },
  "live play: why a picture could not be had, and why one ended": {
    codes: words(`device_offline device_unreachable device_no_answer device_busy device_refused device_unavailable
      channel_unknown_to_device media_not_supported answer_unusable streams_full media_refused viewer_left
      channel_not_playable stream_ended source_lost device_bye stopped lease_expired no_media not_invited
      viewer_closed unwatched logout caller_left`),
    files: ["sipserver/play.py", "sipserver/streams.py"],
    literals: [/PlayError\("(\w+)"/g, /(?:_end|_end_lease|_close_session)\([^,()]+, "(\w+)"/g, /\b\d{3}: \("(\w+)"/g],
  },
  "dialogs that ended of themselves": {
    codes: words("bye bye_unanswered transport no_ack"),
    files: ["sipserver/protocol/calls.py", "sipserver/protocol/dialog.py"],
    literals: [/end_reason(?:: str)? = "(\w+)"/g, /else "(transport)"/g],
  },
  "devices that went away": {
    codes: words("unregistered expired keepalive_lost transport_lost removed"),
    files: ["sipserver/bindings.py"],
    literals: [/(?<=OfflineReason = Literal\[.*)"(\w+)"/g],
  },
  "refusals of the policy": {
    codes: words(`E_NOT_FOUND E_PROFILE_INACTIVE E_PURPOSE_INVALID E_LEDGER_UNAVAILABLE E_AUDIO_NOT_GRANTED
      E_ACTION_NOT_GRANTED E_GRANT_EXPIRED E_GRANT_REVOKED E_SCOPE_CAMERA E_NETWORK_ZONE`),
    files: ["sharing/policy.py"],
    literals: [/"(E_\w+)"/g],
  },
  "accounts and logins": {
    codes: words(`E_LOGIN E_LOGIN_THROTTLED E_LEDGER_UNAVAILABLE password_wrong password_weak password_used user_unknown
      user_exists too_many_users username_invalid scope_invalid role_conflict last_administrator`),
    files: ["sharing/people.py"],
    literals: [/PeopleError\("(\w+)"/g, /code="(\w+)"/g],
  },
  "leases that ended with the platform": {
    codes: ["ENDED_BY_CRASH"],
    files: ["sharing/service.py"],
    literals: [/"reason": "(\w+)"/g],
  },
  "commands the media engine refuses": {
    codes: words(`exists unknown ssrc_in_use lease_too_long lease_over exhausted socket tickets_full bad_argument
      port_taken stopped`),
    files: ["media/session.py"],
    literals: [/MediaError\("(\w+)"/g, /__init__\("(\w+)"/g, /(?<=Codes: .*)`(\w+)`/g],
  },
  "viewers the media engine sends away": {
    codes: words(`viewer_left protocol_error lease_expired stalled engine_stopped audio_not_granted codec_unsupported
      source_lost`),
    files: ["media/engine/src/server.rs"],
    literals: [/reason: "(\w+)"/g],
  },
};

const source = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../../${path}`, import.meta.url)), "utf8");
const known = new Map(Object.entries(codeTexts).map(([code, texts]) => [code.toLowerCase(), texts]));

describe.each(Object.entries(TABLE))("%s", (_name, { codes, files = [], literals = [] }) => {
  it.each(codes)("%s has a Chinese and an English text", (code) => {
    const [zh, en] = known.get(code.toLowerCase()) ?? ["", ""];
    expect(zh).toMatch(/[\u4e00-\u9fff]/);
    expect(en).toMatch(/^[A-Z][\x20-\x7e]+$/);
  });

  it("stand in the table, all of them", () => {
    const text = files.map(source).join("\n");
    const found = literals.map((pattern) => [...text.matchAll(pattern)].map((match) => match[1]!));
    found.forEach((some, i) => expect(some, `finds nothing: ${literals[i]!}`).not.toEqual([]));
    expect([...new Set(found.flat())].filter((code) => !codes.includes(code))).toEqual([]);
  });
});
