//! Bookkeeping of media connections: how many there may be, and how long one may stay without media.
#![forbid(unsafe_code)]

use crate::accept::Via;
use crate::framing::Framer;
use crate::session::Session;
use crate::sessions::Registry;
use crate::types::SessionId;
use mio::Token;
use mio::net::TcpStream;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A connection must bring an accepted packet within this time.
const PROVE_US: u64 = 10_000_000;
/// Connections in all (shared by the workers).
const LIMIT: u64 = 12_000;
/// Unproved connections of one worker, and of one address among them.
const UNPROVED: usize = 1_024;
const UNPROVED_PER_ADDRESS: usize = 32;

/// Numbers every connection of the process: part of a TCP source's pin.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// A connection on its way to a worker. `session`: the owner of the private port it came to.
#[derive(Debug)]
pub struct Arrival {
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub session: Option<Arc<Session>>,
}

/// One media connection.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub number: u64,
    pub private: bool,
    pub framer: Framer,
    /// The session it feeds: known from the private port, or from the first accepted packet.
    pub owner: Option<Arc<Session>>,
    token: Token,
}

impl Connection {
    #[must_use]
    pub fn owner(&self) -> Option<SessionId> {
        self.owner.as_ref().map(|session| session.id())
    }

    /// Tells its session, if the session is pinned to it.
    pub fn tell_closed(&self, why: &str) {
        if let Some(session) = &self.owner {
            let via = if self.private { Via::PrivateTcp(self.number) } else { Via::SharedTcp(self.number) };
            session.tcp_closed(via, why);
        }
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Connections {
    /// Deadlines of the unproved, and their addresses.
    deadlines: BTreeMap<(u64, Token), IpAddr>,
    unproved: HashMap<Token, u64>,
    by_address: HashMap<IpAddr, usize>,
    turns: usize,
}

impl Connections {
    /// A number that goes round with every call.
    pub fn turn(&mut self) -> usize {
        self.turns = self.turns.wrapping_add(1);
        self.turns
    }

    /// Takes a connection in, or closes it (by dropping) at a bound.
    pub fn admit(&mut self, arrival: Arrival, token: Token, now_us: u64, registry: &Registry) -> Option<Connection> {
        let address = arrival.from.ip().to_canonical();
        let of_address = self.by_address.get(&address).copied().unwrap_or(0);
        let open = registry.counters.tcp_connections.load(Ordering::Relaxed);
        if open >= LIMIT || self.unproved.len() >= UNPROVED || of_address >= UNPROVED_PER_ADDRESS {
            registry.counters.tcp_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        registry.counters.tcp_connections.fetch_add(1, Ordering::Relaxed);
        let deadline_us = now_us + PROVE_US;
        self.deadlines.insert((deadline_us, token), address);
        self.unproved.insert(token, deadline_us);
        *self.by_address.entry(address).or_insert(0) += 1;
        Some(Connection {
            stream: arrival.stream,
            from: arrival.from,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            private: arrival.session.is_some(),
            framer: Framer::new(),
            owner: arrival.session,
            token,
        })
    }

    /// An accepted packet came: the connection may stay.
    pub fn bound(&mut self, token: Token) {
        let Some(deadline_us) = self.unproved.remove(&token) else { return };
        let Some(address) = self.deadlines.remove(&(deadline_us, token)) else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// The connection is closed.
    pub fn gone(&mut self, connection: &Connection, registry: &Registry) {
        self.forget(connection.token, registry);
    }

    /// The connection with this token is closed.
    pub fn forget(&mut self, token: Token, registry: &Registry) {
        self.bound(token);
        registry.counters.tcp_connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Engine microseconds at which the next unproved connection is overdue.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|((at, _), _)| *at)
    }

    /// Connections that brought nothing in time.
    #[must_use]
    pub fn overdue(&self, now_us: u64) -> Vec<Token> {
        self.deadlines.range(..=(now_us, Token(usize::MAX))).map(|((_, token), _)| *token).collect()
    }
}
