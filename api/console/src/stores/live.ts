/* The event channel of the server: one connection for the whole console, handed out to whoever listens. */
import { defineStore } from "pinia";
import { ref } from "vue";
import { openEvents, type EventLink, type LinkState } from "@/api/sse";
import type { LiveEvent } from "@/api/types";

type Listener = (event: LiveEvent) => void;

export const useLive = defineStore("live", () => {
  const state = ref<LinkState>("down");
  const listeners = new Set<Listener>();
  const resumed = new Set<() => void>();
  let link: EventLink | null = null;

  function start(): void {
    link ??= openEvents(
      (event) => {
        // The server dropped events because this reader was slow: what is shown must be read anew.
        if (/lag/i.test(event.kind)) return resumed.forEach((listener) => listener());
        listeners.forEach((listener) => listener(event));
      },
      (next, again) => {
        state.value = next;
        if (next === "open" && again) resumed.forEach((listener) => listener());
      },
    );
  }

  function stop(): void {
    link?.close();
    link = null;
    state.value = "down";
  }

  /** `onResume` runs after a gap, when events may have been missed. Returns the unsubscriber. */
  function listen(onEvent: Listener, onResume?: () => void): () => void {
    listeners.add(onEvent);
    if (onResume) resumed.add(onResume);
    return () => {
      listeners.delete(onEvent);
      if (onResume) resumed.delete(onResume);
    };
  }

  return { state, start, stop, listen };
});
