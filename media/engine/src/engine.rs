//! The whole engine behind one value: ingest, output, tickets and events, with the commands Python gives.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::events::EventQueue;
use crate::outlet::{Admission, Gate, LeaseTotals, Outlet};
use crate::receiver::{Ingest, IngestConfig, StartError};
use crate::server::{Bound, Server, ServerConfig};
use crate::sessions::{IngestStats, LeaseSpec, Registry, SessionError, SessionSpec, SessionStats};
use crate::tickets::{Output, TicketError};
use crate::types::SessionId;

/// Longest wait for the output thread to have cut the viewers of an ended lease.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to listen and for whom to serve.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub ingest: IngestConfig,
    pub server: ServerConfig,
}

/// Why a command was refused; nothing was changed.
#[derive(Debug)]
pub enum EngineError {
    PortTaken { port: u16, protocol: &'static str },
    Io(io::Error),
    Session(SessionError),
    TicketsFull,
    BadArgument(&'static str),
}

impl EngineError {
    /// Stable code, as Python sees it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PortTaken { .. } => "port_taken",
            Self::Io(_) | Self::Session(SessionError::Socket(_)) => "socket",
            Self::Session(SessionError::Exists) => "exists",
            Self::Session(SessionError::Unknown) => "unknown",
            Self::Session(SessionError::SsrcInUse) => "ssrc_in_use",
            Self::Session(SessionError::LeaseTooLong) => "lease_too_long",
            Self::Session(SessionError::LeaseOver) => "lease_over",
            Self::Session(SessionError::Exhausted(_)) => "exhausted",
            Self::TicketsFull => "tickets_full",
            Self::BadArgument(_) => "bad_argument",
        }
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PortTaken { port, protocol } => write!(f, "{protocol} port {port} cannot be bound"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Session(SessionError::Socket(text)) => f.write_str(text),
            Self::Session(SessionError::Exists) => f.write_str("a session or lease with this key is open"),
            Self::Session(SessionError::Unknown) => f.write_str("no such session or lease"),
            Self::Session(SessionError::SsrcInUse) => f.write_str("the SSRC is in use on the shared port"),
            Self::Session(SessionError::LeaseTooLong) => f.write_str("the lease ends more than 30 s ahead"),
            Self::Session(SessionError::LeaseOver) => f.write_str("the lease is over"),
            Self::Session(SessionError::Exhausted(what)) => write!(f, "no more {what}"),
            Self::TicketsFull => f.write_str("too many tickets wait to be used"),
            Self::BadArgument(what) => write!(f, "{what} is out of range or malformed"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<SessionError> for EngineError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// Counters of the output side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputStats {
    pub viewers: u64,
    pub connections: u64,
    pub bytes_out: u64,
    pub frames_out: u64,
    pub dropped: u64,
    pub refused: u64,
}

/// The running engine. Dropping it stops everything.
pub struct Engine {
    ingest: Ingest,
    server: Server,
    registry: Arc<Registry>,
    outlet: Arc<Outlet>,
    clock: Arc<dyn Clock>,
    events: EventQueue,
    keys: Arc<Mutex<HashMap<SessionId, Arc<str>>>>,
}

impl Engine {
    /// # Errors
    /// `PortTaken` for whichever of the three ports cannot be bound, `Io` for everything else.
    pub fn start(config: EngineConfig, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let events = EventQueue::new().map_err(EngineError::Io)?;
        let port = config.server.port;
        let bound = Bound::new(config.server).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
                EngineError::PortTaken { port, protocol: "tcp" }
            }
            _ => EngineError::Io(error),
        })?;
        let outlet = Arc::clone(bound.outlet());
        let (notified, cut) = (Arc::clone(&outlet), Arc::clone(&outlet));
        let ingest = Ingest::start(
            config.ingest,
            Arc::clone(&clock),
            events.clone(),
            Arc::new(move |session| notified.notify(session)),
            Arc::new(move |lease, reason| cut.cut(lease.key(), reason)),
        )
        .map_err(|error| match error {
            StartError::PortTaken { port, protocol } => EngineError::PortTaken { port, protocol },
            StartError::Io(error) => EngineError::Io(error),
        })?;
        let registry = Arc::clone(ingest.registry());
        let keys: Arc<Mutex<HashMap<SessionId, Arc<str>>>> = Arc::default();
        let gate = gate(Arc::clone(&registry), Arc::clone(&keys));
        let server = bound.start(gate, Arc::clone(&clock), events.clone()).map_err(EngineError::Io)?;
        Ok(Self { ingest, server, registry, outlet, clock, events, keys })
    }

    /// Shared UDP, shared TCP and HTTP port in use.
    pub fn ports(&self) -> (u16, u16, u16) {
        let (udp, tcp) = self.ingest.ports();
        (udp, tcp, self.server.port())
    }

    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    /// Opens a session; returns the port its device has to send to.
    pub fn open_session(&self, spec: SessionSpec) -> Result<u16, EngineError> {
        let key = Arc::clone(&spec.key);
        let port = self.registry.open(spec)?;
        if let Some(hub) = self.registry.hub(&key) {
            self.keys.lock().insert(hub.id(), key);
        }
        Ok(port)
    }

    pub fn set_ssrc(&self, session: &str, ssrc: u32) -> Result<(), EngineError> {
        Ok(self.registry.set_ssrc(session, ssrc)?)
    }

    pub fn add_source(&self, session: &str, source: IpAddr) -> Result<(), EngineError> {
        Ok(self.registry.add_source(session, source)?)
    }

    /// Adds a lease; true when its viewer has a key picture at once.
    pub fn grant(&self, session: &str, lease: LeaseSpec) -> Result<bool, EngineError> {
        Ok(self.registry.grant(session, lease)?)
    }

    pub fn renew(&self, lease: &str, not_after: f64, audio: bool) -> Result<(), EngineError> {
        Ok(self.registry.renew(lease, not_after, audio)?)
    }

    /// Ends a view whose viewer left by himself: nothing goes out any more, what comes in is kept until the lease's end.
    /// Returns and blocks as [`Engine::revoke`] does.
    pub fn release(&self, lease: &str, reason: &str) -> LeaseTotals {
        let released = self.registry.release(lease, reason);
        self.conclude(lease, reason, released.is_ok())
    }

    /// Cuts a lease, however it stands, and returns what its viewers were given. Blocks for at most a second, until
    /// the viewers are cut.
    pub fn revoke(&self, lease: &str, reason: &str) -> LeaseTotals {
        let revoked = self.registry.revoke(lease, reason);
        self.conclude(lease, reason, revoked.is_ok())
    }

    fn conclude(&self, lease: &str, reason: &str, known: bool) -> LeaseTotals {
        if !known {
            // Already over: its viewers are being cut, this makes sure of it.
            self.outlet.cut(&Arc::from(lease), reason);
        }
        self.outlet.barrier(CUT_TIMEOUT);
        self.outlet.take_totals(lease)
    }

    /// Ends a session with its leases and viewers; blocks as [`Engine::revoke`] does.
    pub fn close_session(&self, session: &str, reason: &str) -> Result<(), EngineError> {
        let hub = self.registry.hub(session);
        self.registry.close(session, reason)?;
        self.outlet.barrier(CUT_TIMEOUT);
        if let Some(hub) = hub {
            self.keys.lock().remove(&hub.id());
        }
        Ok(())
    }

    /// URL path good for one request within `ttl` seconds (cut to 30).
    pub fn ticket(&self, lease: &str, output: &str, client: Option<IpAddr>, ttl: f64) -> Result<String, EngineError> {
        let output = Output::parse(output).ok_or(EngineError::BadArgument("output"))?;
        if !(ttl > 0.0 && ttl.is_finite()) {
            return Err(EngineError::BadArgument("ttl"));
        }
        let now = self.clock.now();
        if !self.registry.viewable(lease).is_some_and(|(lease, _)| lease.alive(now)) {
            return Err(EngineError::Session(SessionError::LeaseOver));
        }
        let ttl_us = Duration::try_from_secs_f64(ttl).map_or(u64::MAX, |ttl| ttl.as_micros() as u64);
        let issued = self.outlet.tickets.issue(Arc::from(lease), output, client, ttl_us, now.mono_us);
        match issued {
            Ok(ticket) => Ok(output.path(&ticket)),
            Err(TicketError::Full) => Err(EngineError::TicketsFull),
            Err(TicketError::NoRandom) => Err(EngineError::Io(io::Error::other("no random bytes"))),
        }
    }

    /// Counters of a session, viewers included.
    pub fn session_stats(&self, session: &str) -> Option<SessionStats> {
        let viewers = self.registry.hub(session).map_or(0, |hub| self.outlet.viewers(hub.id()));
        self.registry.session_stats(session).map(|stats| SessionStats { viewers, ..stats })
    }

    pub fn stats(&self) -> (IngestStats, OutputStats) {
        let stats = &self.outlet.stats;
        let output = OutputStats {
            viewers: stats.viewers.load(Ordering::Relaxed),
            connections: stats.connections.load(Ordering::Relaxed),
            bytes_out: stats.bytes.load(Ordering::Relaxed),
            frames_out: stats.frames.load(Ordering::Relaxed),
            dropped: stats.dropped.load(Ordering::Relaxed),
            refused: stats.refused.load(Ordering::Relaxed),
        };
        (self.registry.stats(), output)
    }

    /// Whether the output thread still answers; blocks for at most a second.
    pub fn healthy(&self) -> bool {
        self.outlet.barrier(CUT_TIMEOUT)
    }

    /// Closes every session and viewer, joins the threads.
    pub fn stop(&mut self) {
        self.ingest.stop();
        self.server.stop();
    }
}

fn gate(registry: Arc<Registry>, keys: Arc<Mutex<HashMap<SessionId, Arc<str>>>>) -> Gate {
    Arc::new(move |lease| {
        let (lease, hub) = registry.viewable(lease)?;
        let session = keys.lock().get(&hub.id()).cloned()?;
        Some(Admission { session, hub, lease })
    })
}
