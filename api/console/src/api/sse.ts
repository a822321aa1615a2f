/* Server-sent events over fetch, because EventSource cannot send the Authorization header. */
import { BASE, authorizationHeaders, sessionLost } from "./http";
import type { LiveEvent } from "./types";

/** Incremental parser of a text/event-stream (HTML Living Standard, 9.2.6); feed it chunks, get events. */
export class SseParser {
  private buffer = "";
  private name = "";
  private data: string[] = [];
  lastId = "";

  push(chunk: string): LiveEvent[] {
    this.buffer += chunk;
    const events: LiveEvent[] = [];
    // A lone CR at the end may be half of CRLF: keep it for the next chunk.
    let end = this.buffer.search(/\r\n|\n|\r(?!$)/);
    while (end >= 0) {
      const line = this.buffer.slice(0, end);
      this.buffer = this.buffer.slice(end + (this.buffer.startsWith("\r\n", end) ? 2 : 1));
      const event = this.line(line);
      if (event) events.push(event);
      end = this.buffer.search(/\r\n|\n|\r(?!$)/);
    }
    return events;
  }

  private line(line: string): LiveEvent | null {
    if (line === "") return this.dispatch();
    if (line.startsWith(":")) return null;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id") this.lastId = value;
    return null;
  }

  private dispatch(): LiveEvent | null {
    const text = this.data.join("\n");
    const name = this.name;
    this.name = "";
    this.data = [];
    if (text === "") return null;
    let data: Record<string, unknown>;
    try {
      data = JSON.parse(text) as Record<string, unknown>;
    } catch {
      data = { text };
    }
    const kind = name || String(data["kind"] ?? data["type"] ?? "message");
    return { kind, data, ...(this.lastId ? { id: this.lastId } : {}) };
  }
}

/** Delay before the n-th reconnection (n from 0): 1, 2, 4 … 30 s, with up to 30 % jitter so a wall room does not stampede. */
export function backoff(attempt: number, random: () => number = Math.random, first = 1000, ceiling = 30_000): number {
  return Math.min(ceiling, first * 2 ** Math.min(attempt, 10)) * (1 - 0.3 * random());
}

export type LinkState = "connecting" | "open" | "down";

export interface EventLink {
  close(): void;
}

/** Keeps /events open until closed. No data at all for `silence` ms (server comments count) means a dead link. */
export function openEvents(
  onEvent: (event: LiveEvent) => void,
  onState: (state: LinkState, again: boolean) => void,
  silence = 60_000,
): EventLink {
  let closed = false;
  let attempt = 0;
  let opened = false;
  let abort = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let lastId = "";

  const connect = async (): Promise<void> => {
    abort = new AbortController();
    onState("connecting", opened);
    let watchdog = setTimeout(() => abort.abort(), silence);
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream", ...authorizationHeaders() };
      if (lastId) headers["Last-Event-ID"] = lastId;
      const response = await fetch(`${BASE}/events`, {
        headers,
        signal: abort.signal,
        cache: "no-store",
        credentials: "omit",
      });
      if (response.status === 401) {
        closed = true;
        sessionLost();
      }
      if (!response.ok || !response.body) throw new Error(`events ${response.status}`);
      onState("open", opened);
      opened = true;
      attempt = 0;
      const parser = new SseParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), silence);
        for (const event of parser.push(value)) onEvent(event);
        lastId = parser.lastId;
      }
    } catch {
      // Every failure has the same cure, a later attempt; the state shown to the user says the link is down.
    } finally {
      clearTimeout(watchdog);
    }
    if (closed) return;
    onState("down", opened);
    timer = setTimeout(() => void connect(), backoff(attempt++));
  };

  void connect();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      abort.abort();
    },
  };
}
