/* All cameras of the caller's scope, counted: totals and per device, kept current by events. At most 10 000 are read. */
import { defineStore } from "pinia";
import { computed, ref, shallowReactive } from "vue";
import { api } from "@/api/client";
import { ApiError } from "@/api/http";
import type { LiveEvent } from "@/api/types";

interface Entry {
  device: string;
  online: boolean;
}

const PAGE = 500;
const PAGES = 20;
const RELOAD_MS = 2_500;

export const useCensus = defineStore("census", () => {
  const cameras = shallowReactive(new Map<string, Entry>());
  /** More cameras exist than were read: totals are lower bounds. */
  const partial = ref(false);
  const ready = ref(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let run = 0;

  const total = computed(() => cameras.size);
  const online = computed(() => [...cameras.values()].filter((camera) => camera.online).length);
  const devices = computed(() => {
    const counts = new Map<string, { total: number; online: number }>();
    for (const { device, online: up } of cameras.values()) {
      const count = counts.get(device) ?? { total: 0, online: 0 };
      count.total++;
      if (up) count.online++;
      counts.set(device, count);
    }
    return counts;
  });

  async function load(): Promise<void> {
    const mine = ++run;
    const found = new Map<string, Entry>();
    let cursor: string | null = null;
    try {
      for (let page = 0; page < PAGES; page++) {
        const answer: Awaited<ReturnType<typeof api.channels>> = await api.channels({ cursor, limit: PAGE });
        if (mine !== run) return;
        for (const channel of answer.items)
          found.set(channel.key, { device: channel.device, online: channel.status === "online" });
        cursor = answer.next_cursor ?? null;
        if (!cursor) break;
      }
    } catch (error) {
      // Counts are an extra; the tree shows its own failure.
      if (error instanceof ApiError) return;
      throw error;
    }
    partial.value = cursor !== null;
    cameras.clear();
    for (const [key, entry] of found) cameras.set(key, entry);
    ready.value = true;
  }

  function reset(): void {
    run++;
    clearTimeout(timer);
    cameras.clear();
    ready.value = false;
  }

  function loadSoon(): void {
    clearTimeout(timer);
    timer = setTimeout(() => void load(), RELOAD_MS);
  }

  function onEvent(event: LiveEvent): void {
    const kind = event.kind.toLowerCase().replace(/[^a-z]/g, "");
    if (kind === "channelchanged") {
      const key = String(event.data["channel"] ?? "");
      const known = cameras.get(key);
      if (known)
        cameras.set(key, { ...known, online: event.data["online"] === true || event.data["status"] === "online" });
      else loadSoon();
    } else if (kind === "deviceonline" || kind === "deviceoffline" || kind === "catalogsynced") {
      loadSoon();
    }
  }

  return { cameras, partial, ready, total, online, devices, load, reset, onEvent };
});
