/* Plays one live view: fMP4 over WebSocket into MediaSource, kept at the live edge. Knows nothing of the API. */
import { LiveEdge, trimRange, type Range } from "./liveedge";
import {
  mimeType,
  parseMessage,
  sampleEntrySize,
  type EndMessage,
  type InitMessage,
  type StatMessage,
} from "./messages";
import { AppendQueue } from "./queue";

/** Why a connection was given up; the owner decides whether to come back with a fresh ticket. */
export type DropCause = "closed" | "silent" | "no_first_frame" | "decode_error" | "overrun";

export interface Size {
  width: number;
  height: number;
}

export interface PlayerEvents {
  tracks(init: InitMessage): void;
  /** The first picture of this connection is on the screen. */
  picture(): void;
  stat(stat: StatMessage): void;
  unsupported(init: InitMessage, size: Size | null): void;
  /** The server said that this view is over. */
  end(message: EndMessage): void;
  /** `reason`: the engine's own word in its close frame, or empty. */
  drop(cause: DropCause, closeCode: number | null, reason: string): void;
}

export interface Measured {
  bitrateKbps: number;
  fps: number;
  /** Picture shown behind newest received, ms; null before the first picture. */
  bufferMs: number | null;
  droppedFrames: number;
  /** Share of the frames since the last measurement that were decoded too late to be shown, 0 to 1. */
  dropShare: number;
  /** Time since the last piece of picture came, ms: what is on the screen is at least this old. */
  silentMs: number;
  width: number;
  height: number;
}

const TICK_MS = 200;
/** More late frames than this share mean that the workstation is at its limit. */
const STRAIN = 0.2;
const FIRST_FRAME_MS = 20_000;
/** Nothing at all from the engine, not even its figures once a second: the connection is dead. */
const SILENT_MS = 8_000;
/** Figures but no picture: the camera pauses. The platform ends such a stream by itself; this is the last resort. */
const NO_PICTURE_MS = 30_000;
const SIZE_WAIT_MS = 1_500;

/** Makes an absolute ws(s) address of a ticket URL; tickets may be paths of this origin or absolute. */
export function socketUrl(url: string, origin: string): string {
  const absolute = new URL(url, origin);
  if (absolute.protocol === "http:") absolute.protocol = "ws:";
  if (absolute.protocol === "https:") absolute.protocol = "wss:";
  return absolute.href;
}

export class LivePlayer {
  private socket: WebSocket | null = null;
  private media: MediaSource | null = null;
  private buffer: SourceBuffer | null = null;
  private objectUrl: string | null = null;
  private init: InitMessage | null = null;
  private awaitInitSegment = false;
  private unsupportedTimer: ReturnType<typeof setTimeout> | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;
  private edge = new LiveEdge();
  private readonly queue = new AppendQueue();
  private openedAt = 0;
  private lastData = 0;
  private lastWord = 0;
  private shown = false;
  /** When the picture on the screen was put there as a still, while the media source is rebuilt. */
  private heldAt: number | null = null;
  private done = true;
  private bytes = 0;
  private frames = 0;
  private dropped = 0;
  private measuredAt = 0;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly events: PlayerEvents,
    /** Lies over `video`; shows its last picture while there is none to show. */
    private readonly still: HTMLCanvasElement | null = null,
  ) {
    video.muted = true;
    video.playsInline = true;
    video.addEventListener("playing", this.onPicture);
    video.addEventListener("timeupdate", this.onPicture);
    video.addEventListener("waiting", this.onWaiting);
    video.addEventListener("error", this.onError);
  }

  static supports(codecs: string): boolean {
    return typeof MediaSource !== "undefined" && MediaSource.isTypeSupported(mimeType(codecs));
  }

  connect(url: string): void {
    this.disconnect();
    this.done = false;
    this.shown = false;
    this.bytes = 0;
    this.frames = 0;
    this.openedAt = this.lastData = this.lastWord = this.measuredAt = performance.now();
    const socket = new WebSocket(socketUrl(url, location.href));
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      if (socket !== this.socket) return;
      this.lastWord = performance.now();
      if (typeof event.data === "string") this.onText(event.data);
      else this.onBinary(new Uint8Array(event.data));
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.drop("closed", event.code, event.reason);
    };
    this.socket = socket;
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  /** Ends the connection and empties the picture; the player may connect again. */
  disconnect(): void {
    this.done = true;
    clearInterval(this.timer);
    clearTimeout(this.unsupportedTimer);
    const socket = this.socket;
    this.socket = null;
    if (socket && socket.readyState <= WebSocket.OPEN) socket.close(1000);
    this.init = null;
    this.letGo();
    this.releaseMedia();
  }

  /** Disconnects for good and lets go of the element. */
  destroy(): void {
    this.disconnect();
    this.video.removeEventListener("playing", this.onPicture);
    this.video.removeEventListener("timeupdate", this.onPicture);
    this.video.removeEventListener("waiting", this.onWaiting);
    this.video.removeEventListener("error", this.onError);
  }

  /** Rates since the last call; call about once a second. */
  measure(): Measured {
    const now = performance.now();
    const seconds = Math.max(0.001, (now - this.measuredAt) / 1000);
    const quality = this.video.getVideoPlaybackQuality();
    const frames = Math.max(0, quality.totalVideoFrames - this.frames);
    const dropped = Math.max(0, quality.droppedVideoFrames - this.dropped);
    const dropShare = frames > 0 ? dropped / frames : 0;
    this.edge.strained = dropShare > STRAIN;
    const ranges = this.ranges();
    const last = ranges[ranges.length - 1];
    const measured: Measured = {
      bitrateKbps: Math.round((this.bytes * 8) / 1000 / seconds),
      fps: Math.round((frames / seconds) * 10) / 10,
      bufferMs: this.shown && last ? Math.max(0, Math.round((last.end - this.video.currentTime) * 1000)) : null,
      droppedFrames: quality.droppedVideoFrames,
      dropShare,
      silentMs: Math.round(now - (this.heldAt ?? this.lastData)),
      width: this.video.videoWidth,
      height: this.video.videoHeight,
    };
    this.bytes = 0;
    this.frames = quality.totalVideoFrames;
    this.dropped = quality.droppedVideoFrames;
    this.measuredAt = now;
    return measured;
  }

  private onText(raw: string): void {
    const message = parseMessage(raw);
    if (!message) return;
    if (message.type === "stat") {
      this.events.stat(message);
    } else if (message.type === "end") {
      this.disconnect();
      this.events.end(message);
    } else {
      this.onInit(message);
    }
  }

  private onInit(message: InitMessage): void {
    this.init = message;
    this.awaitInitSegment = true;
    this.events.tracks(message);
    // A view may start anew while it is open, e.g. when the right to sound ends: its clock too starts from here.
    this.openedAt = performance.now();
    if (this.shown) this.hold();
    this.releaseMedia();
    if (!LivePlayer.supports(message.codecs)) {
      if (message.width && message.height) return this.giveUpCodec({ width: message.width, height: message.height });
      this.unsupportedTimer = setTimeout(() => this.giveUpCodec(null), SIZE_WAIT_MS);
      return;
    }
    this.openMedia(message.codecs);
  }

  private onBinary(data: Uint8Array): void {
    this.bytes += data.byteLength;
    this.lastData = performance.now();
    if (!this.init) return;
    const isInit = this.awaitInitSegment;
    this.awaitInitSegment = false;
    if (!this.media) {
      if (isInit) this.giveUpCodec(sampleEntrySize(data));
      return;
    }
    if (this.queue.push(data)) this.flush();
    else this.drop("overrun", null);
  }

  private giveUpCodec(size: Size | null): void {
    const init = this.init;
    if (!init || this.done) return;
    this.disconnect();
    this.events.unsupported(init, size);
  }

  private openMedia(codecs: string): void {
    const media = new MediaSource();
    this.media = media;
    this.edge = new LiveEdge();
    this.objectUrl = URL.createObjectURL(media);
    media.addEventListener(
      "sourceopen",
      () => {
        if (media !== this.media) return;
        this.buffer = media.addSourceBuffer(mimeType(codecs));
        this.buffer.addEventListener("updateend", this.onUpdateEnd);
        this.flush();
      },
      { once: true },
    );
    this.video.src = this.objectUrl;
  }

  /** Copies the picture on the screen into the still, which takes its place until the next picture. */
  private hold(): void {
    const context = this.still?.getContext("2d");
    if (!this.still || !context) return;
    this.still.width = this.video.videoWidth;
    this.still.height = this.video.videoHeight;
    context.drawImage(this.video, 0, 0);
    this.still.hidden = false;
    this.heldAt = this.lastData;
  }

  /** Takes the still away; nothing of the picture stays in memory. */
  private letGo(): void {
    this.heldAt = null;
    if (!this.still || this.still.hidden) return;
    this.still.hidden = true;
    this.still.width = this.still.height = 0;
  }

  private releaseMedia(): void {
    clearTimeout(this.unsupportedTimer);
    this.buffer?.removeEventListener("updateend", this.onUpdateEnd);
    this.buffer = null;
    this.media = null;
    this.queue.clear();
    this.shown = false;
    this.frames = 0;
    this.dropped = 0;
    if (this.objectUrl) {
      URL.revokeObjectURL(this.objectUrl);
      this.objectUrl = null;
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  private flush(): void {
    const buffer = this.buffer;
    if (!buffer || buffer.updating || this.media?.readyState !== "open") return;
    const block = this.queue.take();
    if (!block) return;
    try {
      buffer.appendBuffer(block);
    } catch (error) {
      const quota = error instanceof DOMException && error.name === "QuotaExceededError";
      const first = this.ranges()[0];
      if (quota && first && this.video.currentTime - first.start > 4) {
        this.queue.unshift(block);
        buffer.remove(first.start, this.video.currentTime - 3);
      } else {
        this.drop("decode_error", null);
      }
    }
  }

  private readonly onUpdateEnd = (): void => {
    const buffer = this.buffer;
    if (this.done || !buffer) return;
    this.steer();
    const trim = trimRange(this.video.currentTime, this.ranges());
    if (trim && !buffer.updating) buffer.remove(trim.start, trim.end);
    else this.flush();
  };

  private readonly onPicture = (): void => {
    if (this.shown || this.done || this.video.videoWidth === 0 || this.video.readyState < 2) return;
    this.shown = true;
    this.letGo();
    this.events.picture();
  };

  private readonly onWaiting = (): void => {
    if (this.shown) this.edge.stalled();
  };

  private readonly onError = (): void => {
    if (!this.done && this.objectUrl) this.drop("decode_error", null);
  };

  private tick(): void {
    const now = performance.now();
    if (!this.shown && now - this.openedAt > FIRST_FRAME_MS) return this.drop("no_first_frame", null);
    if (this.shown && (now - this.lastWord > SILENT_MS || now - this.lastData > NO_PICTURE_MS))
      return this.drop("silent", null);
    this.steer();
  }

  private steer(): void {
    const ranges = this.ranges();
    if (ranges.length === 0) return;
    const decision = this.edge.decide({ current: this.video.currentTime, ranges, now: performance.now() / 1000 });
    if (decision.seek !== null) this.video.currentTime = decision.seek;
    if (this.video.playbackRate !== decision.rate) this.video.playbackRate = decision.rate;
    if (this.video.paused) this.play();
  }

  private play(): void {
    this.video.play().catch((error: unknown) => {
      // AbortError: the source changed while starting; the next tick starts the new one.
      if (error instanceof DOMException && error.name === "NotAllowedError") this.video.muted = true;
    });
  }

  private ranges(): Range[] {
    const buffer = this.buffer;
    if (!buffer || this.media?.readyState !== "open") return [];
    const buffered = buffer.buffered;
    return Array.from({ length: buffered.length }, (_, i) => ({ start: buffered.start(i), end: buffered.end(i) }));
  }

  private drop(cause: DropCause, closeCode: number | null, reason = ""): void {
    if (this.done) return;
    this.disconnect();
    this.events.drop(cause, closeCode, reason);
  }
}
