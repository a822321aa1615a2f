/* The live-edge policy against a simulated player: the lag must become and stay small. */
import { describe, expect, it } from "vitest";
import { DEFAULT_EDGE, LiveEdge, trimRange } from "@/player/liveedge";

interface Run {
  lag: number[];
  stalls: number;
  seeks: number;
}

/** Plays `seconds` of a 25 fps stream whose frames arrive late by `jitter(n)`; ticks every 40 ms. */
function simulate(seconds: number, jitter: (n: number) => number, behind = 0): Run {
  const edge = new LiveEdge();
  const run: Run = { lag: [], stalls: 0, seeks: 0 };
  let current = 0;
  let rate = 1;
  let end = behind;
  let waiting = true;
  for (let tick = 0; tick < seconds * 25; tick++) {
    const now = tick / 25;
    for (let n = Math.round((end - behind) * 25); n / 25 + jitter(n) <= now; n++) end = behind + (n + 1) / 25;
    if (waiting && end - current > 0.04) waiting = false;
    if (!waiting) {
      current += 0.04 * rate;
      if (current >= end) {
        current = end;
        waiting = true;
        run.stalls++;
        edge.stalled();
      }
    }
    const decision = edge.decide({ current, ranges: [{ start: 0, end }], now });
    if (decision.seek !== null) {
      current = decision.seek;
      run.seeks++;
    }
    rate = decision.rate;
    run.lag.push(end - current);
  }
  return run;
}

const tail = (run: Run): number[] => run.lag.slice(-100);

describe("LiveEdge", () => {
  it("jumps over an old group of pictures at the start and then stays below half a second", () => {
    const run = simulate(20, () => 0, 8);
    expect(run.seeks).toBe(1);
    expect(Math.max(...tail(run))).toBeLessThan(0.5);
    expect(run.stalls).toBeLessThanOrEqual(1);
  });

  it("catches up without a jump when the lag is moderate", () => {
    const run = simulate(20, () => 0, 0.9);
    expect(run.seeks).toBe(0);
    expect(Math.max(...tail(run))).toBeLessThan(0.4);
  });

  it("comes back to the edge after a network pause of three seconds", () => {
    // Frames sent during the pause all arrive at its end.
    const run = simulate(30, (n) => (n >= 125 && n < 200 ? 8 - n / 25 : 0));
    expect(Math.max(...tail(run))).toBeLessThan(0.5);
    expect(run.stalls).toBeGreaterThan(0);
  });

  it("keeps more distance under steady jitter, within the ceiling, instead of stalling on and on", () => {
    const run = simulate(60, (n) => ((n * 7919) % 13 === 0 ? 0.3 : 0));
    const early = simulate(15, (n) => ((n * 7919) % 13 === 0 ? 0.3 : 0)).stalls;
    expect(run.stalls).toBeLessThan(Math.max(8, early * 3));
    expect(Math.max(...tail(run))).toBeLessThan(0.9);
  });

  it("seeks into the buffer when the position lies before it or far behind a restart", () => {
    const edge = new LiveEdge();
    const decision = edge.decide({ current: 0, ranges: [{ start: 3600, end: 3600.04 }], now: 1 });
    expect(decision.seek).toBe(3600);
    expect(new LiveEdge().decide({ current: 500, ranges: [{ start: 0, end: 2 }], now: 1 }).seek).toBeCloseTo(
      2 - DEFAULT_EDGE.base,
    );
  });

  it("crosses a hole: the newest range counts", () => {
    const decision = new LiveEdge().decide({
      current: 5,
      ranges: [
        { start: 0, end: 5 },
        { start: 6, end: 6.3 },
      ],
      now: 1,
    });
    expect(decision.seek).toBeGreaterThanOrEqual(6);
  });

  it("does not seek again and again", () => {
    const edge = new LiveEdge();
    const first = edge.decide({ current: 0, ranges: [{ start: 0, end: 10 }], now: 1 });
    const second = edge.decide({ current: 0, ranges: [{ start: 0, end: 10 }], now: 1.2 });
    expect(first.seek).not.toBeNull();
    expect(second).toMatchObject({ seek: null, rate: 1.2 });
  });

  it("never plays faster, and jumps seldom, on a workstation that drops frames", () => {
    const edge = new LiveEdge();
    edge.strained = true;
    const at = (now: number, lag: number) => edge.decide({ current: 0, ranges: [{ start: 0, end: lag }], now });
    expect(at(1, 0.9)).toMatchObject({ rate: 1, seek: null });
    expect(at(2, 3).seek).not.toBeNull();
    expect(at(6, 3)).toMatchObject({ rate: 1, seek: null });
    expect(at(7.5, 3).seek).not.toBeNull();
  });

  it("decides nothing without a buffer", () => {
    expect(new LiveEdge().decide({ current: 0, ranges: [], now: 0 })).toEqual({ rate: 1, seek: null, lag: null });
  });
});

describe("trimRange", () => {
  it("leaves a short past alone and keeps more than the longest group of pictures", () => {
    expect(trimRange(20, [{ start: 0, end: 21 }])).toBeNull();
    expect(trimRange(30, [{ start: 0, end: 31 }])).toEqual({ start: 0, end: 16 });
    expect(trimRange(30, [])).toBeNull();
  });
});
