/* The camera tree: lazily loaded, kept current by events, shown as a flat list of visible rows. */
import { defineStore } from "pinia";
import { computed, reactive, ref } from "vue";
import { api } from "@/api/client";
import type { LiveEvent, NodeStatus, TreeMode, TreeNode } from "@/api/types";
import { failureOf, type Failure } from "@/wall/session";

export interface Branch {
  /** Keys of the children in server order; undefined entries never occur. */
  keys: string[];
  cursor: string | null;
  loading: boolean;
  failure: Failure | null;
}

export type Row =
  | { type: "node"; id: string; depth: number; node: TreeNode; open: boolean; loading: boolean }
  | { type: "more" | "error" | "empty"; id: string; depth: number; parent: string };

const ROOT = "";
const REFRESH_MS = 1_200;
const MODE_KEY = "mingjian.tree";
export const MODES: readonly TreeMode[] = ["division", "group", "device"];

export const useTree = defineStore("tree", () => {
  const remembered = localStorage.getItem(MODE_KEY) as TreeMode | null;
  const mode = ref<TreeMode>(remembered && MODES.includes(remembered) ? remembered : "division");
  const nodes = reactive(new Map<string, TreeNode>());
  const branches = reactive(new Map<string, Branch>());
  const open = reactive(new Set<string>());
  let epoch = 0;
  let refreshTimer: ReturnType<typeof setTimeout> | undefined;

  const rows = computed<Row[]>(() => {
    const out: Row[] = [];
    const walk = (parent: string, depth: number): void => {
      const branch = branches.get(parent);
      if (!branch) return;
      for (const key of branch.keys) {
        const node = nodes.get(key);
        if (!node) continue;
        const isOpen = open.has(key);
        const loading = isOpen && (branches.get(key)?.loading ?? false);
        out.push({ type: "node", id: key, depth, node, open: isOpen, loading });
        if (isOpen) walk(key, depth + 1);
      }
      const id = parent || "root";
      if (branch.failure) out.push({ type: "error", id: `${id}!`, depth, parent });
      else if (branch.cursor) out.push({ type: "more", id: `${id}+`, depth, parent });
      else if (!branch.loading && branch.keys.length === 0 && parent !== ROOT)
        out.push({ type: "empty", id: `${id}-`, depth, parent });
    };
    walk(ROOT, 0);
    return out;
  });

  const rootBranch = computed(() => branches.get(ROOT));

  async function load(parent: string, more = false): Promise<void> {
    const before = branches.get(parent);
    if (before?.loading) return;
    const mine = epoch;
    branches.set(parent, { keys: before?.keys ?? [], cursor: before?.cursor ?? null, loading: true, failure: null });
    try {
      const page = await api.tree(parent || null, mode.value, more ? before?.cursor : null);
      if (mine !== epoch) return;
      for (const node of page.items) nodes.set(node.key, node);
      const keys = page.items.map((node) => node.key);
      branches.set(parent, {
        keys: more && before ? [...before.keys, ...keys.filter((key) => !before.keys.includes(key))] : keys,
        cursor: page.next_cursor ?? null,
        loading: false,
        failure: null,
      });
    } catch (error) {
      if (mine !== epoch) return;
      branches.set(parent, {
        keys: before?.keys ?? [],
        cursor: before?.cursor ?? null,
        loading: false,
        failure: failureOf(error),
      });
    }
  }

  async function start(): Promise<void> {
    if (!branches.has(ROOT)) await load(ROOT);
    // One root is one more click for nothing.
    const first = branches.get(ROOT)?.keys ?? [];
    const barren = first.every((key) => !nodes.get(key)?.playable && !nodes.get(key)?.child_count);
    // Nobody has chosen a tree yet, and this one leads nowhere: a scope of devices without divisions, for instance.
    if (barren && mode.value === "division" && localStorage.getItem(MODE_KEY) === null && !rootBranch.value?.failure) {
      mode.value = "device";
      reset();
      await load(ROOT);
      return;
    }
    if (first.length === 1 && nodes.get(first[0]!)?.child_count) await expand(first[0]!);
  }

  async function setMode(next: TreeMode): Promise<void> {
    mode.value = next;
    localStorage.setItem(MODE_KEY, next);
    reset();
    await start();
  }

  function reset(): void {
    epoch++;
    clearTimeout(refreshTimer);
    nodes.clear();
    branches.clear();
    open.clear();
  }

  async function expand(key: string): Promise<void> {
    open.add(key);
    if (!branches.has(key) || branches.get(key)!.failure) await load(key);
  }

  function toggle(key: string): void {
    if (open.has(key)) open.delete(key);
    else void expand(key);
  }

  /** Up to `most` playable cameras below a node, online ones only, in tree order; loads what it needs. */
  async function camerasBelow(key: string, most: number): Promise<TreeNode[]> {
    const found: TreeNode[] = [];
    const queue = [key];
    for (let visited = 0; queue.length > 0 && found.length < most && visited < 64; visited++) {
      const parent = queue.shift()!;
      if (!branches.has(parent)) await load(parent);
      for (const child of branches.get(parent)?.keys ?? []) {
        const node = nodes.get(child);
        if (node?.playable && node.status !== "offline") found.push(node);
        if (node && node.child_count > 0) queue.push(child);
      }
    }
    return found.slice(0, most);
  }

  /** Reads every open branch again; closed ones are forgotten and read when opened. */
  async function refresh(): Promise<void> {
    const mine = epoch;
    const parents = [...branches.keys()];
    for (const parent of parents) if (parent !== ROOT && !open.has(parent)) branches.delete(parent);
    for (const parent of parents) {
      if (mine !== epoch) return;
      if (branches.has(parent)) await load(parent);
    }
  }

  function refreshSoon(): void {
    clearTimeout(refreshTimer);
    refreshTimer = setTimeout(() => void refresh(), REFRESH_MS);
  }

  function setStatus(key: unknown, status: NodeStatus): void {
    const node = typeof key === "string" ? nodes.get(key) : undefined;
    if (node) nodes.set(node.key, { ...node, status });
  }

  function onEvent(event: LiveEvent): void {
    const kind = event.kind.toLowerCase().replace(/[^a-z]/g, "");
    const { data } = event;
    if (kind === "channelchanged")
      setStatus(data["channel"], data["online"] === true || data["status"] === "online" ? "online" : "offline");
    else if (kind === "deviceonline") setStatus(data["device"], "online");
    else if (kind === "deviceoffline") setStatus(data["device"], "offline");
    else if (kind !== "catalogsynced") return;
    // Counts of the levels above and channels of the device moved too.
    refreshSoon();
  }

  return {
    mode,
    nodes,
    branches,
    open,
    rows,
    rootBranch,
    start,
    setMode,
    reset,
    load,
    expand,
    toggle,
    camerasBelow,
    refresh,
    onEvent,
  };
});
