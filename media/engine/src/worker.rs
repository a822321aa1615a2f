//! One receiving thread: its shared UDP socket, private ports and connections, and the reorder timers of what it feeds.
#![forbid(unsafe_code)]

use crate::accept::Via;
use crate::clock::Now;
use crate::connections::{Arrival, Connection, Connections};
use crate::framing::FramingError;
use crate::mmsg::Batch;
use crate::ports::Private;
use crate::receiver::Handle;
use crate::rtp::{self, Rtp, RtpError};
use crate::session::{Fate, Session};
use crate::sessions::Registry;
use crate::types::SessionId;
use mio::net::{TcpListener, UdpSocket};
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a worker can be told.
#[derive(Debug)]
pub enum Command {
    /// Accept connections (the first worker).
    Listen(std::net::TcpListener),
    /// Read this connection.
    Connection(Arrival),
    /// Serve this session's own port.
    Private(Private, Arc<Session>),
    /// Close what belongs to a session.
    Close(SessionId),
    Stop,
}

/// Commands waiting for a worker.
pub type Mailbox = Arc<Mutex<Vec<Command>>>;

const WAKER: Token = Token(0);
const SHARED: Token = Token(1);
const LISTENER: Token = Token(2);
const FIRST_FREE: usize = 3;
/// Batches (or reads) from one socket before the others get their turn.
const TURN: usize = 16;
/// Read from a connection at once.
const CHUNK: usize = 128 << 10;

#[derive(Debug)]
enum Source {
    PrivateUdp(UdpSocket, Arc<Session>),
    PrivateTcp(TcpListener, Arc<Session>),
    Connection(Box<Connection>),
}

/// One receiving thread's state.
#[derive(Debug)]
pub struct Worker {
    registry: Arc<Registry>,
    poll: Poll,
    commands: Mailbox,
    number: usize,
    peers: Arc<Vec<Handle>>,
    shared: UdpSocket,
    listener: Option<TcpListener>,
    sources: HashMap<Token, Source>,
    next_token: usize,
    /// Sockets that had more to read when their turn was over.
    busy: HashSet<Token>,
    /// (engine microseconds, session) at which a reorder gap must be given up; each session at most once.
    timers: BTreeMap<(u64, SessionId), Arc<Session>>,
    timed: HashSet<SessionId>,
    connections: Connections,
    batch: Batch,
    chunk: Vec<u8>,
    stopping: bool,
}

impl Worker {
    /// # Errors
    /// When the system refuses the poller.
    pub fn new(registry: Arc<Registry>, shared: std::net::UdpSocket) -> io::Result<(Self, Mailbox, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut shared = UdpSocket::from_std(shared);
        poll.registry().register(&mut shared, SHARED, Interest::READABLE)?;
        let commands = Mailbox::default();
        let worker = Self {
            registry,
            poll,
            commands: Arc::clone(&commands),
            number: 0,
            peers: Arc::default(),
            shared,
            listener: None,
            sources: HashMap::new(),
            next_token: FIRST_FREE,
            busy: HashSet::new(),
            timers: BTreeMap::new(),
            timed: HashSet::new(),
            connections: Connections::default(),
            batch: Batch::new(),
            chunk: vec![0; CHUNK],
            stopping: false,
        };
        Ok((worker, commands, waker))
    }

    /// Makes the workers known to each other: connections are handed round.
    pub fn join_peers(&mut self, number: usize, peers: &Arc<Vec<Handle>>) {
        self.number = number;
        self.peers = Arc::clone(peers);
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        while !self.stopping {
            let wait = self.wait();
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A broken poller cannot be worked with; the sessions' sources are told lost by the timer.
                Err(_) => return,
            }
            let now = self.registry.now();
            self.busy.extend(events.iter().map(|event| event.token()));
            for token in std::mem::take(&mut self.busy) {
                self.serve(token, now);
            }
            self.fire(now);
        }
    }

    /// How long to sleep: not at all with unread sockets, until the next timer, or until something comes.
    fn wait(&self) -> Option<Duration> {
        if !self.busy.is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        let next = timer.into_iter().chain(self.connections.next_deadline_us()).min()?;
        Some(Duration::from_micros(next.saturating_sub(self.registry.now().mono_us)))
    }

    fn serve(&mut self, token: Token, now: Now) {
        match token {
            WAKER => self.obey(now),
            SHARED => self.read_shared(now),
            LISTENER => self.accept_shared(now),
            _ => self.read_source(token, now),
        }
    }

    fn obey(&mut self, now: Now) {
        let commands = std::mem::take(&mut *self.commands.lock());
        for command in commands {
            match command {
                Command::Listen(listener) => {
                    let mut listener = TcpListener::from_std(listener);
                    if self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE).is_ok() {
                        self.listener = Some(listener);
                        self.accept_shared(now);
                    }
                }
                Command::Connection(arrival) => self.adopt(arrival, now),
                Command::Private(Private::Udp(socket), session) => {
                    self.add(Source::PrivateUdp(UdpSocket::from_std(socket), session), now);
                }
                Command::Private(Private::Tcp(listener), session) => {
                    self.add(Source::PrivateTcp(TcpListener::from_std(listener), session), now);
                }
                Command::Close(session) => self.close_session(session),
                Command::Stop => self.stopping = true,
            }
        }
    }

    /// Registers a socket and reads what may wait in it already.
    fn add(&mut self, mut source: Source, now: Now) -> Option<Token> {
        let token = Token(self.next_token);
        self.next_token += 1;
        let poller = self.poll.registry();
        let registered = match &mut source {
            Source::PrivateUdp(socket, _) => poller.register(socket, token, Interest::READABLE),
            Source::PrivateTcp(listener, _) => poller.register(listener, token, Interest::READABLE),
            Source::Connection(connection) => poller.register(&mut connection.stream, token, Interest::READABLE),
        };
        registered.ok()?;
        self.sources.insert(token, source);
        self.read_source(token, now);
        Some(token)
    }

    fn close_session(&mut self, session: SessionId) {
        self.sources.retain(|_, source| match source {
            Source::PrivateUdp(_, owner) | Source::PrivateTcp(_, owner) => owner.id() != session,
            Source::Connection(connection) => {
                let keep = connection.owner() != Some(session);
                if !keep {
                    self.connections.gone(connection, &self.registry);
                }
                keep
            }
        });
        if self.timed.remove(&session) {
            self.timers.retain(|(_, owner), _| *owner != session);
        }
    }

    fn read_shared(&mut self, now: Now) {
        for _ in 0..TURN {
            match self.batch.receive(self.shared.as_fd()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // ICMP errors of nobody in particular show up here; the socket itself stays good.
                Err(_) => continue,
            }
            let mut due = Vec::new();
            for (bytes, from) in self.batch.datagrams() {
                let Some((bytes, rtp)) = valid(&self.registry, bytes) else { continue };
                match self.registry.by_ssrc(rtp.ssrc) {
                    None => self.registry.unknown_ssrc(from, rtp.ssrc, now),
                    Some(session) => {
                        let fate = session.packet(&rtp, bytes.len(), from, Via::SharedUdp, now);
                        if let Some(at) = count(&self.registry, fate) {
                            due.push((at, session));
                        }
                    }
                }
            }
            self.schedule(due);
        }
        self.busy.insert(SHARED);
    }

    fn read_source(&mut self, token: Token, now: Now) {
        match self.sources.get(&token) {
            Some(Source::PrivateUdp(..)) => self.read_private(token, now),
            Some(Source::PrivateTcp(..)) => self.accept_private(token, now),
            Some(Source::Connection(_)) => self.read_connection(token, now),
            None => {}
        }
    }

    fn read_private(&mut self, token: Token, now: Now) {
        let Some(Source::PrivateUdp(socket, session)) = self.sources.get(&token) else { return };
        let session = Arc::clone(session);
        let (mut due, mut more) = (None, true);
        for _ in 0..TURN {
            match self.batch.receive(socket.as_fd()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Err(_) => continue,
            }
            for (bytes, from) in self.batch.datagrams() {
                let Some((bytes, rtp)) = valid(&self.registry, bytes) else { continue };
                let fate = session.packet(&rtp, bytes.len(), from, Via::PrivateUdp, now);
                due = count(&self.registry, fate).or(due);
            }
        }
        self.schedule(due.map(|at| (at, session)));
        if more {
            self.busy.insert(token);
        }
    }

    fn schedule(&mut self, due: impl IntoIterator<Item = (u64, Arc<Session>)>) {
        for (at, session) in due {
            if self.timed.insert(session.id()) {
                self.timers.insert((at, session.id()), session);
            }
        }
    }

    /// Acts on timers that are due.
    fn fire(&mut self, now: Now) {
        while let Some(entry) = self.timers.first_entry() {
            let (at, id) = *entry.key();
            if at > now.mono_us {
                break;
            }
            let session = entry.remove();
            self.timed.remove(&id);
            if let Some(next) = session.flush(now) {
                self.schedule([(next.max(now.mono_us + 1), session)]);
            }
        }
        for token in self.connections.overdue(now.mono_us) {
            self.drop_connection(token, "no_media");
        }
    }

    fn accept_shared(&mut self, now: Now) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, from)) => self.hand_on(Arrival { stream, from, session: None }, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if transient(&error) => {}
                // Out of descriptors: the waiting connection keeps the listener readable; try again with the next event.
                Err(_) => return,
            }
        }
    }

    fn accept_private(&mut self, token: Token, now: Now) {
        while let Some(Source::PrivateTcp(listener, session)) = self.sources.get(&token) {
            match listener.accept() {
                Ok((stream, from)) => {
                    let session = Some(Arc::clone(session));
                    self.adopt(Arrival { stream, from, session }, now);
                }
                Err(error) if transient(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Gives a connection to the worker whose turn it is.
    fn hand_on(&mut self, arrival: Arrival, now: Now) {
        let turn = self.connections.turn() % self.peers.len().max(1);
        match self.peers.get(turn).filter(|_| turn != self.number) {
            Some(peer) => peer.send(Command::Connection(arrival)),
            None => self.adopt(arrival, now),
        }
    }

    fn adopt(&mut self, arrival: Arrival, now: Now) {
        let token = Token(self.next_token);
        if let Some(connection) = self.connections.admit(arrival, token, now.mono_us, &self.registry) {
            let connection = Source::Connection(Box::new(connection));
            if self.add(connection, now).is_none() {
                self.connections.forget(token, &self.registry);
            }
        }
    }

    fn read_connection(&mut self, token: Token, now: Now) {
        for _ in 0..TURN {
            let Some(Source::Connection(connection)) = self.sources.get_mut(&token) else { return };
            let size = match connection.stream.read(&mut self.chunk) {
                Ok(0) => return self.drop_connection(token, "closed"),
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.drop_connection(token, "broken"),
            };
            let bytes = self.chunk.get(..size).unwrap_or_default();
            self.registry.counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
            let (mut bound, mut due) = (false, None);
            let Connection { framer, owner, from, number, private, .. } = &mut **connection;
            let outcome = framer.receive(bytes, |framer, packet| {
                let Ok(rtp) = parse(&self.registry, packet) else { return ControlFlow::Continue(()) };
                let Some(session) = owner.clone().or_else(|| find(&self.registry, &rtp, *from, now)) else {
                    return ControlFlow::Break(());
                };
                if framer.take_broken() {
                    session.broken();
                }
                let via = if *private { Via::PrivateTcp(*number) } else { Via::SharedTcp(*number) };
                let fate = session.packet(&rtp, packet.len(), *from, via, now);
                due = count(&self.registry, fate).map(|at| (at, Arc::clone(&session)));
                match fate {
                    Fate::Accepted { .. } => {
                        framer.bind(rtp.ssrc);
                        bound = true;
                        *owner = Some(session);
                        ControlFlow::Continue(())
                    }
                    // Without a lease nothing is proved and nothing refused: the connection has its 10 seconds.
                    Fate::Unleased => ControlFlow::Continue(()),
                    Fate::Rejected(_) => ControlFlow::Break(()),
                }
            });
            if bound {
                self.connections.bound(token);
            }
            self.schedule(due);
            match outcome {
                Ok(()) => {}
                Err(FramingError::NotRtp) => {
                    self.registry.counters.malformed.fetch_add(1, Ordering::Relaxed);
                    return self.drop_connection(token, "not_rtp");
                }
                Err(FramingError::Lost) => return self.drop_connection(token, "framing_lost"),
                Err(FramingError::Stopped) => return self.drop_connection(token, "refused"),
            }
        }
        self.busy.insert(token);
    }

    fn drop_connection(&mut self, token: Token, why: &str) {
        if let Some(Source::Connection(connection)) = self.sources.remove(&token) {
            self.connections.gone(&connection, &self.registry);
            connection.tell_closed(why);
        }
    }
}

fn transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// The session a connection's first packet belongs to.
fn find(registry: &Registry, rtp: &Rtp<'_>, from: SocketAddr, now: Now) -> Option<Arc<Session>> {
    let session = registry.by_ssrc(rtp.ssrc);
    if session.is_none() {
        registry.unknown_ssrc(from, rtp.ssrc, now);
    }
    session
}

/// Reads one datagram; counts what is no RTP.
fn valid<'a>(registry: &Registry, bytes: Option<&'a [u8]>) -> Option<(&'a [u8], Rtp<'a>)> {
    let bytes = bytes.or_else(|| {
        registry.counters.malformed.fetch_add(1, Ordering::Relaxed);
        None
    })?;
    registry.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Some((bytes, parse(registry, bytes).ok()?))
}

fn parse<'a>(registry: &Registry, bytes: &'a [u8]) -> Result<Rtp<'a>, RtpError> {
    rtp::parse(bytes).inspect_err(|error| {
        let counters = &registry.counters;
        let counter = if *error == RtpError::Rtcp { &counters.rtcp } else { &counters.malformed };
        counter.fetch_add(1, Ordering::Relaxed);
    })
}

/// Counts what became of a packet; returns when its session must be flushed.
fn count(registry: &Registry, fate: Fate) -> Option<u64> {
    let counters = &registry.counters;
    let (counter, due) = match fate {
        Fate::Accepted { deadline_us } => (&counters.packets, deadline_us),
        Fate::Rejected(_) => (&counters.rejected, None),
        Fate::Unleased => (&counters.unleased, None),
    };
    counter.fetch_add(1, Ordering::Relaxed);
    due
}
