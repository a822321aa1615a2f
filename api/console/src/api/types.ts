/* Shapes of the /api/v1 answers the console reads. Unknown fields are ignored; optional ones may be absent. */

/** RFC 9457 problem document; refusals name the legal articles they rest on. */
export interface Problem {
  type?: string;
  title?: string;
  status: number;
  code: string;
  detail?: string;
  articles?: string[];
  /** Which fields of the request were wrong; never their values. */
  errors?: { field: string; type?: string; message: string }[];
  /** Row of the ledger that holds this refusal. */
  ledger_seq?: number;
  /** Seconds until a locked account or limited client may try again. */
  retry_after?: number;
}

export type Role = "administrator" | "watcher" | "auditor";

export interface Me {
  key: string;
  username: string;
  display_name?: string | null;
  role: Role;
  must_change_password?: boolean;
}

export interface LoginAnswer {
  token: string;
  expires_at: string;
  must_change_password: boolean;
  user: Me;
}

export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

export type TreeMode = "division" | "group" | "device";
export type NodeStatus = "online" | "offline" | "unknown";

export interface TreeNode {
  key: string;
  name: string;
  /** e.g. division, group, device, platform, channel */
  kind: string;
  parent: string | null;
  status: NodeStatus;
  playable: boolean;
  child_count: number;
  /** Cameras below this node, and how many of them are online, when the server counts them. */
  channel_count?: number | null;
  online_count?: number | null;
}

export interface Channel {
  key: string;
  device: string;
  name: string;
  status: NodeStatus;
  playable?: boolean;
  ptz_type?: number | null;
}

export interface StreamUrls {
  flv?: string;
  ws_fmp4: string;
  http_fmp4?: string;
}

export interface StreamSource {
  codec?: string | null;
  audio?: string | null;
}

/** One view: one person, one channel, one lease. */
export interface Stream {
  id: string;
  channel: string;
  state: "opening" | "open" | "ended";
  expires_at?: string | null;
  source?: StreamSource | null;
  /** Whether the picture comes with its sound; the right to it can end before the view does. */
  audio: "granted" | "stripped";
  /** Number of the ledger row that recorded this view before the first picture. */
  ledger_seq?: number | null;
  end_reason?: string | null;
  articles?: string[];
}

/** The answer to opening a view: with the addresses of its picture, each good once and for half a minute. */
export interface OpenedStream extends Stream {
  urls: StreamUrls;
}

export interface Tickets {
  urls: StreamUrls;
  expires_at: string;
}

export interface Device {
  key: string;
  gb_id: string;
  name: string;
  kind?: string | null;
  status: NodeStatus;
  transport?: string | null;
  manufacturer?: string | null;
  model?: string | null;
  firmware?: string | null;
  channel_count?: number | null;
  last_seen_at?: string | null;
  registered_at?: string | null;
  /** Only in the answer that created the device, and only when the platform made the password. */
  password?: string | null;
}

export interface NewDevice {
  gb_id: string;
  name: string;
  password?: string;
  transport?: "udp" | "tcp-passive";
}

export interface User {
  key: string;
  username: string;
  display_name?: string | null;
  role: Role;
  disabled: boolean;
  scope: string[];
  /** Sound is a right of its own, of use to a watcher only. */
  may_listen: boolean;
  must_change_password?: boolean;
  created_at?: string | null;
  last_login_at?: string | null;
  /** Only in the answer that set it. */
  password?: string | null;
}

export interface LedgerEntry {
  /** Leaf index, from 0. */
  seq: number;
  at: string;
  kind: string;
  user?: string | null;
  user_name?: string | null;
  channel?: string | null;
  channel_name?: string | null;
  action?: string | null;
  purpose?: string | null;
  code?: string | null;
  articles?: string[];
  reason?: string | null;
  lease?: string | null;
  /** Lower-case hex SHA-256 of the RFC 6962 leaf. */
  leaf_hash: string;
  record: Record<string, unknown>;
}

export interface LedgerRoot {
  tree_size: number;
  root_hash: string;
  at?: string | null;
}

/** `leaf_hash` = SHA-256(0x00 ‖ SHA-256(`salt` ‖ `canonical` in UTF-8)); all hashes in hex. */
export interface InclusionProof {
  seq: number;
  leaf_index: number;
  tree_size: number;
  leaf_hash: string;
  root_hash: string;
  path: string[];
  salt: string;
  canonical: string;
}

/** One server-sent event, already parsed. */
export interface LiveEvent {
  kind: string;
  id?: string;
  data: Record<string, unknown>;
}
