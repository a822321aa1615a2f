/* The life of one tile: every way in has a way out, and every stream is given back exactly once. */
import { beforeEach, describe, expect, it } from "vitest";
import { ApiError } from "@/api/http";
import type { OpenedStream, Problem, Stream, Tickets } from "@/api/types";
import type { PlayerEvents } from "@/player/liveplayer";
import type { InitMessage } from "@/player/messages";
import { TileSession, emptyView, isRefusal, type View } from "@/wall/session";

interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 8; i++) await Promise.resolve();
};
const problem = (status: number, code: string, rest: Partial<Problem> = {}) => new ApiError({ status, code, ...rest });
const INIT: InitMessage = {
  type: "init",
  codecs: "avc1.64001f",
  video: "H264",
  audio: null,
  audioOmitted: null,
  width: null,
  height: null,
};

class Rig {
  opens: { channel: string; purpose: string; answer: Deferred<OpenedStream>; wanted: () => boolean }[] = [];
  tickets: Deferred<Pick<Tickets, "urls">>[] = [];
  reads: Deferred<Stream>[] = [];
  released: string[] = [];
  timers: { at: number; what: () => void }[] = [];
  players: { urls: string[]; events: PlayerEvents; destroyed: boolean }[] = [];
  view: View = emptyView();
  clock = 0;

  session = new TileSession({
    open: (channel, purpose, wanted) => {
      const answer = deferred<OpenedStream>();
      this.opens.push({ channel, purpose, answer, wanted });
      return answer.promise;
    },
    ticket: () => {
      const answer = deferred<Pick<Tickets, "urls">>();
      this.tickets.push(answer);
      return answer.promise;
    },
    stream: () => {
      const answer = deferred<Stream>();
      this.reads.push(answer);
      return answer.promise;
    },
    release: (id) => void this.released.push(id),
    player: (events) => {
      const one = { urls: [] as string[], events, destroyed: false };
      this.players.push(one);
      const measured = {
        bitrateKbps: 1,
        fps: 25,
        bufferMs: 100,
        droppedFrames: 0,
        dropShare: 0,
        silentMs: 0,
        width: 1,
        height: 1,
      };
      return {
        connect: (url) => void one.urls.push(url),
        disconnect: () => undefined,
        destroy: () => void (one.destroyed = true),
        measure: () => measured,
      };
    },
    changed: (change) => void Object.assign(this.view, change),
    after: (ms, what) => {
      const timer = { at: this.clock + ms, what };
      this.timers.push(timer);
      return () => void (this.timers = this.timers.filter((one) => one !== timer));
    },
    now: () => this.clock,
  });

  get player() {
    return this.players.at(-1)!;
  }

  async advance(ms: number): Promise<void> {
    this.clock += ms;
    const due = this.timers.filter((timer) => timer.at <= this.clock);
    this.timers = this.timers.filter((timer) => timer.at > this.clock);
    due.forEach((timer) => timer.what());
    await settle();
  }

  async opened(id: string): Promise<void> {
    this.opens.at(-1)!.answer.resolve({
      id,
      channel: "chn_a",
      state: "open",
      audio: "stripped",
      ledger_seq: 41,
      urls: { ws_fmp4: `ws://m/${id}/1` },
    });
    await settle();
  }

  async playing(id = "lea_1"): Promise<void> {
    this.session.start("chn_a", "DUTY_WATCH");
    await this.opened(id);
    this.clock += 400;
    this.player.events.tracks(INIT);
    this.player.events.picture();
  }
}

let rig: Rig;
beforeEach(() => void (rig = new Rig()));

describe("the way to a picture", () => {
  it("asks with the purpose, shows the ledger number and the time to the first picture", async () => {
    await rig.playing();
    expect(rig.opens[0]).toMatchObject({ channel: "chn_a", purpose: "DUTY_WATCH" });
    expect(rig.view).toMatchObject({
      phase: "playing",
      streamId: "lea_1",
      ledgerSeq: 41,
      firstPictureMs: 400,
      init: INIT,
    });
  });

  it("gives the stream back on stop, once", async () => {
    await rig.playing();
    rig.session.stop();
    rig.session.stop();
    expect(rig.released).toEqual(["lea_1"]);
    expect(rig.player.destroyed).toBe(true);
    expect(rig.view).toEqual(emptyView());
  });

  it("gives back a stream whose answer comes after the tile was closed", async () => {
    rig.session.start("chn_a", "DUTY_WATCH");
    rig.session.stop();
    expect(rig.opens[0]!.wanted()).toBe(false);
    await rig.opened("lea_late");
    expect(rig.released).toEqual(["lea_late"]);
    expect(rig.players).toHaveLength(0);
    expect(rig.view.phase).toBe("idle");
  });

  it("gives back the first of two streams when another camera is put on the tile", async () => {
    await rig.playing("lea_1");
    const old = rig.player;
    rig.session.start("chn_b", "DUTY_WATCH");
    expect(rig.released).toEqual(["lea_1"]);
    expect(old.destroyed).toBe(true);
    old.events.picture();
    expect(rig.view.phase).toBe("opening");
  });
});

describe("refusals", () => {
  it("shows code and articles, names the ledger row, and does not ask again by itself", async () => {
    rig.session.start("chn_a", "DUTY_WATCH");
    rig.opens[0]!.answer.reject(problem(403, "E_PLACE_PROHIBITED", { articles: ["N8"], ledger_seq: 77 }));
    await settle();
    expect(rig.view).toMatchObject({
      phase: "failed",
      failure: { code: "E_PLACE_PROHIBITED", articles: ["N8"] },
      retryAt: null,
      ledgerSeq: 77,
    });
    expect(isRefusal(rig.view.failure)).toBe(true);
    expect(rig.timers).toHaveLength(0);
    rig.session.cameraBack();
    expect(rig.opens).toHaveLength(1);
  });
});

describe("H.265 without a decoder", () => {
  it("says so and gives the stream back", async () => {
    await rig.playing();
    rig.player.events.unsupported(
      { ...INIT, codecs: "hvc1.1.6.L120.90", video: "H265" },
      { width: 3840, height: 2160 },
    );
    expect(rig.view).toMatchObject({
      phase: "unsupported",
      size: { width: 3840, height: 2160 },
      streamId: null,
      ledgerSeq: 41,
    });
    expect(rig.released).toEqual(["lea_1"]);
    expect(rig.timers).toHaveLength(0);
  });
});

it("says so as well when the engine cannot carry the codec at all", async () => {
  await rig.playing();
  rig.player.events.drop("closed", 1003, "codec_unsupported");
  rig.reads[0]!.resolve({ id: "lea_1", channel: "chn_a", state: "open", audio: "stripped", source: { codec: "SVAC" } });
  await settle();
  expect(rig.view).toMatchObject({ phase: "unsupported", init: { video: "SVAC" } });
  expect(rig.released).toEqual(["lea_1"]);
});

it("says that there is only sound and no right to it, gives the stream back and does not come again", async () => {
  await rig.playing();
  rig.player.events.drop("closed", 1008, "audio_not_granted");
  expect(rig.view).toMatchObject({ phase: "failed", failure: { code: "audio_not_granted" }, retryAt: null });
  expect(isRefusal(rig.view.failure)).toBe(true);
  expect(rig.released).toEqual(["lea_1"]);
  await rig.advance(600_000);
  expect([rig.opens.length, rig.tickets.length]).toEqual([1, 0]);
});

it("asks anew after a lease that lapsed, though that refusal cites articles", async () => {
  await rig.playing();
  rig.session.streamEnded("E_GRANT_EXPIRED", ["N16(2)(2)"]);
  await rig.advance(5000);
  expect(rig.opens).toHaveLength(2);
});

describe("a lost connection", () => {
  it("comes back with a fresh ticket for the same stream", async () => {
    await rig.playing();
    rig.player.events.drop("closed", 1006, "");
    expect(rig.view).toMatchObject({ phase: "reconnecting", reconnects: 1 });
    await rig.advance(300);
    rig.tickets[0]!.resolve({ urls: { ws_fmp4: "ws://m/2" } });
    await settle();
    expect(rig.player.urls).toEqual(["ws://m/lea_1/1", "ws://m/2"]);
    rig.player.events.picture();
    expect(rig.view.phase).toBe("playing");
    expect(rig.released).toEqual([]);
    expect(rig.opens).toHaveLength(1);
  });

  it("waits longer each time, then gives the stream back and asks anew later", async () => {
    await rig.playing();
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      rig.player.events.drop("closed", 1006, "");
      waits.push(rig.timers[0]!.at - rig.clock);
      await rig.advance(waits.at(-1)!);
      rig.tickets.at(-1)!.resolve({ urls: { ws_fmp4: "ws://m/n" } });
      await settle();
    }
    expect(waits).toEqual([300, 1000, 2000, 4000, 8000, 8000, 8000]);
    rig.player.events.drop("closed", 1006, "");
    expect(rig.view).toMatchObject({ phase: "failed", failure: { code: "client.closed" } });
    expect(rig.released).toEqual(["lea_1"]);
    await rig.advance(5000);
    expect(rig.opens).toHaveLength(2);
  });

  it("learns why the stream is over when no ticket is given any more", async () => {
    await rig.playing();
    rig.player.events.drop("closed", 1000, "");
    await rig.advance(300);
    rig.tickets[0]!.reject(problem(409, "stream_ended"));
    await settle();
    rig.reads[0]!.resolve({
      id: "lea_1",
      channel: "chn_a",
      state: "ended",
      audio: "stripped",
      end_reason: "revoked",
      articles: ["N16"],
    });
    await settle();
    expect(rig.view).toMatchObject({ phase: "ended", failure: { code: "revoked", articles: ["N16"] }, retryAt: null });
  });

  it("keeps trying while the platform is unreachable", async () => {
    await rig.playing();
    rig.player.events.drop("silent", null, "");
    await rig.advance(300);
    rig.tickets[0]!.reject(problem(0, "client.unreachable"));
    await settle();
    expect(rig.view).toMatchObject({ phase: "reconnecting", reconnects: 2 });
  });

  it("counts attempts from zero again after ten seconds of picture", async () => {
    await rig.playing();
    rig.player.events.drop("closed", 1006, "");
    await rig.advance(300);
    rig.tickets[0]!.resolve({ urls: { ws_fmp4: "ws://m/2" } });
    await settle();
    rig.player.events.picture();
    rig.clock += 10_001;
    rig.session.measure();
    rig.player.events.drop("closed", 1006, "");
    expect(rig.timers[0]!.at - rig.clock).toBe(300);
  });

  it("does nothing more after the tile was closed while it waited", async () => {
    await rig.playing();
    rig.player.events.drop("closed", 1006, "");
    rig.session.stop();
    await rig.advance(60_000);
    expect(rig.tickets).toHaveLength(0);
    expect(rig.released).toEqual(["lea_1"]);
    expect(rig.view.phase).toBe("idle");
  });
});

describe("an end told by the server", () => {
  it("asks again by itself after a fault of the camera, ever more slowly, and then stops", async () => {
    await rig.playing();
    const waits: number[] = [];
    rig.session.streamEnded("source_lost", []);
    while (rig.timers.length > 0) {
      waits.push(rig.timers[0]!.at - rig.clock);
      await rig.advance(waits.at(-1)!);
      await rig.opened(`lea_${waits.length + 1}`);
      rig.session.streamEnded("source_lost", []);
    }
    expect(waits).toEqual([5000, 15_000, 30_000, 60_000]);
    expect(rig.view).toMatchObject({ phase: "ended", failure: { code: "source_lost" }, retryAt: null });
    expect(rig.released).toHaveLength(5);
  });

  it("waits for an offline camera's return instead of asking", async () => {
    await rig.playing();
    rig.session.streamEnded("device_offline", []);
    expect(rig.timers).toHaveLength(0);
    rig.session.cameraBack();
    expect(rig.opens).toHaveLength(2);
  });

  it("asks at once when the platform is back, instead of waiting for the next try", async () => {
    rig.session.start("chn_a", "DUTY_WATCH");
    rig.opens[0]!.answer.reject(problem(0, "client.unreachable"));
    await settle();
    expect(rig.timers).toHaveLength(1);
    rig.session.platformBack();
    expect(rig.opens).toHaveLength(2);
    expect(rig.timers).toHaveLength(0);
  });

  it("leaves alone what nobody would try again when the platform is back", async () => {
    await rig.playing();
    rig.session.platformBack();
    expect(rig.view.phase).toBe("playing");
    rig.session.streamEnded("revoked", []);
    rig.session.platformBack();
    expect(rig.opens).toHaveLength(1);
  });

  it("never asks again by itself after a revocation", async () => {
    await rig.playing();
    rig.session.streamEnded("revoked", []);
    rig.session.cameraBack();
    await rig.advance(600_000);
    expect(rig.opens).toHaveLength(1);
  });

  it("ignores an end that is told when nothing is open", () => {
    rig.session.streamEnded("source_lost", []);
    expect(rig.view.phase).toBe("idle");
  });
});
