/* One view from request to end: asks for the stream, plays it, comes back after faults, and always gives it back. */
import { ApiError } from "@/api/http";
import type { OpenedStream, Stream, Tickets } from "@/api/types";
import type { DropCause, Measured, PlayerEvents, Size } from "@/player/liveplayer";
import type { InitMessage, StatMessage } from "@/player/messages";

export type Phase = "idle" | "opening" | "connecting" | "playing" | "reconnecting" | "ended" | "failed" | "unsupported";

export interface Failure {
  code: string;
  articles: string[];
  detail: string;
}

/** Everything a tile shows; replaced field by field through `SessionDeps.changed`. */
export interface View {
  phase: Phase;
  streamId: string | null;
  ledgerSeq: number | null;
  init: InitMessage | null;
  size: Size | null;
  measured: Measured | null;
  stat: StatMessage | null;
  failure: Failure | null;
  /** When the view will be asked for again by itself, ms of the clock; null when it will not. */
  retryAt: number | null;
  /** Click to first picture, ms. */
  firstPictureMs: number | null;
  reconnects: number;
}

export const emptyView = (): View => ({
  phase: "idle",
  streamId: null,
  ledgerSeq: null,
  init: null,
  size: null,
  measured: null,
  stat: null,
  failure: null,
  retryAt: null,
  firstPictureMs: null,
  reconnects: 0,
});

export interface PlayerPort {
  connect(url: string): void;
  disconnect(): void;
  destroy(): void;
  measure(): Measured;
}

export interface SessionDeps {
  /** May wait its turn; rejects without asking the server when `wanted` no longer holds by then. */
  open(channel: string, purpose: string, wanted: () => boolean): Promise<OpenedStream>;
  ticket(id: string): Promise<Pick<Tickets, "urls">>;
  stream(id: string): Promise<Stream>;
  /** Gives a stream back; must not throw, and retries by itself. */
  release(id: string): void;
  player(events: PlayerEvents): PlayerPort;
  changed(change: Partial<View>): void;
  /** Runs `what` once after `ms`; the answer cancels it. */
  after(ms: number, what: () => void): () => void;
  /** Monotonic, ms. */
  now(): number;
}

const RECONNECT_MS = [300, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000];
const REOPEN_MS = [5_000, 15_000, 30_000, 60_000];
const STABLE_MS = 10_000;
/** WebSocket close code of the engine for a stream that no browser format can carry (RFC 6455 section 7.4.1). */
const UNSUPPORTED_DATA = 1003;
/** The engine's word for a stream of nothing but sound, to somebody who may not hear it. */
const SOUND_ALONE = "audio_not_granted";

/** Ends that another try cannot cure, or that somebody decided: only a person asks again. */
const FINAL = new Set([
  "forbidden",
  "not_found",
  "revoked",
  "viewer_closed",
  "logout",
  "user_disabled",
  "removed",
  "device_removed",
  "channel_not_playable",
  "channel_unknown_to_device",
  "media_not_supported",
  "too_many_streams",
  "invalid_request",
  "password_change_required",
  SOUND_ALONE,
]);
const isFinal = (code: string): boolean => FINAL.has(code) || code.startsWith("E_");
/** The lease lapsed (a pause of the platform or of the network), which the server answers by "open it again". */
const LEASE_OVER = "E_GRANT_EXPIRED";
/** Ends that pass when the camera is back; the event of its return starts the view again, not a timer. */
const AWAITS_CAMERA = /offline|not_registered|unregistered|keepalive_lost/;

export class TileSession {
  private generation = 0;
  private player: PlayerPort | null = null;
  private streamId: string | null = null;
  private cancelTimer: (() => void) | null = null;
  private attempt = 0;
  private reopens = 0;
  private askedAt = 0;
  private playingSince: number | null = null;
  private channel = "";
  private purpose = "";
  private phase: Phase = "idle";
  private failure: Failure | null = null;

  constructor(private readonly deps: SessionDeps) {}

  get id(): string | null {
    return this.streamId;
  }

  get currentPhase(): Phase {
    return this.phase;
  }

  get channelKey(): string {
    return this.channel;
  }

  start(channel: string, purpose: string): void {
    this.stop();
    this.channel = channel;
    this.purpose = purpose;
    this.reopens = 0;
    this.ask();
  }

  /** Asks again for the same channel: a new view, so a new ledger entry. */
  again(): void {
    if (!this.channel) return;
    this.giveBack();
    this.ask();
  }

  /** Ends the view and gives the stream back, whatever state it is in. */
  stop(): void {
    this.giveBack();
    this.set("idle", emptyView());
  }

  /** The camera came back: views that ended for its absence start again. */
  cameraBack(): void {
    if ((this.phase !== "ended" && this.phase !== "failed") || !this.failure) return;
    if (AWAITS_CAMERA.test(this.failure.code) || !isFinal(this.failure.code)) this.again();
  }

  /** The platform can be reached again: what waits for its next try need not wait longer. */
  platformBack(): void {
    if ((this.phase === "ended" || this.phase === "failed") && this.cancelTimer) this.again();
  }

  /** The server announced the end of this stream over the event channel. */
  streamEnded(code: string, articles: string[]): void {
    if (this.streamId) this.finish("ended", { code, articles, detail: "" });
  }

  measure(): void {
    if (this.phase !== "playing" || !this.player) return;
    const measured = this.player.measure();
    this.deps.changed({ measured });
    if (this.playingSince !== null && this.deps.now() - this.playingSince > STABLE_MS) {
      this.attempt = 0;
      this.reopens = 0;
    }
  }

  private set(phase: Phase, change: Partial<View> = {}): void {
    this.phase = phase;
    this.failure = change.failure ?? null;
    this.deps.changed({ failure: null, retryAt: null, ...change, phase });
  }

  /** New generation: every answer still on its way finds itself out of date. Frees player, timer and stream. */
  private giveBack(): void {
    this.generation++;
    this.cancelTimer?.();
    this.cancelTimer = null;
    this.player?.destroy();
    this.player = null;
    const id = this.streamId;
    this.streamId = null;
    this.playingSince = null;
    if (id) this.deps.release(id);
  }

  private ask(): void {
    const generation = ++this.generation;
    this.attempt = 0;
    this.askedAt = this.deps.now();
    this.set("opening", { ...emptyView(), phase: "opening" });
    this.deps
      .open(this.channel, this.purpose, () => generation === this.generation)
      .then(
        (stream) => {
          // Closed while the request was on its way: nobody will watch it, so it must not stay open.
          if (generation !== this.generation) return this.deps.release(stream.id);
          this.streamId = stream.id;
          this.deps.changed({ streamId: stream.id, ledgerSeq: stream.ledger_seq ?? null });
          this.connect(stream.urls.ws_fmp4);
        },
        (error: unknown) => {
          if (generation !== this.generation) return;
          // Refusals are rows too; where the server names the row, the tile shows it like that of a view.
          if (error instanceof ApiError) this.deps.changed({ ledgerSeq: error.problem.ledger_seq ?? null });
          this.finish("failed", failureOf(error));
        },
      );
  }

  private connect(url: string): void {
    if (this.phase !== "reconnecting") this.set("connecting");
    this.player ??= this.deps.player(this.playerEvents(this.generation));
    this.player.connect(url);
  }

  private playerEvents(generation: number): PlayerEvents {
    const live = (what: () => void): void => {
      if (generation === this.generation) what();
    };
    return {
      tracks: (init) => live(() => this.deps.changed({ init })),
      stat: (stat) => live(() => this.deps.changed({ stat })),
      picture: () =>
        live(() => {
          const first = this.playingSince === null && this.phase === "connecting";
          this.playingSince = this.deps.now();
          this.set("playing", first ? { firstPictureMs: Math.round(this.deps.now() - this.askedAt) } : {});
        }),
      unsupported: (init, size) => live(() => this.unsupported(init, size)),
      end: (message) =>
        live(() => this.finish("ended", { code: message.code, articles: message.articles, detail: "" })),
      drop: (cause, closeCode, reason) =>
        live(() => {
          if (closeCode === UNSUPPORTED_DATA) void this.unplayable();
          else if (reason === SOUND_ALONE) this.finish("failed", { code: SOUND_ALONE, articles: [], detail: "" });
          else this.dropped(cause);
        }),
    };
  }

  /** The engine has no way to send this codec; what it is, only the stream's record says. */
  private async unplayable(): Promise<void> {
    const id = this.streamId;
    const generation = this.generation;
    let codec = "";
    try {
      if (id) codec = (await this.deps.stream(id)).source?.codec ?? "";
    } catch (error) {
      // The name is an extra; without it the tile still says what is wrong.
      if (!(error instanceof ApiError)) throw error;
    }
    if (generation !== this.generation) return;
    this.unsupported(
      { type: "init", codecs: codec, video: codec, audio: null, audioOmitted: null, width: null, height: null },
      null,
    );
  }

  private unsupported(init: InitMessage, size: Size | null): void {
    this.giveBack();
    this.set("unsupported", { init, size, streamId: null, measured: null, stat: null });
  }

  private dropped(cause: DropCause): void {
    const delay = RECONNECT_MS[this.attempt];
    if (delay === undefined) return this.finish("failed", { code: `client.${cause}`, articles: [], detail: "" });
    this.attempt++;
    this.playingSince = null;
    this.set("reconnecting", { measured: null, stat: null, reconnects: this.attempt });
    const generation = this.generation;
    this.cancelTimer = this.deps.after(delay, () => {
      if (generation === this.generation) void this.comeBack(generation);
    });
  }

  private async comeBack(generation: number): Promise<void> {
    const id = this.streamId;
    if (!id) return;
    try {
      const { urls } = await this.deps.ticket(id);
      if (generation === this.generation) this.connect(urls.ws_fmp4);
    } catch (error) {
      if (generation !== this.generation) return;
      const failure = failureOf(error);
      const gone = error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429;
      if (!gone) return this.dropped("closed");
      this.finish("ended", await this.reason(id, failure));
    }
  }

  /** The stream is over; its own record says why better than the refused ticket does. */
  private async reason(id: string, fallback: Failure): Promise<Failure> {
    try {
      const stream = await this.deps.stream(id);
      if (stream.end_reason) return { code: stream.end_reason, articles: stream.articles ?? [], detail: "" };
    } catch (error) {
      // Already forgotten by the server: the ticket's refusal is all there is to show.
      if (!(error instanceof ApiError)) throw error;
    }
    return fallback.code === "not_found" ? { code: "stream_gone", articles: [], detail: "" } : fallback;
  }

  private finish(phase: "ended" | "failed", failure: Failure): void {
    this.giveBack();
    const delay = this.reopenDelay(failure);
    const retryAt = delay === null ? null : this.deps.now() + delay;
    this.set(phase, { failure, retryAt, streamId: null, measured: null, stat: null });
    if (delay === null) return;
    const generation = this.generation;
    this.cancelTimer = this.deps.after(delay, () => {
      if (generation !== this.generation) return;
      this.reopens++;
      this.again();
    });
  }

  private reopenDelay(failure: Failure): number | null {
    if (failure.code === LEASE_OVER) return REOPEN_MS[this.reopens] ?? null;
    if (failure.articles.length > 0 || isFinal(failure.code) || AWAITS_CAMERA.test(failure.code)) return null;
    return REOPEN_MS[this.reopens] ?? null;
  }
}

export function failureOf(error: unknown): Failure {
  if (error instanceof ApiError) {
    return { code: error.code, articles: error.problem.articles ?? [], detail: error.problem.detail ?? "" };
  }
  return { code: "client.fault", articles: [], detail: error instanceof Error ? error.message : "" };
}

/** A rule or a right said no, as opposed to a fault. */
export function isRefusal(failure: Failure | null): boolean {
  return (
    failure !== null &&
    (failure.articles.length > 0 || /^(E_.*|forbidden|revoked|audio_not_granted)$/.test(failure.code))
  );
}
