/* The event link: comes back after faults, ends when the session has ended, notices silence. */
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { configureHttp } from "@/api/http";
import { openEvents, type LinkState } from "@/api/sse";
import type { LiveEvent } from "@/api/types";

const fetched = vi.fn<typeof fetch>();
const lost = vi.fn();
let feed: ReadableStreamDefaultController<Uint8Array>;

function stream(signal: AbortSignal | null | undefined): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      feed = controller;
      signal?.addEventListener("abort", () => controller.error(new DOMException("aborted", "AbortError")));
    },
  });
  return new Response(body, { status: 200 });
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetched);
  fetched.mockImplementation(async (_url, init) => stream(init?.signal));
  configureHttp(() => "token-1", lost);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.resetAllMocks();
});

const say = async (text: string): Promise<void> => {
  feed.enqueue(new TextEncoder().encode(text));
  await vi.advanceTimersByTimeAsync(0);
};

it("delivers events, comes back after the link broke, and says that there was a gap", async () => {
  const events: LiveEvent[] = [];
  const states: [LinkState, boolean][] = [];
  const link = openEvents(
    (event) => events.push(event),
    (state, again) => states.push([state, again]),
  );
  await vi.advanceTimersByTimeAsync(0);
  await say('event: a\ndata: {"n":1}\n\n');
  feed.error(new TypeError("network"));
  await vi.advanceTimersByTimeAsync(1000);
  await say('event: b\ndata: {"n":2}\n\n');
  expect(events.map((event) => event.kind)).toEqual(["a", "b"]);
  expect(states).toEqual([
    ["connecting", false],
    ["open", false],
    ["down", true],
    ["connecting", true],
    ["open", true],
  ]);
  expect(new Headers(fetched.mock.calls[0]![1]!.headers).get("Authorization")).toBe("Bearer token-1");
  link.close();
});

it("takes a minute without a single byte for a dead link", async () => {
  const link = openEvents(
    () => undefined,
    () => undefined,
  );
  await vi.advanceTimersByTimeAsync(59_000);
  await say(": heartbeat\n\n");
  await vi.advanceTimersByTimeAsync(59_000);
  expect(fetched).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(fetched).toHaveBeenCalledTimes(2);
  link.close();
});

it("does not knock on with a token the server has refused", async () => {
  fetched.mockResolvedValue(new Response(null, { status: 401 }));
  openEvents(
    () => undefined,
    () => undefined,
  );
  await vi.advanceTimersByTimeAsync(120_000);
  expect(fetched).toHaveBeenCalledTimes(1);
  expect(lost).toHaveBeenCalledTimes(1);
});

it("stops for good when closed", async () => {
  const link = openEvents(
    () => undefined,
    () => undefined,
  );
  await vi.advanceTimersByTimeAsync(0);
  link.close();
  await vi.advanceTimersByTimeAsync(120_000);
  expect(fetched).toHaveBeenCalledTimes(1);
});
