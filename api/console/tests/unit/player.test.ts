/* Messages of the engine, codec names, append queue, addresses. */
import { describe, expect, it } from "vitest";
import { socketUrl } from "@/player/liveplayer";
import { codecName, parseMessage, sampleEntrySize, soundOf } from "@/player/messages";
import { AppendQueue } from "@/player/queue";

describe("parseMessage", () => {
  it("reads init, stat and end", () => {
    expect(parseMessage('{"type":"init","codecs":"avc1.640028","video":"H264","audio_omitted":"G711A"}')).toEqual({
      type: "init",
      codecs: "avc1.640028",
      video: "H264",
      audio: null,
      audioOmitted: "G711A",
      width: null,
      height: null,
    });
    expect(parseMessage('{"type":"init","codecs":"avc1.640028","width":1920,"height":1080}')).toMatchObject({
      width: 1920,
      height: 1080,
    });
    expect(parseMessage('{"type":"stat","bitrate_kbps":900,"fps":25,"latency_ms":12,"dropped":3}')).toEqual({
      type: "stat",
      bitrateKbps: 900,
      fps: 25,
      latencyMs: 12,
      dropped: 3,
    });
    expect(parseMessage('{"type":"end","reason":"source_lost"}')).toEqual({
      type: "end",
      code: "source_lost",
      articles: [],
    });
    expect(parseMessage('{"type":"end","code":"revoked","articles":["N16",5]}')).toEqual({
      type: "end",
      code: "revoked",
      articles: ["N16"],
    });
  });

  it("ignores what it does not know", () => {
    for (const raw of ["", "null", "[]", "7", "{", '{"type":"new"}', '{"type":"init"}', '{"type":"init","codecs":5}'])
      expect(parseMessage(raw), raw).toBeNull();
  });

  it("takes a stat with missing or senseless figures", () => {
    expect(parseMessage('{"type":"stat","fps":"many","latency_ms":null}')).toEqual({
      type: "stat",
      bitrateKbps: null,
      fps: null,
      latencyMs: null,
      dropped: 0,
    });
  });
});

it("names codecs as people do", () => {
  const cases: [string | null, string][] = [
    ["avc1.640028,mp4a.40.2", "H.264"],
    ["hvc1.1.6.L93.B0", "H.265"],
    ["H264", "H.264"],
    ["H265", "H.265"],
    ["G711A", "G.711A"],
    ["G7221", "G.722.1"],
    ["AAC", "AAC"],
    ["svac", "SVAC"],
    [null, ""],
  ];
  for (const [raw, name] of cases) expect(codecName(raw)).toBe(name);
});

it("tells sound to switch on from sound no browser plays, from no right to it, and from none", () => {
  const cases: [string | null, string | null, string][] = [
    ["AAC", null, "playable"],
    ["G711A", "G711A", "unplayable"],
    ["AAC", "not_granted", "not_granted"],
    [null, "not_granted", "not_granted"],
    [null, null, "none"],
  ];
  for (const [audio, audioOmitted, sound] of cases) expect(soundOf({ audio, audioOmitted })).toBe(sound);
  expect(soundOf(null)).toBe("none");
});

describe("sampleEntrySize", () => {
  it("finds the coded size in a sample entry", () => {
    const init = new Uint8Array(80);
    init.set([0x68, 0x76, 0x63, 0x31], 10);
    new DataView(init.buffer).setUint16(38, 3840);
    new DataView(init.buffer).setUint16(40, 2160);
    expect(sampleEntrySize(init)).toEqual({ width: 3840, height: 2160 });
  });

  it("gives nothing for a cut or foreign segment", () => {
    expect(sampleEntrySize(new Uint8Array(0))).toBeNull();
    expect(sampleEntrySize(new TextEncoder().encode("....hvc1.."))).toBeNull();
  });
});

describe("AppendQueue", () => {
  const bytes = (...values: number[]) => new Uint8Array(values);

  it("joins what waits, in order, up to a size", () => {
    const queue = new AppendQueue();
    [bytes(1, 2), bytes(3), bytes(4, 5, 6)].forEach((piece) => queue.push(piece));
    expect(queue.take(3)).toEqual(bytes(1, 2, 3));
    expect(queue.take(1)).toEqual(bytes(4, 5, 6));
    expect(queue.take()).toBeNull();
    expect(queue.bytes).toBe(0);
  });

  it("refuses more than its limit and takes back what was refused elsewhere", () => {
    const queue = new AppendQueue(4);
    expect(queue.push(bytes(1, 2, 3))).toBe(true);
    expect(queue.push(bytes(4, 5))).toBe(false);
    queue.unshift(bytes(0));
    expect(queue.take()).toEqual(bytes(0, 1, 2, 3));
  });
});

it("socketUrl makes WebSocket addresses of tickets in any form", () => {
  expect(socketUrl("/live/a.mp4", "https://mj.example/wall")).toBe("wss://mj.example/live/a.mp4");
  expect(socketUrl("http://10.0.0.5:8081/live/a.mp4", "http://10.0.0.5/wall")).toBe("ws://10.0.0.5:8081/live/a.mp4");
  expect(socketUrl("wss://media.example/live/a.mp4", "https://mj.example/")).toBe("wss://media.example/live/a.mp4");
});
