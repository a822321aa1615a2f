/* Event stream parsing and reconnection delays. */
import { describe, expect, it } from "vitest";
import { SseParser, backoff } from "@/api/sse";

describe("SseParser", () => {
  it("joins chunks cut anywhere, with every kind of line end", () => {
    const text =
      'event: device_online\r\ndata: {"device":"dev_a"}\r\n\r\n: beat\n\nid: 7\ndata: {"a":1,\ndata: "b":2}\n\nevent: x\rdata: {}\r\r';
    for (let size = 1; size <= text.length; size++) {
      const parser = new SseParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      // The last CR may still be half of CRLF.
      events.push(...parser.push("\n"));
      expect(events, `chunks of ${size}`).toEqual([
        { kind: "device_online", data: { device: "dev_a" } },
        { kind: "message", data: { a: 1, b: 2 }, id: "7" },
        { kind: "x", data: {}, id: "7" },
      ]);
    }
  });

  it("keeps an event that is not finished, and survives data that is not JSON", () => {
    const parser = new SseParser();
    expect(parser.push("data: no json\n")).toEqual([]);
    expect(parser.push("\n")).toEqual([{ kind: "message", data: { text: "no json" } }]);
  });

  it("dispatches nothing for an event without data", () => {
    expect(new SseParser().push("event: lonely\n\n")).toEqual([]);
  });
});

describe("backoff", () => {
  it("doubles up to the ceiling and never exceeds it", () => {
    const none = () => 0;
    expect([0, 1, 2, 3, 4, 5, 20].map((n) => backoff(n, none))).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    expect(backoff(5, () => 1)).toBeCloseTo(21_000);
  });
});
