/* The routes of the mock platform: method, path, handler (called on the platform), roles that may call it. */
import { children, key } from "./world.mjs";

export class Refuse extends Error {
  constructor(status, code, extra = {}) {
    super(code);
    this.status = status;
    this.body = {
      type: `urn:mingjian:problem:${code.toLowerCase()}`,
      title: code,
      status,
      code,
      detail: `detail of ${code}`,
      ...extra,
    };
  }
}

export const STREAMING = Symbol("streaming");
export const publicUser = ({ key: k, username, display_name, role, must_change_password }) => ({
  key: k,
  username,
  display_name,
  role,
  must_change_password,
});
const listedUser = (user, password = null) => ({
  ...publicUser(user),
  scope: user.scope,
  may_listen: user.may_listen,
  disabled: user.disabled,
  created_at: user.created_at,
  last_login_at: user.last_login_at,
  password,
});
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const publicChannel = ({ key: k, device, name, kind, status, playable, ptz_type }) => ({
  key: k,
  device,
  name,
  kind,
  status,
  playable,
  ptz_type,
});
const publicStream = ({ id, channel, state, audio, ledger_seq, opened_at, end_reason, articles }) => ({
  id,
  channel,
  state,
  ledger_seq,
  opened_at,
  expires_at: null,
  source: null,
  audio,
  end_reason: end_reason ?? null,
  ended_at: null,
  articles: articles ?? [],
});
const oneTime = () => Array.from({ length: 4 }, () => Math.random().toString(36).slice(2, 7).padEnd(5, "x")).join("-");
const page = (items, query) => {
  const start = Number(query.get("cursor") ?? 0);
  const limit = Number(query.get("limit") ?? 100);
  return {
    items: items.slice(start, start + limit),
    next_cursor: start + limit < items.length ? String(start + limit) : null,
  };
};
const ADMIN = ["administrator"];
const WATCH = ["watcher"];
const AUDIT = ["auditor"];
const CATALOG = ["administrator", "watcher"];

function login({ body }) {
  const user = this.world.users.find((one) => one.username === body.username);
  if (user && user.failures >= 5) throw new Refuse(429, "E_LOGIN_THROTTLED", { retry_after_: 900 });
  if (!user || user.password !== body.password || user.disabled) {
    if (user) user.failures++;
    this.ledger.append("login_refused", { code: "E_LOGIN" }, { user: user?.key, user_name: body.username });
    throw new Refuse(401, "E_LOGIN");
  }
  user.failures = 0;
  user.last_login_at = new Date().toISOString();
  const token = key("tok") + key("tok");
  this.sessions.set(token, user);
  this.ledger.append("login", {}, { user: user.key, user_name: user.username });
  return {
    token,
    expires_at: new Date(Date.now() + 12 * 3600e3).toISOString(),
    must_change_password: user.must_change_password,
    user: publicUser(user),
  };
}

async function openStream({ body, me }) {
  const channel = this.world.channels.get(body.channel);
  if (!channel) throw new Refuse(404, "not_found");
  const who = { user: me.key, user_name: me.username, channel: channel.key, channel_name: channel.name };
  if (!/^[A-Z_]+(: .+)?$/.test(body.purpose)) throw new Refuse(422, "E_PURPOSE_INVALID", { articles: ["N16"] });
  if (channel.rule) {
    this.ledger.append(
      "refusal",
      { action: "VIEW_LIVE", purpose: body.purpose, code: channel.rule.code, articles: channel.rule.articles },
      who,
    );
    throw new Refuse(channel.rule.status, channel.rule.code, { articles: channel.rule.articles });
  }
  const id = key("lea");
  const ledger_seq = this.ledger.append("intent", { action: "VIEW_LIVE", purpose: body.purpose, lease: id }, who);
  if (this.openDelay) await wait(this.openDelay);
  if (channel.status !== "online") {
    this.ledger.append("end", { reason: "device_offline", lease: id }, who);
    throw new Refuse(409, "device_offline");
  }
  const audio = me.user.may_listen ? "granted" : "stripped";
  const opened_at = new Date().toISOString();
  const stream = { id, channel: channel.key, state: "open", audio, ledger_seq, opened_at, who };
  this.streams.set(id, stream);
  return { status_: 201, body_: { ...publicStream(stream), urls: this.urls(stream) } };
}

function events({ response }) {
  if (this.eventsDown) throw new Refuse(503, "events_unavailable");
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write(": connected\n\n");
  this.listeners.add(response);
  response.on("close", () => this.listeners.delete(response));
  return STREAMING;
}

function sync(_context, id) {
  const device = this.world.devices.find((one) => one.key === id);
  if (!device) throw new Refuse(404, "not_found");
  const total = Math.max(4, device.channel_count);
  for (let n = 1; n <= 8; n++) {
    setTimeout(
      () => this.publish("catalog_progress", { device: id, received: Math.round((total * n) / 8), expected: total }),
      n * 200,
    );
  }
  setTimeout(
    () => this.publish("catalog_synced", { device: id, complete: true, total, added: 2, changed: 0, removed: 0 }),
    1900,
  );
  return { status_: 202, body_: { device: id, state: "started" } };
}

function findStream(id, me) {
  const stream = this.streams.get(id);
  if (!stream || stream.who.user !== me.key) throw new Refuse(404, "not_found");
  return stream;
}

export const ROUTES = [
  ["POST", /^\/login$/, login],
  [
    "POST",
    /^\/logout$/,
    function ({ me }) {
      this.sessions.delete(me.token);
    },
  ],
  ["GET", /^\/me$/, ({ me }) => publicUser(me.user)],
  [
    "POST",
    /^\/me\/password$/,
    ({ me, body }) => {
      if (body.current_password !== me.user.password) throw new Refuse(403, "E_LOGIN");
      Object.assign(me.user, { password: body.new_password, must_change_password: false });
    },
  ],
  ["GET", /^\/events$/, events],
  [
    "GET",
    /^\/channels\/tree$/,
    function ({ query }) {
      return page(children(this.world, query.get("mode") ?? "device", query.get("parent")), query);
    },
    CATALOG,
  ],
  [
    "GET",
    /^\/channels$/,
    function ({ query }) {
      const q = query.get("q") ?? "";
      return page([...this.world.channels.values()].filter((one) => one.name.includes(q)).map(publicChannel), query);
    },
    CATALOG,
  ],
  ["POST", /^\/streams$/, openStream, WATCH],
  [
    "GET",
    /^\/streams$/,
    function () {
      return { items: this.openStreams().map(publicStream), next_cursor: null };
    },
    CATALOG,
  ],
  [
    "GET",
    /^\/streams\/(\w+)$/,
    function ({ me }, id) {
      return publicStream(findStream.call(this, id, me));
    },
    CATALOG,
  ],
  [
    "DELETE",
    /^\/streams\/(\w+)$/,
    function ({ me }, id) {
      findStream.call(this, id, me);
      this.endStream(id, "viewer_closed");
    },
    CATALOG,
  ],
  [
    "POST",
    /^\/streams\/(\w+)\/tickets$/,
    function ({ me }, id) {
      const stream = findStream.call(this, id, me);
      if (stream.state !== "open") throw new Refuse(409, "stream_ended");
      return {
        status_: 201,
        body_: { urls: this.urls(stream), expires_at: new Date(Date.now() + 30_000).toISOString() },
      };
    },
    WATCH,
  ],
  [
    "GET",
    /^\/devices$/,
    function ({ query }) {
      return page(this.world.devices, query);
    },
    ADMIN,
  ],
  [
    "POST",
    /^\/devices$/,
    function ({ body, me }) {
      if (this.world.devices.some((one) => one.gb_id === body.gb_id)) throw new Refuse(409, "device_exists");
      const made = {
        key: key("dev"),
        kind: "ipc",
        status: "offline",
        channel_count: 0,
        created_at: new Date().toISOString(),
        transport: body.transport ?? null,
        gb_id: body.gb_id,
        name: body.name,
      };
      this.world.devices.push(made);
      this.ledger.append(
        "admin",
        { action: "DEVICE_ADDED", device: made.key },
        { user: me.key, user_name: me.username },
      );
      return { status_: 201, body_: { ...made, password: body.password ? null : oneTime() } };
    },
    ADMIN,
  ],
  [
    "DELETE",
    /^\/devices\/(\w+)$/,
    function (_context, id) {
      this.world.devices = this.world.devices.filter((one) => one.key !== id);
    },
    ADMIN,
  ],
  ["POST", /^\/devices\/(\w+)\/catalog-sync$/, sync, ADMIN],
  [
    "GET",
    /^\/users$/,
    function ({ query }) {
      return page(
        this.world.users.map((user) => listedUser(user)),
        query,
      );
    },
    ADMIN,
  ],
  [
    "POST",
    /^\/users$/,
    function ({ body }) {
      const password = body.password ?? oneTime();
      const user = {
        key: key("usr"),
        username: body.username,
        display_name: body.display_name ?? body.username,
        role: body.role,
        scope: body.scope,
        may_listen: body.may_listen ?? false,
        disabled: false,
        must_change_password: true,
        created_at: new Date().toISOString(),
        last_login_at: null,
        password,
        failures: 0,
      };
      this.world.users.push(user);
      return { status_: 201, body_: listedUser(user, body.password ? null : password) };
    },
    ADMIN,
  ],
  [
    "PATCH",
    /^\/users\/(\w+)$/,
    function ({ body }, id) {
      const user = this.world.users.find((one) => one.key === id);
      if (!user) throw new Refuse(404, "not_found");
      const { reset_password, ...rest } = body;
      Object.assign(user, rest);
      const made = reset_password ? oneTime() : null;
      if (made) Object.assign(user, { password: made, must_change_password: true });
      return listedUser(user, made);
    },
    ADMIN,
  ],
  [
    "GET",
    /^\/ledger\/entries$/,
    function ({ query }) {
      return this.ledger.entries({
        cursor: query.get("cursor"),
        limit: Number(query.get("limit") ?? 100),
        kind: query.get("kind"),
      });
    },
    AUDIT,
  ],
  [
    "GET",
    /^\/ledger\/root$/,
    function () {
      return this.ledger.root();
    },
    AUDIT,
  ],
  [
    "GET",
    /^\/ledger\/entries\/(\d+)\/proof$/,
    function ({ query }, seq) {
      const proof = this.ledger.proof(Number(seq), query.get("size") ? Number(query.get("size")) : undefined);
      if (!proof) throw new Refuse(404, "not_found");
      return proof;
    },
    AUDIT,
  ],
];
