/* The /api/v1 routes as typed functions; the only place that knows their paths. */
import { call } from "./http";
import type {
  Channel,
  Device,
  InclusionProof,
  LedgerEntry,
  LedgerRoot,
  LoginAnswer,
  Me,
  NewDevice,
  Page,
  Role,
  OpenedStream,
  Stream,
  Tickets,
  TreeMode,
  TreeNode,
  User,
} from "./types";

const seg = encodeURIComponent;

export const api = {
  login: (username: string, password: string) =>
    call<LoginAnswer>("/login", { method: "POST", body: { username, password } }),
  logout: () => call<void>("/logout", { method: "POST" }),
  me: () => call<Me>("/me"),
  changePassword: (current_password: string, new_password: string) =>
    call<void>("/me/password", { method: "POST", body: { current_password, new_password } }),

  tree: (parent: string | null, mode: TreeMode, cursor?: string | null) =>
    call<Page<TreeNode>>("/channels/tree", { query: { parent, mode, cursor, limit: 500 } }),
  channels: (
    query: { q?: string; cursor?: string | null; device?: string; status?: string; limit?: number },
    signal?: AbortSignal,
  ) => call<Page<Channel>>("/channels", signal ? { query, signal } : { query }),

  openStream: (channel: string, purpose: string) =>
    call<OpenedStream>("/streams", { method: "POST", body: { channel, purpose } }),
  stream: (id: string) => call<Stream>(`/streams/${seg(id)}`),
  ticket: (id: string) => call<Tickets>(`/streams/${seg(id)}/tickets`, { method: "POST" }),
  closeStream: (id: string) => call<void>(`/streams/${seg(id)}`, { method: "DELETE", keepalive: true }),

  devices: (query: { cursor?: string | null; limit?: number }) => call<Page<Device>>("/devices", { query }),
  addDevice: (device: NewDevice) => call<Device>("/devices", { method: "POST", body: device }),
  deleteDevice: (key: string) => call<void>(`/devices/${seg(key)}`, { method: "DELETE" }),
  syncCatalog: (key: string) => call<Record<string, unknown>>(`/devices/${seg(key)}/catalog-sync`, { method: "POST" }),

  users: (query: { cursor?: string | null; limit?: number }) => call<Page<User>>("/users", { query }),
  addUser: (user: {
    username: string;
    display_name?: string;
    role: Role;
    scope: string[];
    may_listen?: boolean;
    password?: string;
  }) => call<User>("/users", { method: "POST", body: user }),
  changeUser: (
    key: string,
    change: Partial<Pick<User, "disabled" | "scope" | "may_listen" | "display_name" | "role">> & {
      password?: string;
      reset_password?: boolean;
    },
  ) => call<User>(`/users/${seg(key)}`, { method: "PATCH", body: change }),
  deleteUser: (key: string) => call<void>(`/users/${seg(key)}`, { method: "DELETE" }),

  ledger: (query: { cursor?: string | null; kind?: string | null; limit?: number }) =>
    call<Page<LedgerEntry>>("/ledger/entries", { query }),
  ledgerRoot: () => call<LedgerRoot>("/ledger/root"),
  ledgerProof: (seq: number, size?: number) =>
    call<InclusionProof>(`/ledger/entries/${seq}/proof`, { query: { size } }),
};
