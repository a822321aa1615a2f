/* The video wall: sixteen slots, their layout, selection and sessions; the purpose given for this duty. */
import { defineStore } from "pinia";
import { computed, reactive, ref } from "vue";
import { api } from "@/api/client";
import type { LiveEvent } from "@/api/types";
import { LivePlayer } from "@/player/liveplayer";
import { soundOf } from "@/player/messages";
import { Releases } from "@/wall/releases";
import { TileSession, emptyView, type View } from "@/wall/session";

export const LAYOUTS = [1, 4, 9, 16] as const;
export type Layout = (typeof LAYOUTS)[number];

export interface Camera {
  key: string;
  name: string;
}

export interface Tile extends View {
  id: number;
  /** Place on the wall, 0 = top left; only places below the layout's count are shown. */
  place: number;
  camera: Camera | null;
  sound: boolean;
}

const SLOTS = 16;
const PURPOSE_KEY = "mingjian.purpose";
const LAYOUT_KEY = "mingjian.layout";
const FILL_KEY = "mingjian.fill";
/**
 * Requests for streams under way at once. A recorder asked for 16 pictures in one instant tends to fail some, and over
 * HTTP/1.1 a browser has six connections: one holds the events, two stay free for everything else.
 */
const PARALLEL_OPENS = 3;

export const useWall = defineStore("wall", () => {
  const tiles = reactive<Tile[]>(
    Array.from({ length: SLOTS }, (_, id) => ({ ...emptyView(), id, place: id, camera: null, sound: false })),
  );
  const savedLayout = Number(localStorage.getItem(LAYOUT_KEY)) as Layout;
  const layout = ref<Layout>(LAYOUTS.includes(savedLayout) ? savedLayout : 4);
  /** Pictures stretched to the tile instead of keeping their proportions. */
  const fill = ref(localStorage.getItem(FILL_KEY) === "1");
  const selected = ref(0);
  const zoomed = ref<number | null>(null);
  const purpose = ref(sessionStorage.getItem(PURPOSE_KEY) ?? "");
  const videos = new Map<number, HTMLVideoElement>();
  const stills = new Map<number, HTMLCanvasElement>();
  const releases = new Releases((id) => api.closeStream(id));
  const waiting: (() => void)[] = [];
  let opening = 0;
  let meter: ReturnType<typeof setInterval> | undefined;

  /**
   * Lets at most PARALLEL_OPENS requests run at a time, in order. A tile closed while it waited is never asked for:
   * a request nobody wants would stand in the ledger as a view.
   */
  async function inTurn<T>(wanted: () => boolean, work: () => Promise<T>): Promise<T> {
    if (opening >= PARALLEL_OPENS) await new Promise<void>((go) => waiting.push(go));
    opening++;
    try {
      if (!wanted()) throw new Error("no longer wanted");
      return await work();
    } finally {
      opening--;
      waiting.shift()?.();
    }
  }

  const sessions = tiles.map(
    (tile) =>
      new TileSession({
        open: (channel, why, wanted) => inTurn(wanted, () => api.openStream(channel, why)),
        ticket: (id) => api.ticket(id),
        stream: (id) => api.stream(id),
        release: (id) => releases.release(id),
        player: (events) => new LivePlayer(videos.get(tile.id)!, events, stills.get(tile.id)),
        changed: (change) => {
          Object.assign(tile, change);
          if (tile.sound && soundOf(tile.init) !== "playable") setSound(tile, false);
        },
        after: (ms, what) => {
          const timer = setTimeout(what, ms);
          return () => clearTimeout(timer);
        },
        now: () => performance.now(),
      }),
  );

  const shown = computed(() => tiles.filter((tile) => tile.place < layout.value));
  const busy = computed(() => tiles.filter((tile) => tile.camera !== null));
  const playing = computed(() => tiles.filter((tile) => tile.phase === "playing"));
  const bitrate = computed(() => playing.value.reduce((sum, tile) => sum + (tile.measured?.bitrateKbps ?? 0), 0));
  /** This workstation decodes less than it receives: a third of the pictures drop a fifth of their frames or more. */
  const strained = computed(() => {
    const late = playing.value.filter((tile) => (tile.measured?.dropShare ?? 0) > 0.2).length;
    return late > 0 && late * 3 >= playing.value.length;
  });
  const at = (place: number): Tile | undefined => tiles.find((tile) => tile.place === place);

  /** The elements of a tile: its video, and the canvas over it that bridges gaps of the picture. */
  function attach(id: number, video: HTMLVideoElement | null, still: HTMLCanvasElement | null = null): void {
    if (video) videos.set(id, video);
    else videos.delete(id);
    if (still) stills.set(id, still);
    else stills.delete(id);
  }

  function setPurpose(text: string): void {
    purpose.value = text.trim();
    sessionStorage.setItem(PURPOSE_KEY, purpose.value);
  }

  function clearPurpose(): void {
    purpose.value = "";
    sessionStorage.removeItem(PURPOSE_KEY);
  }

  /** First free place of the layout, starting at the selected one; null when the wall is full. */
  function freePlace(): number | null {
    const start = tiles[selected.value]?.place ?? 0;
    for (let i = 0; i < layout.value; i++) {
      const place = (start + i) % layout.value;
      if (at(place)?.camera === null) return place;
    }
    return null;
  }

  /** Shows a camera at `place`, or at the next free place; a full wall gives up the selected tile. */
  function play(camera: Camera, place?: number): void {
    if (place === undefined) {
      const same = tiles.find((tile) => tile.camera?.key === camera.key && tile.place < layout.value);
      if (same) {
        selected.value = same.id;
        if (same.phase === "ended" || same.phase === "failed") sessions[same.id]!.again();
        return;
      }
    }
    const target = at(place ?? freePlace() ?? tiles[selected.value]?.place ?? 0);
    if (!target) return;
    target.camera = { key: camera.key, name: camera.name };
    setSound(target, false);
    selected.value = target.id;
    sessions[target.id]!.start(camera.key, purpose.value);
    meter ??= setInterval(() => sessions.forEach((session) => session.measure()), 1000);
  }

  /** Shows as many of `cameras` as fit, enlarging the layout if that helps. Returns how many did not fit. */
  function playAll(cameras: Camera[]): number {
    const wanted = cameras.filter((camera) => !busy.value.some((tile) => tile.camera?.key === camera.key));
    const need = busy.value.length + wanted.length;
    const fitting = LAYOUTS.find((count) => count >= need) ?? 16;
    if (fitting > layout.value) setLayout(fitting);
    let placed = 0;
    for (const camera of wanted) {
      const place = freePlace();
      if (place === null) break;
      play(camera, place);
      placed++;
    }
    return wanted.length - placed;
  }

  function close(id: number): void {
    sessions[id]?.stop();
    const tile = tiles[id]!;
    tile.camera = null;
    setSound(tile, false);
    if (zoomed.value === id) zoomed.value = null;
  }

  function closeAll(): void {
    for (const tile of tiles) if (tile.camera) close(tile.id);
    clearInterval(meter);
    meter = undefined;
  }

  /** Closes everything and resolves when the server has been told, or after three seconds. */
  async function leave(): Promise<void> {
    closeAll();
    await releases.settled();
  }

  function again(id: number): void {
    sessions[id]?.again();
  }

  /** Changes the layout; views move together, and those that no longer fit are closed. Returns how many were. */
  function setLayout(count: Layout): number {
    zoomed.value = null;
    const keepFirst = tiles[selected.value];
    const order = [...tiles].sort((a, b) => a.place - b.place);
    let closed = 0;
    if (count < layout.value) {
      const full = order.filter((tile) => tile.camera);
      // On a single tile the selected view is what the watcher wants to see large.
      if (count === 1 && keepFirst?.camera) full.sort((a, b) => Number(b === keepFirst) - Number(a === keepFirst));
      const empty = order.filter((tile) => !tile.camera);
      if (full.length > count || full.some((tile) => tile.place >= count)) {
        [...full, ...empty].forEach((tile, place) => (tile.place = place));
      }
      for (const tile of full) {
        if (tile.place < count) continue;
        close(tile.id);
        closed++;
      }
    }
    layout.value = count;
    localStorage.setItem(LAYOUT_KEY, String(count));
    const chosen = tiles[selected.value];
    if (!chosen || chosen.place >= count) selected.value = at(0)!.id;
    return closed;
  }

  function toggleFill(): void {
    fill.value = !fill.value;
    localStorage.setItem(FILL_KEY, fill.value ? "1" : "0");
  }

  function swap(a: number, b: number): void {
    const first = tiles[a];
    const second = tiles[b];
    if (first && second) [first.place, second.place] = [second.place, first.place];
  }

  function setSound(tile: Tile, on: boolean): void {
    tile.sound = on;
    const video = videos.get(tile.id);
    if (video) video.muted = !on;
  }

  /** Only one tile sounds at a time, unless it is to sound `beside` the others. */
  function toggleSound(id: number, beside = false): void {
    const on = !tiles[id]!.sound;
    for (const tile of tiles) {
      if (tile.id === id) setSound(tile, on);
      else if (on && !beside && tile.sound) setSound(tile, false);
    }
  }

  /** A camera is online again: its tiles that ended for its absence ask anew. */
  function cameraBack(key: string): void {
    for (const tile of tiles) if (tile.camera?.key === key) sessions[tile.id]!.cameraBack();
  }

  /** The event link is open again after a gap. */
  function platformBack(): void {
    for (const session of sessions) session.platformBack();
  }

  function onEvent(event: LiveEvent): void {
    const kind = event.kind.toLowerCase().replace(/[^a-z]/g, "");
    const { data } = event;
    if (kind === "streamended") {
      const session = sessions.find((one) => one.id !== null && one.id === data["stream"]);
      session?.streamEnded(String(data["reason"] ?? "ended"), (data["articles"] as string[] | undefined) ?? []);
    } else if (kind === "channelchanged" && (data["online"] === true || data["status"] === "online")) {
      cameraBack(String(data["channel"]));
    }
  }

  /** Streams still to be given back; the wall is clean when this is 0 and no tile is busy. */
  const unsettled = (): number => releases.count;

  return {
    tiles,
    layout,
    fill,
    selected,
    zoomed,
    purpose,
    shown,
    busy,
    playing,
    bitrate,
    strained,
    at,
    attach,
    setPurpose,
    clearPurpose,
    freePlace,
    play,
    playAll,
    close,
    closeAll,
    leave,
    again,
    setLayout,
    toggleFill,
    swap,
    toggleSound,
    cameraBack,
    platformBack,
    onEvent,
    unsettled,
  };
});
