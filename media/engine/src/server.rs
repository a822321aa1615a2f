//! The output thread: one epoll loop that admits players by ticket and feeds them from the hubs.
//!
//! A session is packaged once, when the first viewer comes, and forgotten when the last one goes. Sockets never block:
//! a viewer that does not read stays behind in the ring of its session and costs the others nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::Clock;
use crate::events::EventQueue;
use crate::feed::Feed;
use crate::http::{self, Parsed, Refusal, Request};
use crate::intake::{Intake, configure, listen, read_some, reset_on_close};
use crate::lease::Lease;
use crate::outlet::{Admission, Gate, Outlet};
use crate::tickets::Output;
use crate::types::{Event, EventKind, SessionId, Value};
use crate::viewer::{Pumped, Viewer};
use crate::websocket::{self, Inbound};

/// A request head must be complete after this time.
const REQUEST_US: u64 = 5_000_000;
/// What was sent last may still be read for this time after the end; then the connection is reset.
const DRAIN_US: u64 = 500_000;
/// A viewer whose socket took nothing for this time is gone.
const STALL_US: u64 = 20_000_000;
const TICK_US: u64 = 200_000;
const IDLE_TICK_US: u64 = 1_000_000;
/// Connections whose request is incomplete; the oldest gives way to a new one.
const REQUESTS: usize = 1_024;
/// Bytes a viewer may send at once.
const INBOUND: usize = 4096;
/// Connections accepted in one turn of the loop.
const ACCEPTS: usize = 256;
const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

/// Where and for whom to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub bind: IpAddr,
    pub port: u16,
    /// Values of `Origin` that may watch; empty: pages of the same host, on any port. Requests without one always may.
    pub allowed_origins: Vec<String>,
    pub max_viewers: usize,
}

/// A bound port whose thread has not started.
pub struct Bound {
    poll: Poll,
    listener: TcpListener,
    outlet: Arc<Outlet>,
    port: u16,
    config: ServerConfig,
}

/// The running output side. Dropping it closes every viewer.
pub struct Server {
    outlet: Arc<Outlet>,
    thread: Option<JoinHandle<()>>,
    port: u16,
}

impl Bound {
    /// # Errors
    /// `AddrInUse` and the like when the port cannot be bound.
    pub fn new(config: ServerConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = listen(SocketAddr::new(config.bind, config.port))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let port = listener.local_addr()?.port();
        let outlet = Arc::new(Outlet::new(Waker::new(poll.registry(), WAKER)?));
        Ok(Self { poll, listener, outlet, port, config })
    }

    pub fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// # Errors
    /// When no thread can be made.
    pub fn start(self, gate: Gate, clock: Arc<dyn Clock>, events: EventQueue) -> io::Result<Server> {
        let (outlet, port) = (Arc::clone(&self.outlet), self.port);
        let worker = Worker {
            poll: self.poll,
            listener: self.listener,
            outlet: self.outlet,
            config: self.config,
            gate,
            clock,
            events,
            connections: HashMap::new(),
            feeds: HashMap::new(),
            requests: VecDeque::new(),
            next_token: WAKER.0 + 1,
        };
        let thread = std::thread::Builder::new().name("media-output".to_owned()).spawn(move || worker.run())?;
        Ok(Server { outlet, thread: Some(thread), port })
    }
}

impl Server {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// Closes every viewer and joins the thread.
    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.outlet.stop();
            // A panic was reported by the thread itself; there is nothing left to stop.
            let _panicked = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Viewing {
    viewer: Viewer,
    lease: Arc<Lease>,
    session: Arc<str>,
    id: SessionId,
    inbound: Vec<u8>,
    opened_us: u64,
    progress_us: u64,
}

enum State {
    Request { buffer: Vec<u8>, deadline_us: u64 },
    Viewing(Box<Viewing>),
    Draining { deadline_us: u64 },
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    state: State,
}

/// Why a viewer goes: the word in the event, the WebSocket close code.
#[derive(Clone, Copy)]
struct End<'a> {
    reason: &'a str,
    code: u16,
}

const LEFT: End = End { reason: "viewer_left", code: 0 };
const TOO_MUCH: End = End { reason: "protocol_error", code: 1009 };
const EXPIRED: End = End { reason: "lease_expired", code: 1008 };
const STALLED: End = End { reason: "stalled", code: 1008 };
const STOPPED: End = End { reason: "engine_stopped", code: 1001 };
/// There is nothing but sound, and that was not granted.
const SOUND_ALONE: End = End { reason: "audio_not_granted", code: 1008 };
const UNSUPPORTED: End = End { reason: "codec_unsupported", code: 1003 };

struct Worker {
    poll: Poll,
    listener: TcpListener,
    outlet: Arc<Outlet>,
    config: ServerConfig,
    gate: Gate,
    clock: Arc<dyn Clock>,
    events: EventQueue,
    connections: HashMap<usize, Connection>,
    feeds: HashMap<SessionId, Feed>,
    /// Tokens in the order of their coming; those no longer in `State::Request` are skipped.
    requests: VecDeque<usize>,
    next_token: usize,
}

impl Worker {
    fn run(mut self) {
        let mut ready = Events::with_capacity(1024);
        let mut next_tick_us = 0;
        loop {
            let now_us = self.clock.now().mono_us;
            let timeout = Duration::from_micros(next_tick_us.clamp(now_us, now_us + IDLE_TICK_US) - now_us);
            if let Err(error) = self.poll.poll(&mut ready, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                break;
            }
            // Letters first: who was cut is gone before anybody new is let in.
            if self.read_letters() {
                break;
            }
            for event in &ready {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(token) => self.ready(token),
                }
            }
            let now_us = self.clock.now().mono_us;
            if now_us >= next_tick_us {
                self.tick(now_us);
                next_tick_us = now_us + if self.connections.is_empty() { IDLE_TICK_US } else { TICK_US };
            }
        }
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        for token in tokens {
            self.end_viewer(token, STOPPED);
        }
    }

    /// `true` when the thread is to stop.
    fn read_letters(&mut self) -> bool {
        let letters = self.outlet.collect();
        for (lease, reason) in &letters.cut {
            let held = |connection: &Connection| matches!(&connection.state, State::Viewing(viewing) if viewing.lease.key() == lease);
            let tokens: Vec<usize> =
                self.connections.iter().filter(|(_, connection)| held(connection)).map(|(token, _)| *token).collect();
            for token in tokens {
                self.end_viewer(token, End { reason, code: 1008 });
            }
        }
        self.pull(&letters.dirty);
        for barrier in letters.barriers {
            // Nobody waits any more: the barrier timed out.
            let _gave_up = barrier.send(());
        }
        letters.stop
    }

    fn pull(&mut self, sessions: &HashSet<SessionId>) {
        let now_us = self.clock.now().mono_us;
        for id in sessions {
            let is_heard = self.is_heard(*id);
            let Some(feed) = self.feeds.get_mut(id) else {
                continue;
            };
            let ended = feed.pull(now_us, is_heard);
            let (viewers, playable) = (feed.viewers.clone(), feed.playable());
            for token in viewers {
                match (&ended, playable) {
                    (Some(reason), _) => self.end_viewer(token, End { reason, code: 1001 }),
                    (None, false) => self.end_viewer(token, UNSUPPORTED),
                    (None, true) => self.pump(token),
                }
            }
        }
    }

    /// Whether any viewer of a session may hear it. Those who may not wait with him for the sound that was announced,
    /// but only for the first picture and only that little.
    fn is_heard(&self, id: SessionId) -> bool {
        let hears = |token: &usize| {
            matches!(self.connections.get(token), Some(Connection { state: State::Viewing(viewing), .. })
                if viewing.lease.hears())
        };
        self.feeds.get(&id).is_some_and(|feed| feed.viewers.iter().any(hears))
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, peer)) => self.add(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Would block, or out of descriptors: the next tick tries again.
                Err(_) => return,
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        while self.requests.len() >= REQUESTS {
            let oldest = self.requests.pop_front();
            if let Some(token) = oldest.filter(|token| self.is_request(*token)) {
                self.forget(token);
            }
        }
        // Refused ones linger for half a second: they too are bounded. Dropping the stream closes it.
        if self.connections.len() >= self.config.max_viewers + REQUESTS {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if configure(&stream).and_then(|()| self.poll.registry().register(&mut stream, Token(token), interest)).is_err()
        {
            return;
        }
        let deadline_us = self.clock.now().mono_us + REQUEST_US;
        let state = State::Request { buffer: Vec::new(), deadline_us };
        self.connections.insert(token, Connection { stream, peer: peer.ip().to_canonical(), state });
        self.requests.push_back(token);
        self.count_connections();
    }

    fn is_request(&self, token: usize) -> bool {
        matches!(self.connections.get(&token), Some(Connection { state: State::Request { .. }, .. }))
    }

    fn ready(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match &mut connection.state {
            State::Request { buffer, .. } => {
                let intake = read_some(&mut connection.stream, buffer, http::MAX_REQUEST + 1);
                match http::parse(buffer) {
                    Parsed::Partial if intake == Intake::Open => {}
                    Parsed::Partial => self.forget(token),
                    Parsed::Refused(refusal) => self.refuse(token, refusal),
                    Parsed::Complete(request, length) => {
                        let early = buffer.split_off(length.min(buffer.len()));
                        self.admit(token, &request, early);
                    }
                }
            }
            State::Viewing(_) => self.ready_viewer(token),
            State::Draining { .. } => match read_some(&mut connection.stream, &mut Vec::new(), 0) {
                Intake::Open => {}
                Intake::Closed => self.forget(token),
                Intake::Flood => self.abort(token),
            },
        }
    }

    fn admit(&mut self, token: usize, request: &Request, early: Vec<u8>) {
        let now = self.clock.now();
        if self.outlet.stats.viewers.load(Ordering::Relaxed) as usize >= self.config.max_viewers {
            return self.refuse(token, Refusal::Busy);
        }
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let origins = &self.config.allowed_origins;
        let known_origin =
            |origin: &String| if origins.is_empty() { request.same_host } else { origins.contains(origin) };
        let allowed = request.origin.as_ref().is_none_or(known_origin);
        let redeem = || self.outlet.tickets.redeem(&request.ticket, request.output, connection.peer, now.mono_us);
        let admitted = allowed.then(redeem).flatten().and_then(|lease| (self.gate)(&lease));
        let Some(Admission { session, hub, lease }) = admitted.filter(|admission| admission.lease.alive(now)) else {
            return self.refuse(token, Refusal::Forbidden);
        };
        let (id, greeting) = (hub.id(), http::accepted(request).into_bytes());
        let viewing = Viewing {
            viewer: Viewer::new(request.output, greeting, lease.hears(), now.mono_us),
            lease: Arc::clone(&lease),
            session: Arc::clone(&session),
            id,
            inbound: early,
            opened_us: now.mono_us,
            progress_us: now.mono_us,
        };
        connection.state = State::Viewing(Box::new(viewing));
        self.outlet.viewer_came(id, lease.key());
        let detail =
            vec![("viewer", Value::Int(token as i64)), ("output", Value::Text(request.output.name().to_owned()))];
        let key = Some(Arc::clone(lease.key()));
        self.events.send(Event { kind: EventKind::ViewerOpened, session, lease: key, detail });
        let feed = self.feeds.entry(id).or_insert_with(|| Feed::new(&hub));
        feed.viewers.push(token);
        if feed.viewers.len() == 1 {
            self.pull(&HashSet::from([id]));
        }
        self.ready_viewer(token);
    }

    fn refuse(&mut self, token: usize, refusal: Refusal) {
        self.outlet.stats.refused.fetch_add(1, Ordering::Relaxed);
        let deadline_us = self.clock.now().mono_us + DRAIN_US;
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        connection.state = State::Draining { deadline_us };
        let answered = connection.stream.write_all(http::refused(refusal));
        if answered.and_then(|()| connection.stream.shutdown(Shutdown::Write)).is_err() {
            self.forget(token);
        }
    }

    /// Something came from a viewer, or its socket takes bytes again.
    fn ready_viewer(&mut self, token: usize) {
        let Some(Connection { stream, state: State::Viewing(viewing), .. }) = self.connections.get_mut(&token) else {
            return;
        };
        let mut end = match read_some(stream, &mut viewing.inbound, INBOUND) {
            Intake::Open => None,
            Intake::Closed => Some(LEFT),
            Intake::Flood => Some(TOO_MUCH),
        };
        if viewing.viewer.output() != Output::WsFmp4 {
            viewing.inbound.clear();
        } else if viewing.inbound.len() >= INBOUND {
            end = end.or(Some(TOO_MUCH));
        }
        while let Some(message) = websocket::take(&mut viewing.inbound).filter(|_| end.is_none()) {
            match message {
                Inbound::Ignored => {}
                Inbound::Ping(payload) => {
                    let mut pong = Vec::new();
                    websocket::pong(&payload, &mut pong);
                    viewing.viewer.queue_reply(pong);
                }
                Inbound::Close => end = Some(End { code: 1000, ..LEFT }),
                Inbound::Fault(code) => end = Some(End { code, reason: "protocol_error" }),
            }
        }
        match end {
            Some(end) => self.end_viewer(token, end),
            None => self.pump(token),
        }
    }

    fn pump(&mut self, token: usize) {
        let Some(Connection { stream, state: State::Viewing(viewing), .. }) = self.connections.get_mut(&token) else {
            return;
        };
        let now = self.clock.now();
        if !viewing.lease.alive(now) {
            return self.end_viewer(token, EXPIRED);
        }
        viewing.viewer.set_hears(viewing.lease.hears());
        let before = viewing.viewer.counters();
        let samples = self.feeds.get(&viewing.id).map(Feed::samples);
        let pumped = viewing.viewer.pump(stream, samples, now.mono_us);
        let after = viewing.viewer.counters();
        self.outlet.given(before, after);
        if after.bytes > before.bytes || matches!(pumped, Ok(Pumped::Idle)) {
            viewing.progress_us = now.mono_us;
        }
        match pumped {
            Ok(Pumped::Idle | Pumped::Blocked) => {}
            Ok(Pumped::Unplayable) => {
                let end = if viewing.viewer.hears() { UNSUPPORTED } else { SOUND_ALONE };
                self.end_viewer(token, end);
            }
            Err(_) => self.end_viewer(token, LEFT),
        }
    }

    /// Ends a viewer: nothing that was not begun is sent any more.
    fn end_viewer(&mut self, token: usize, end: End) {
        let now_us = self.clock.now().mono_us;
        let state = State::Draining { deadline_us: now_us + DRAIN_US };
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let State::Viewing(mut viewing) = std::mem::replace(&mut connection.state, state) else {
            return self.forget(token);
        };
        if let Some(feed) = self.feeds.get_mut(&viewing.id) {
            feed.viewers.retain(|viewer| *viewer != token);
            if feed.viewers.is_empty() {
                self.feeds.remove(&viewing.id);
            }
        }
        let clean = say_goodbye(&mut connection.stream, &mut viewing.viewer, end, now_us);
        self.report_end(token, &viewing, end.reason, now_us);
        if !clean {
            self.abort(token);
        }
    }

    fn report_end(&self, token: usize, viewing: &Viewing, reason: &str, now_us: u64) {
        let (counters, watched_us) = (viewing.viewer.counters(), now_us.saturating_sub(viewing.opened_us));
        self.outlet.viewer_went(viewing.id, viewing.lease.key(), counters, watched_us);
        let detail = vec![
            ("viewer", Value::Int(token as i64)),
            ("output", Value::Text(viewing.viewer.output().name().to_owned())),
            ("reason", Value::Text(reason.to_owned())),
            ("bytes", Value::Int(counters.bytes as i64)),
            ("frames", Value::Int(counters.frames as i64)),
            ("dropped", Value::Int(counters.dropped as i64)),
            ("seconds", Value::Float(watched_us as f64 / 1e6)),
        ];
        let (session, lease) = (Arc::clone(&viewing.session), Some(Arc::clone(viewing.lease.key())));
        self.events.send(Event { kind: EventKind::ViewerClosed, session, lease, detail });
    }

    fn tick(&mut self, now_us: u64) {
        self.accept();
        self.outlet.tickets.sweep(now_us);
        let sessions: HashSet<SessionId> = self.feeds.keys().copied().collect();
        self.pull(&sessions);
        let now = self.clock.now();
        let (mut late, mut ended) = (Vec::new(), Vec::new());
        for (token, connection) in &mut self.connections {
            match &mut connection.state {
                State::Request { deadline_us, .. } | State::Draining { deadline_us } => {
                    if *deadline_us <= now_us {
                        late.push(*token);
                    }
                }
                State::Viewing(viewing) if !viewing.lease.alive(now) => ended.push((*token, EXPIRED)),
                State::Viewing(viewing) if now_us.saturating_sub(viewing.progress_us) > STALL_US => {
                    ended.push((*token, STALLED));
                }
                State::Viewing(viewing) => {
                    if let Some(text) = viewing.viewer.stat_message(now_us) {
                        let mut message = Vec::new();
                        websocket::text(&text, &mut message);
                        viewing.viewer.queue_reply(message);
                    }
                }
            }
        }
        for token in late {
            self.abort(token);
        }
        for (token, end) in ended {
            self.end_viewer(token, end);
        }
        self.requests.retain(|token| {
            matches!(self.connections.get(token), Some(Connection { state: State::Request { .. }, .. }))
        });
    }

    /// Resets the connection: what the kernel still holds is thrown away.
    fn abort(&mut self, token: usize) {
        if let Some(connection) = self.connections.get(&token) {
            reset_on_close(&connection.stream);
        }
        self.forget(token);
    }

    fn forget(&mut self, token: usize) {
        if let Some(mut connection) = self.connections.remove(&token) {
            // Closing the descriptor takes it out of epoll anyway.
            let _closing = self.poll.registry().deregister(&mut connection.stream);
        }
        self.count_connections();
    }

    fn count_connections(&self) {
        self.outlet.stats.connections.store(self.connections.len() as u64, Ordering::Relaxed);
    }
}

/// Sends a close frame where there is a boundary for it, then half-closes; `false` when the connection must be reset.
fn say_goodbye(stream: &mut TcpStream, viewer: &mut Viewer, end: End, now_us: u64) -> bool {
    viewer.discard_unsent();
    if viewer.output() == Output::WsFmp4 && end.code != 0 {
        if viewer.is_mid_message() {
            return false;
        }
        let mut message = Vec::new();
        websocket::close(end.code, end.reason, &mut message);
        viewer.queue(message);
        if !matches!(viewer.pump(stream, None, now_us), Ok(Pumped::Idle)) {
            return false;
        }
    }
    stream.shutdown(Shutdown::Write).is_ok()
}
