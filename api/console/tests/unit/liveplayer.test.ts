/* The player when a view begins anew while it is open: the last picture stays, and its clocks start again. */
// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { LivePlayer } from "@/player/liveplayer";

class FakeSocket {
  static readonly OPEN = 1;
  static last: FakeSocket;
  readyState = 1;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  constructor() {
    FakeSocket.last = this;
  }
  close(): void {
    this.readyState = 3;
  }
}

class FakeMedia extends EventTarget {
  static isTypeSupported = (): boolean => true;
  readyState = "closed";
}

const size = { videoWidth: 640, videoHeight: 360, readyState: 4 };
const quality = { totalVideoFrames: 0, droppedVideoFrames: 0 };
const draw = vi.fn();
const events = { tracks: vi.fn(), picture: vi.fn(), stat: vi.fn(), unsupported: vi.fn(), end: vi.fn(), drop: vi.fn() };
let video: HTMLVideoElement;
let still: HTMLCanvasElement;
let player: LivePlayer;

const say = (message: object): void => FakeSocket.last.onmessage!({ data: JSON.stringify(message) });
const send = (): void => FakeSocket.last.onmessage!({ data: new ArrayBuffer(8) });
const HEARD = { type: "init", codecs: "avc1.64001f,mp4a.40.2", video: "H264", audio: "AAC" };
const SILENT = { type: "init", codecs: "avc1.64001f", video: "H264", audio: "AAC", audio_omitted: "not_granted" };

/** Pictures come for so many seconds, as they do in service. */
async function watch(seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    send();
    await vi.advanceTimersByTimeAsync(1000);
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("MediaSource", FakeMedia);
  vi.spyOn(URL, "createObjectURL").mockReturnValue("blob:x");
  vi.spyOn(URL, "revokeObjectURL").mockReturnValue();
  video = document.createElement("video");
  for (const [name, value] of Object.entries(size)) Object.defineProperty(video, name, { get: () => value });
  Object.assign(video, { getVideoPlaybackQuality: () => quality, load: () => undefined });
  still = document.createElement("canvas");
  still.hidden = true;
  still.getContext = (() => ({ drawImage: draw })) as unknown as typeof still.getContext;
  player = new LivePlayer(video, events, still);
  player.connect("ws://media.example/live/a.mp4");
  say(HEARD);
  send();
  video.dispatchEvent(new Event("playing"));
});
afterEach(() => {
  player.destroy();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.clearAllMocks();
});

it("keeps the last picture until the next one, however long the view was open before", async () => {
  await watch(60);
  say(SILENT);
  expect(draw).toHaveBeenCalledWith(video, 0, 0);
  expect([still.hidden, still.width, still.height]).toEqual([false, 640, 360]);
  await watch(3);
  expect(events.drop).not.toHaveBeenCalled();
  // Though pieces come: what is on the screen is older than they are.
  expect(player.measure().silentMs).toBeGreaterThanOrEqual(3000);
  video.dispatchEvent(new Event("playing"));
  expect([still.hidden, still.width]).toEqual([true, 0]);
  expect(events.picture).toHaveBeenCalledTimes(2);
  expect(player.measure().silentMs).toBeLessThan(3000);
});

it("does not wait for ever for a picture that was to begin anew", async () => {
  await watch(5);
  say(SILENT);
  await watch(21);
  expect(events.drop).toHaveBeenCalledWith("no_first_frame", null, "");
  expect(still.hidden).toBe(true);
});

it("takes the still away with the connection, and passes on why the engine closed it", () => {
  say(SILENT);
  expect(still.hidden).toBe(false);
  FakeSocket.last.onclose!({ code: 1008, reason: "audio_not_granted" });
  expect(still.hidden).toBe(true);
  expect(events.drop).toHaveBeenCalledWith("closed", 1008, "audio_not_granted");
});

it("shows no still where there was no picture yet", () => {
  player.connect("ws://media.example/live/b.mp4");
  say(HEARD);
  say(SILENT);
  expect(draw).not.toHaveBeenCalled();
  expect(still.hidden).toBe(true);
});
