/* What the engine says over the media WebSocket: JSON text messages between the binary fMP4 pieces. */

export interface InitMessage {
  type: "init";
  /** MIME codecs parameter of the fMP4 that follows, e.g. `avc1.640028,mp4a.40.2`. */
  codecs: string;
  video: string | null;
  audio: string | null;
  /** Why there is no sound: a codec no browser can play through MSE (G.711 and kin), or `not_granted`. */
  audioOmitted: string | null;
  width: number | null;
  height: number | null;
}

export interface StatMessage {
  type: "stat";
  bitrateKbps: number | null;
  fps: number | null;
  /** Age of the last access unit when the engine wrote it, in ms. */
  latencyMs: number | null;
  dropped: number;
}

export interface EndMessage {
  type: "end";
  code: string;
  articles: string[];
}

export type MediaMessage = InitMessage | StatMessage | EndMessage;

const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
const count = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** Returns null for anything that is not understood: later engines may say more than this console knows. */
export function parseMessage(raw: string): MediaMessage | null {
  let body: Record<string, unknown>;
  try {
    const value: unknown = JSON.parse(raw);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
    body = value as Record<string, unknown>;
  } catch {
    return null;
  }
  switch (body["type"]) {
    case "init": {
      const codecs = text(body["codecs"]);
      if (codecs === null) return null;
      return {
        type: "init",
        codecs,
        video: text(body["video"]),
        audio: text(body["audio"]),
        audioOmitted: text(body["audio_omitted"]),
        width: count(body["width"]),
        height: count(body["height"]),
      };
    }
    case "stat":
      return {
        type: "stat",
        bitrateKbps: count(body["bitrate_kbps"]),
        fps: count(body["fps"]),
        latencyMs: count(body["latency_ms"]),
        dropped: count(body["dropped"]) ?? 0,
      };
    case "end":
    case "error":
      return {
        type: "end",
        code: text(body["code"]) ?? text(body["reason"]) ?? "ended",
        articles: Array.isArray(body["articles"])
          ? body["articles"].filter((a): a is string => typeof a === "string")
          : [],
      };
    default:
      return null;
  }
}

/** What a view has for the ear: sound to switch on, sound no browser plays, no right to sound, or no sound at all. */
export type Sound = "playable" | "unplayable" | "not_granted" | "none";

/** `not_granted` comes whether or not the camera has sound: whoever may not hear is not told either. */
export function soundOf(init: Pick<InitMessage, "audio" | "audioOmitted"> | null): Sound {
  if (init?.audioOmitted === "not_granted") return "not_granted";
  if (init?.audioOmitted) return "unplayable";
  return init?.audio ? "playable" : "none";
}

export const mimeType = (codecs: string): string => `video/mp4; codecs="${codecs}"`;

const NAMES: [RegExp, string][] = [
  [/^(avc[13])/i, "H.264"],
  [/^(hvc1|hev1)/i, "H.265"],
  [/^mp4v/i, "MPEG-4"],
  [/^mp4a/i, "AAC"],
];

/** Human name of a codec: the engine's (`H264`) or the first of an RFC 6381 string (`avc1.640028`). */
export function codecName(value: string | null | undefined): string {
  if (!value) return "";
  const first = value.split(",")[0]!.trim();
  for (const [pattern, name] of NAMES) if (pattern.test(first)) return name;
  const compact = /^H\.?(26[3-6])$/i.exec(first);
  if (compact) return `H.${compact[1]}`;
  const g7 = /^G\.?(7\d\d)\.?(\w*)$/i.exec(first);
  if (g7) return `G.${g7[1]}${g7[2] ? (/^\d/.test(g7[2]) ? "." : "") + g7[2].toUpperCase() : ""}`;
  return first.toUpperCase();
}

/**
 * Coded size from the first video sample entry of an init segment (ISO/IEC 14496-12, 12.1.3), or null.
 * Needed where the browser cannot decode the video and so never reports its size.
 */
export function sampleEntrySize(init: Uint8Array): { width: number; height: number } | null {
  const kinds = ["avc1", "avc3", "hvc1", "hev1", "mp4v"];
  for (let i = 4; i + 32 <= init.length; i++) {
    const tag = String.fromCharCode(init[i]!, init[i + 1]!, init[i + 2]!, init[i + 3]!);
    if (!kinds.includes(tag)) continue;
    const view = new DataView(init.buffer, init.byteOffset + i + 28, 4);
    const width = view.getUint16(0);
    const height = view.getUint16(2);
    if (width > 0 && height > 0) return { width, height };
  }
  return null;
}
