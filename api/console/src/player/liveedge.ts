/* Live-edge policy: decides playback rate, seeks and trimming from the buffer's state. Pure; times in seconds. */

export interface Range {
  start: number;
  end: number;
}

export interface EdgeInput {
  current: number;
  ranges: readonly Range[];
  /** Monotonic clock. */
  now: number;
}

export interface EdgeDecision {
  rate: number;
  /** New currentTime, or null to leave it. */
  seek: number | null;
  /** Distance from the picture shown to the newest one, or null before the first. */
  lag: number | null;
}

export interface EdgeOptions {
  /** Distance kept when the network is calm. */
  base: number;
  /** Distance tolerated at most after stalls. */
  ceiling: number;
  /** More lag than target + this is skipped, not caught up. */
  jump: number;
}

export const DEFAULT_EDGE: EdgeOptions = { base: 0.18, ceiling: 0.45, jump: 1.2 };

const SEEK_PAUSE = 1.5;
/** Seconds between jumps on a workstation that cannot decode all it receives: each jump decodes a whole group again. */
const STRAINED_PAUSE = 5;
const DECAY_PER_SECOND = 0.01;

/** Keeps one viewer near the newest frame: small lag by a slightly faster clock, large lag by a jump. */
export class LiveEdge {
  private target: number;
  private rate = 1;
  private lastSeek = -Infinity;
  private lastTick: number | null = null;

  constructor(private readonly options: EdgeOptions = DEFAULT_EDGE) {
    this.target = options.base;
  }

  get targetLag(): number {
    return this.target;
  }

  /** The workstation drops frames: playing faster would make it worse, so only rare jumps keep the distance bounded. */
  strained = false;

  /** The picture ran dry: jitter is larger than the reserve, so keep more of it. */
  stalled(): void {
    this.target = Math.min(this.options.ceiling, this.target + 0.08);
  }

  decide({ current, ranges, now }: EdgeInput): EdgeDecision {
    if (this.lastTick !== null) {
      this.target = Math.max(this.options.base, this.target - (now - this.lastTick) * DECAY_PER_SECOND);
    }
    this.lastTick = now;
    const last = ranges[ranges.length - 1];
    if (!last) return { rate: 1, seek: null, lag: null };
    const lag = last.end - current;
    const outside = current < last.start - 0.001;
    // Before the first frame, in a hole, or behind a restart of the timestamps: only a seek helps.
    if (outside || current > last.end + 0.5)
      return this.jump(Math.max(last.start, last.end - this.target), now, lag, true);
    if (lag > this.target + this.options.jump) return this.jump(last.end - this.target, now, lag, false);
    if (this.strained) return { rate: 1, seek: null, lag };
    if (lag > this.target + 0.35) this.rate = 1.2;
    else if (lag > this.target + 0.12) this.rate = Math.max(this.rate, 1.06);
    else if (lag <= this.target) this.rate = 1;
    return { rate: this.rate, seek: null, lag };
  }

  private jump(to: number, now: number, lag: number, must: boolean): EdgeDecision {
    const pause = this.strained ? STRAINED_PAUSE : SEEK_PAUSE;
    if (!must && now - this.lastSeek < pause) return { rate: this.strained ? 1 : 1.2, seek: null, lag };
    this.lastSeek = now;
    this.rate = 1;
    return { rate: 1, seek: to, lag };
  }
}

/**
 * What to remove from the buffer, or null. MSE removes up to the next random access point after `end`, so the part
 * kept must be longer than any group of pictures (the engine caches at most 300 access units, 12 s at 25 fps).
 */
export function trimRange(current: number, ranges: readonly Range[], trigger = 24, keep = 14): Range | null {
  const first = ranges[0];
  if (!first || current - first.start < trigger) return null;
  return { start: first.start, end: current - keep };
}
