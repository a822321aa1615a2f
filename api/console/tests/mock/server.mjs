/*
 * Mock platform for the browser tests and for work on the console without a backend: /api/v1 as the console uses it,
 * the built console under the real content security policy, and an engine on a second port that speaks fMP4 over
 * WebSocket with one-use tickets. Everything that was called is kept in `calls`.
 */
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { SECONDS, makeFootage, shifted } from "./footage.mjs";
import { Ledger } from "./ledger.mjs";
import { ROUTES, Refuse, STREAMING, publicUser } from "./routes.mjs";
import { key, makeWorld } from "./world.mjs";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

export class MockPlatform {
  world = makeWorld();
  ledger = new Ledger();
  footage = makeFootage();
  calls = [];
  sessions = new Map();
  streams = new Map();
  tickets = new Map();
  sockets = new Set();
  listeners = new Set();
  /** Switches for the tests. */
  eventsDown = false;
  openDelay = 0;
  /** The camera sends nothing more, while the connection stays up. */
  mediaPaused = false;

  async start(port = 0, mediaPort = 0) {
    this.startedAt = Date.now();
    this.api = createServer((request, response) => void this.serve(request, response));
    this.mediaServer = createServer((_request, response) => response.writeHead(404).end());
    this.wss = new WebSocketServer({ server: this.mediaServer });
    this.wss.on("connection", (socket, request) => this.view(socket, request));
    await Promise.all([listen(this.api, port), listen(this.mediaServer, mediaPort)]);
    this.port = this.api.address().port;
    this.mediaPort = this.mediaServer.address().port;
    this.pump = setInterval(() => this.feed(), 20);
    this.stats = setInterval(() => this.tell(), 1000);
    this.beat = setInterval(() => this.listeners.forEach((response) => response.write(": heartbeat\n\n")), 15_000);
    this.ledger.append("system", { action: "LEDGER_STARTED" });
    return this;
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  async stop() {
    clearInterval(this.pump);
    clearInterval(this.stats);
    clearInterval(this.beat);
    this.listeners.forEach((response) => response.end());
    for (const client of this.wss.clients) client.terminate();
    this.api.closeAllConnections();
    this.mediaServer.closeAllConnections();
    await Promise.all([closed(this.api), closed(this.mediaServer)]);
  }

  // --- switches the tests turn ---

  openStreams() {
    return [...this.streams.values()].filter((stream) => stream.state === "open");
  }

  callsOf(method, pattern) {
    return this.calls.filter((call) => call.method === method && pattern.test(call.path));
  }

  publish(kind, data) {
    const body = { kind, at: new Date().toISOString(), ...data };
    for (const response of this.listeners) response.write(`event: ${kind}\ndata: ${JSON.stringify(body)}\n\n`);
  }

  setOnline(channel, online) {
    channel.status = online ? "online" : "offline";
    this.publish("channel_changed", { channel: channel.key, device: channel.device, online });
  }

  endStream(id, reason, articles = []) {
    const stream = this.streams.get(id);
    if (!stream || stream.state === "ended") return;
    Object.assign(stream, { state: "ended", end_reason: reason, articles });
    this.ledger.append("end", { reason, lease: id }, stream.who);
    for (const view of this.sockets) if (view.stream === stream) view.socket.close(1000, reason);
    this.publish("stream_ended", { stream: id, channel: stream.channel, reason, articles });
  }

  /** Breaks every media connection, as a network fault does. */
  breakMedia() {
    for (const view of this.sockets) view.socket.terminate();
  }

  /** Takes the right to sound from everybody: running pictures go on without it. */
  withdrawSound() {
    for (const user of this.world.users) user.may_listen = false;
    for (const view of this.sockets) {
      view.stream.audio = "stripped";
      this.introduce(view);
    }
  }

  breakEvents() {
    this.listeners.forEach((response) => response.destroy());
    this.listeners.clear();
  }

  // --- HTTP ---

  async serve(request, response) {
    const url = new URL(request.url, "http://mock");
    if (!url.pathname.startsWith("/api/")) return this.file(url.pathname, response);
    let text = "";
    for await (const chunk of request) text += chunk;
    const body = text ? JSON.parse(text) : null;
    const path = url.pathname.slice("/api/v1".length);
    this.calls.push({
      method: request.method,
      path,
      body: path === "/login" ? null : body,
      at: Date.now(),
      query: url.search,
    });
    try {
      const context = { request, response, body, query: url.searchParams, me: this.who(request, path) };
      const result = await this.route(request.method, path, context);
      if (result === STREAMING) return;
      const status = result === undefined ? 204 : (result.status_ ?? 200);
      response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
      response.end(result === undefined ? undefined : JSON.stringify(result.body_ ?? result));
    } catch (error) {
      if (!(error instanceof Refuse)) throw error;
      const headers = { "Content-Type": "application/problem+json" };
      if (error.body.retry_after_) headers["Retry-After"] = String(error.body.retry_after_);
      delete error.body.retry_after_;
      response.writeHead(error.status, headers).end(JSON.stringify(error.body));
    }
  }

  file(path, response) {
    const clean = normalize(path).replace(/^(\.\.[/\\])+/, "");
    let full = join(DIST, clean);
    if (!extname(clean) || !existsSync(full)) full = join(DIST, "index.html");
    const media = `http://127.0.0.1:${this.mediaPort} ws://127.0.0.1:${this.mediaPort}`;
    response.writeHead(200, {
      "Content-Type": TYPES[extname(full)] ?? "application/octet-stream",
      "Content-Security-Policy":
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; " +
        `worker-src 'self' blob:; connect-src 'self' ${media}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`,
      "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
      "X-Content-Type-Options": "nosniff",
    });
    createReadStream(full).pipe(response);
  }

  who(request, path) {
    if (path === "/login") return null;
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    const user = this.sessions.get(token);
    if (!user) throw new Refuse(401, "unauthenticated");
    if (user.must_change_password && !/^\/(me|logout)/.test(path)) throw new Refuse(403, "password_change_required");
    return { ...publicUser(user), user, token };
  }

  async route(method, path, context) {
    for (const [verb, pattern, handler, role] of ROUTES) {
      const match = verb === method && pattern.exec(path);
      if (!match) continue;
      if (role && !role.includes(context.me.user.role)) throw new Refuse(403, "forbidden");
      return handler.call(this, context, match[1]);
    }
    throw new Refuse(404, "not_found");
  }

  // --- media ---

  urls(stream) {
    const ticket = key("tkt");
    this.tickets.set(ticket, stream);
    const base = `127.0.0.1:${this.mediaPort}/live/${ticket}`;
    return { flv: `http://${base}.flv`, ws_fmp4: `ws://${base}.mp4`, http_fmp4: `http://${base}.mp4` };
  }

  view(socket, request) {
    const ticket = /^\/live\/(\w+)\.mp4$/.exec(request.url)?.[1];
    const stream = this.tickets.get(ticket);
    this.tickets.delete(ticket);
    if (!stream || stream.state !== "open") return socket.close(4404, "ticket");
    const view = { socket, stream, clip: null, next: 0, bytes: 0 };
    this.introduce(view);
    this.sockets.add(view);
    socket.on("close", () => this.sockets.delete(view));
    socket.on("error", () => this.sockets.delete(view));
  }

  /** Says what comes, and begins with the newest key frame: at first, and anew when the sound is taken away. */
  introduce(view) {
    const hears = view.stream.audio === "granted";
    const own = this.footage[this.world.channels.get(view.stream.channel).clip];
    const omitted = !hears ? "not_granted" : own.audio ? null : "G711A";
    // The same picture without its sound.
    view.clip = own.audio && !hears ? this.footage.gate : own;
    view.next = this.lastKey(view.clip);
    const { codecs, video } = view.clip;
    const audio = own.audio ?? "G711A";
    view.socket.send(
      JSON.stringify({ type: "init", codecs, video, audio, ...(omitted ? { audio_omitted: omitted } : {}) }),
    );
    view.socket.send(view.clip.init);
  }

  /** Position (in fragments since the start of time) of the newest key frame: what a GOP cache would begin with. */
  lastKey(clip) {
    const elapsed = (Date.now() - this.startedAt) / 1000;
    const loop = Math.floor(elapsed / SECONDS);
    const into = elapsed - loop * SECONDS;
    let at = 0;
    clip.fragments.forEach((fragment, i) => {
      if (fragment.key && fragment.time <= into) at = i;
    });
    return loop * clip.fragments.length + at;
  }

  feed() {
    if (this.mediaPaused) return;
    const elapsed = (Date.now() - this.startedAt) / 1000;
    for (const view of this.sockets) {
      const { fragments } = view.clip;
      for (;;) {
        const loop = Math.floor(view.next / fragments.length);
        const fragment = fragments[view.next % fragments.length];
        if (fragment.time + loop * SECONDS > elapsed) break;
        const bytes = shifted(fragment, loop);
        view.socket.send(bytes);
        view.bytes += bytes.length;
        view.next++;
      }
    }
  }

  tell() {
    for (const view of this.sockets) {
      view.socket.send(
        JSON.stringify({
          type: "stat",
          bitrate_kbps: Math.round((view.bytes * 8) / 1000),
          fps: 25,
          latency_ms: 18,
          dropped: 0,
        }),
      );
      view.bytes = 0;
    }
  }
}

const listen = (server, port) => new Promise((done) => server.listen(port, "127.0.0.1", done));
const closed = (server) => new Promise((done) => server.close(done));
