//! Sessions and their leases: what may be received, from whom, and until when.
//!
//! The rule that everything rests on: without an unexpired lease packets are counted and discarded, and the hub is
//! silent and empty. The engine's own timer enforces that, whatever Python does. A released lease (its viewer left by
//! himself) is unexpired until its end, but opens no way out.
#![forbid(unsafe_code)]

pub use crate::lease::{LEASE_MAX_AHEAD_US, Lease};
pub use crate::session::{SessionStats, Transport};

use crate::accept::SOURCE_LIMIT;
use crate::clock::{Clock, Now};
use crate::events::EventQueue;
use crate::frames::LossPolicy;
use crate::hub::{Hub, HubLimits, Notify};
use crate::lease::LeaseFault;
use crate::session::{Session, SessionSetup};
use crate::types::{Event, EventKind, SessionId};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Most open sessions: GB/T 28181 has 10 000 stream numbers in a domain.
pub const SESSION_LIMIT: usize = 10_000;
/// Most leases in all.
pub const LEASE_LIMIT: usize = 100_000;
/// The timer looks at least this often, because the wall clock may step.
const TICK_MOST_US: u64 = 1_000_000;
/// Searches for whom a packet with an unknown SSRC might be meant for: at most one in this time.
const BLAME_EVERY_US: u64 = 100_000;

/// A lease as Python states it: opaque key, end in Unix seconds, and whether sound may be given out.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSpec {
    pub key: Arc<str>,
    pub not_after: f64,
    pub audio: bool,
}

/// What `open` needs.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Opaque stream key ("str_…").
    pub key: Arc<str>,
    pub ssrc: u32,
    pub transport: Transport,
    /// Addresses the media may come from: registered source, SDP `c=`.
    pub sources: Vec<IpAddr>,
    pub lease: LeaseSpec,
    /// Take a port of its own, for devices that ignore `y=`.
    pub private_port: bool,
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// A session or lease with this key is open.
    Exists,
    /// No such session or lease.
    Unknown,
    /// The SSRC is taken on the shared ports.
    SsrcInUse,
    /// The lease ends more than 30 s ahead.
    LeaseTooLong,
    /// The lease is over (past, released, revoked or expired).
    LeaseOver,
    /// The private range has no free port, or the bound of sessions, leases or sources is reached.
    Exhausted(&'static str),
    /// The socket could not be made.
    Socket(String),
}

impl From<LeaseFault> for SessionError {
    fn from(fault: LeaseFault) -> Self {
        match fault {
            LeaseFault::TooLong => Self::LeaseTooLong,
            LeaseFault::Over => Self::LeaseOver,
        }
    }
}

/// Called when nothing may go out under a lease any more (reason: "expired", or what `release`, `revoke` or `close` was
/// told), once a lease; outputs cut its viewers. Must not block and must not call back into the registry.
pub type OnLeaseEnd = Arc<dyn Fn(&Arc<Lease>, &str) + Send + Sync>;

/// What the registry needs of the sockets.
pub trait Ports: Send + Sync {
    /// Port that sessions of this transport share.
    fn shared(&self, transport: Transport) -> u16;
    /// Opens a port for this session alone.
    ///
    /// # Errors
    /// `Exhausted` or `Socket`.
    fn open_private(&self, session: &Arc<Session>) -> Result<u16, SessionError>;
    /// The session is over: close its port and connections.
    fn close(&self, session: SessionId);
}

/// Counters of the whole ingest side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestStats {
    pub sessions: u64,
    pub leases: u64,
    pub tcp_connections: u64,
    /// RTP packets that reached a session, and all bytes received.
    pub packets: u64,
    pub bytes: u64,
    /// Packets on the shared ports whose SSRC belongs to no session.
    pub unknown_ssrc: u64,
    pub rejected: u64,
    pub unleased: u64,
    /// Packets that were no RTP.
    pub malformed: u64,
    /// RTCP packets, ignored.
    pub rtcp: u64,
    pub tcp_refused: u64,
    pub events_lost: u64,
}

/// The same, counted by the receiving threads.
#[derive(Debug, Default)]
pub struct Counters {
    pub tcp_connections: AtomicU64,
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub unknown_ssrc: AtomicU64,
    pub rejected: AtomicU64,
    pub unleased: AtomicU64,
    pub malformed: AtomicU64,
    pub rtcp: AtomicU64,
    pub tcp_refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<Arc<str>, Arc<Session>>,
    /// Sessions on the shared ports.
    by_ssrc: HashMap<u32, Arc<Session>>,
    leases: HashMap<Arc<str>, (Arc<Lease>, Arc<Session>)>,
}

/// The table of sessions.
pub struct Registry {
    clock: Arc<dyn Clock>,
    events: EventQueue,
    notify: Notify,
    on_lease_end: OnLeaseEnd,
    source_timeout_us: u64,
    policy: LossPolicy,
    table: RwLock<Table>,
    ports: OnceLock<Arc<dyn Ports>>,
    next_id: AtomicU64,
    blamed_us: AtomicU64,
    pub counters: Counters,
    timer: (Mutex<bool>, Condvar),
    stopped: AtomicBool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Registry {
    /// `source_timeout`: seconds without an accepted packet until `source_lost` is told.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        events: EventQueue,
        notify: Notify,
        on_lease_end: OnLeaseEnd,
        source_timeout: f64,
    ) -> Arc<Self> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to a day
        let source_timeout_us = (source_timeout.clamp(0.1, 86_400.0) * 1e6) as u64;
        Arc::new(Self {
            clock,
            events,
            notify,
            on_lease_end,
            source_timeout_us,
            policy: LossPolicy::default(),
            table: RwLock::new(Table::default()),
            ports: OnceLock::new(),
            next_id: AtomicU64::new(1),
            blamed_us: AtomicU64::new(0),
            counters: Counters::default(),
            timer: (Mutex::new(false), Condvar::new()),
            stopped: AtomicBool::new(false),
        })
    }

    /// Connects the sockets; once.
    pub fn set_ports(&self, ports: Arc<dyn Ports>) {
        let _only_once = self.ports.set(ports);
    }

    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Opens a session; returns the port the device has to send to (0 without sockets).
    ///
    /// # Errors
    /// `SessionError`; nothing is left behind then.
    pub fn open(&self, spec: SessionSpec) -> Result<u16, SessionError> {
        let now = self.now();
        if spec.sources.len() > SOURCE_LIMIT {
            return Err(SessionError::Exhausted("sources"));
        }
        let id = SessionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let hub = Hub::new(id, HubLimits::default(), Arc::clone(&self.notify));
        let setup = SessionSetup {
            id,
            key: Arc::clone(&spec.key),
            ssrc: spec.ssrc,
            transport: spec.transport,
            private: spec.private_port,
            sources: spec.sources,
            policy: self.policy,
        };
        let session = Session::new(setup, hub, self.events.clone(), now);
        let LeaseSpec { key, not_after, audio } = spec.lease;
        let lease = Lease::new(key, id, Arc::clone(&spec.key), not_after, audio, now)?;
        {
            let mut table = self.table.write();
            table.admit(&session, &lease)?;
            if !session.add_lease(&lease, now) {
                return Err(SessionError::Exhausted("leases"));
            }
            table.insert(&session, &lease);
        }
        let port = match self.ports.get() {
            None => Ok(0),
            Some(ports) if spec.private_port => ports.open_private(&session),
            Some(ports) => Ok(ports.shared(spec.transport)),
        };
        if port.is_err() {
            self.table.write().remove(&session);
            session.close("not_opened");
        }
        self.wake_timer();
        port
    }

    /// Switches the expected SSRC after the 200 OK (facts 15.4) and lets the source pin anew.
    ///
    /// # Errors
    /// `Unknown`, `SsrcInUse`.
    pub fn set_ssrc(&self, session: &str, ssrc: u32) -> Result<(), SessionError> {
        let mut table = self.table.write();
        let session = table.by_key.get(session).cloned().ok_or(SessionError::Unknown)?;
        if !session.private() && session.ssrc() != ssrc {
            if table.by_ssrc.contains_key(&ssrc) {
                return Err(SessionError::SsrcInUse);
            }
            table.by_ssrc.remove(&session.ssrc());
            table.by_ssrc.insert(ssrc, Arc::clone(&session));
        }
        session.set_ssrc(ssrc, self.now());
        Ok(())
    }

    /// # Errors
    /// `Unknown`, `Exhausted`.
    pub fn add_source(&self, session: &str, source: IpAddr) -> Result<(), SessionError> {
        if self.session(session)?.add_source(source) { Ok(()) } else { Err(SessionError::Exhausted("sources")) }
    }

    /// Adds a lease to an open session. True when its viewer has a key picture at once.
    ///
    /// # Errors
    /// `Unknown`, `Exists`, `LeaseTooLong`, `LeaseOver`, `Exhausted`.
    pub fn grant(&self, session: &str, lease: LeaseSpec) -> Result<bool, SessionError> {
        let now = self.now();
        let mut table = self.table.write();
        let session = table.by_key.get(session).cloned().ok_or(SessionError::Unknown)?;
        if table.leases.contains_key(&lease.key) {
            return Err(SessionError::Exists);
        }
        if table.leases.len() >= LEASE_LIMIT {
            return Err(SessionError::Exhausted("leases"));
        }
        let LeaseSpec { key, not_after, audio } = lease;
        let lease = Lease::new(key, session.id(), Arc::clone(session.key()), not_after, audio, now)?;
        if !session.add_lease(&lease, now) {
            return Err(SessionError::Exhausted("leases"));
        }
        let warm = session.hub().is_warm();
        table.leases.insert(Arc::clone(lease.key()), (lease, session));
        drop(table);
        self.wake_timer();
        Ok(warm)
    }

    /// Moves the end of a living lease; `audio` false takes the sound away, true does not give it back.
    ///
    /// # Errors
    /// `Unknown`, `LeaseTooLong`, `LeaseOver`.
    pub fn renew(&self, lease: &str, not_after: f64, audio: bool) -> Result<(), SessionError> {
        let table = self.table.read();
        let (lease, _) = table.leases.get(lease).ok_or(SessionError::Unknown)?;
        lease.renew(not_after, audio, self.now())?;
        drop(table);
        self.wake_timer();
        Ok(())
    }

    /// Its viewer left by himself: nothing goes out under the lease any more, but until its end the session goes on
    /// receiving, so that a viewer who comes soon after has a picture at once. `renew` cannot prolong that.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn release(&self, lease: &str, reason: &str) -> Result<(), SessionError> {
        let lease = self.table.read().leases.get(lease).ok_or(SessionError::Unknown)?.0.clone();
        if lease.release() {
            (self.on_lease_end)(&lease, reason);
        }
        Ok(())
    }

    /// Cuts a lease, released ones too; its viewers are cut through `OnLeaseEnd` before this returns. What released
    /// leases of the same session had left is taken back: without a living lease the hub is silent at once.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn revoke(&self, lease: &str, reason: &str) -> Result<(), SessionError> {
        let (lease, session) = self.table.write().leases.remove(lease).ok_or(SessionError::Unknown)?;
        let was_living = lease.end();
        let tails = session.cut_lease(&lease, self.now());
        if !tails.is_empty() {
            let mut table = self.table.write();
            for tail in &tails {
                table.leases.remove(tail.key());
            }
        }
        if was_living {
            (self.on_lease_end)(&lease, reason);
        }
        Ok(())
    }

    /// Ends a session and every lease on it.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn close(&self, session: &str, reason: &str) -> Result<(), SessionError> {
        let session = {
            let mut table = self.table.write();
            let session = table.by_key.get(session).cloned().ok_or(SessionError::Unknown)?;
            table.remove(&session);
            session
        };
        self.end_session(&session, reason);
        Ok(())
    }

    fn end_session(&self, session: &Session, reason: &str) {
        for lease in session.close(reason) {
            if lease.end() {
                (self.on_lease_end)(&lease, reason);
            }
        }
        if let Some(ports) = self.ports.get() {
            ports.close(session.id());
        }
    }

    /// Ends everything; the timer's `wait` returns false from now on.
    pub fn close_all(&self, reason: &str) {
        let sessions: Vec<_> = {
            let mut table = self.table.write();
            let sessions = table.by_key.values().cloned().collect();
            *table = Table::default();
            sessions
        };
        for session in sessions {
            self.end_session(&session, reason);
        }
        self.stopped.store(true, Ordering::Release);
        self.wake_timer();
    }

    /// The live lease of this key with the hub of its session: what a ticket is exchanged for.
    #[must_use]
    pub fn viewable(&self, lease: &str) -> Option<(Arc<Lease>, Arc<Hub>)> {
        let table = self.table.read();
        let (lease, session) = table.leases.get(lease)?;
        lease.alive(self.now()).then(|| (Arc::clone(lease), Arc::clone(session.hub())))
    }

    fn session(&self, session: &str) -> Result<Arc<Session>, SessionError> {
        self.table.read().by_key.get(session).cloned().ok_or(SessionError::Unknown)
    }

    #[must_use]
    pub fn hub(&self, session: &str) -> Option<Arc<Hub>> {
        Some(Arc::clone(self.session(session).ok()?.hub()))
    }

    /// The session on the shared ports with this SSRC.
    #[must_use]
    pub fn by_ssrc(&self, ssrc: u32) -> Option<Arc<Session>> {
        self.table.read().by_ssrc.get(&ssrc).cloned()
    }

    /// Counts a packet on a shared port that belongs to no session. If its address is one that a session waits for,
    /// that session's owner is told: most likely the device ignores `y=` and needs a port of its own.
    pub fn unknown_ssrc(&self, from: SocketAddr, ssrc: u32, now: Now) {
        self.counters.unknown_ssrc.fetch_add(1, Ordering::Relaxed);
        let blamed_us = self.blamed_us.load(Ordering::Relaxed);
        if now.mono_us < blamed_us.saturating_add(BLAME_EVERY_US) && blamed_us > 0 {
            return;
        }
        self.blamed_us.store(now.mono_us, Ordering::Relaxed);
        let table = self.table.read();
        if let Some(session) = table.by_ssrc.values().find(|session| session.awaits(from.ip())) {
            session.unknown_ssrc(from, ssrc, now);
        }
    }

    /// Counters of one session.
    #[must_use]
    pub fn session_stats(&self, session: &str) -> Option<SessionStats> {
        Some(self.session(session).ok()?.stats(self.now()))
    }

    #[must_use]
    pub fn stats(&self) -> IngestStats {
        let (sessions, leases) = {
            let table = self.table.read();
            let living = table.leases.values().filter(|(lease, _)| !lease.is_released());
            (table.by_key.len() as u64, living.count() as u64)
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        IngestStats {
            sessions,
            leases,
            tcp_connections: read(&counters.tcp_connections),
            packets: read(&counters.packets),
            bytes: read(&counters.bytes),
            unknown_ssrc: read(&counters.unknown_ssrc),
            rejected: read(&counters.rejected),
            unleased: read(&counters.unleased),
            malformed: read(&counters.malformed),
            rtcp: read(&counters.rtcp),
            tcp_refused: read(&counters.tcp_refused),
            events_lost: self.events.lost(),
        }
    }

    /// Ends expired leases (released ones in silence) and tells what is due; returns the engine microseconds at which to
    /// call again.
    pub fn tick(&self) -> u64 {
        let now = self.now();
        let (expired, sessions, mut next) = {
            let table = self.table.read();
            let mut next = now.mono_us + TICK_MOST_US;
            let mut expired = Vec::new();
            for (lease, session) in table.leases.values() {
                if lease.receives(now) {
                    next = next.min(lease.deadline_us());
                } else {
                    expired.push((Arc::clone(lease), Arc::clone(session)));
                }
            }
            (expired, table.by_key.values().cloned().collect::<Vec<_>>(), next)
        };
        for (lease, session) in expired {
            self.expire(&lease, &session);
        }
        for session in sessions {
            next = next.min(session.tick(now, self.source_timeout_us));
        }
        next
    }

    fn expire(&self, lease: &Arc<Lease>, session: &Arc<Session>) {
        if self.table.write().leases.remove(lease.key()).is_none() {
            return;
        }
        let was_living = lease.end();
        session.remove_lease(lease, self.now());
        if was_living {
            (self.on_lease_end)(lease, "expired");
            let (session, lease) = (Arc::clone(session.key()), Some(Arc::clone(lease.key())));
            self.events.send(Event { kind: EventKind::LeaseExpired, session, lease, detail: Vec::new() });
        }
    }

    fn wake_timer(&self) {
        *self.timer.0.lock() = true;
        self.timer.1.notify_one();
    }

    /// Waits until `next_us` (from `tick`) or a change; false once everything was closed.
    #[must_use]
    pub fn wait(&self, next_us: u64) -> bool {
        let wait = Duration::from_micros(next_us.saturating_sub(self.now().mono_us));
        let mut changed = self.timer.0.lock();
        if !*changed && !wait.is_zero() {
            self.timer.1.wait_for(&mut changed, wait);
        }
        *changed = false;
        !self.stopped.load(Ordering::Acquire)
    }
}

impl Table {
    fn admit(&self, session: &Session, lease: &Lease) -> Result<(), SessionError> {
        if self.by_key.contains_key(session.key()) || self.leases.contains_key(lease.key()) {
            return Err(SessionError::Exists);
        }
        if !session.private() && self.by_ssrc.contains_key(&session.ssrc()) {
            return Err(SessionError::SsrcInUse);
        }
        if self.by_key.len() >= SESSION_LIMIT {
            return Err(SessionError::Exhausted("sessions"));
        }
        if self.leases.len() >= LEASE_LIMIT {
            return Err(SessionError::Exhausted("leases"));
        }
        Ok(())
    }

    fn insert(&mut self, session: &Arc<Session>, lease: &Arc<Lease>) {
        self.by_key.insert(Arc::clone(session.key()), Arc::clone(session));
        if !session.private() {
            self.by_ssrc.insert(session.ssrc(), Arc::clone(session));
        }
        self.leases.insert(Arc::clone(lease.key()), (Arc::clone(lease), Arc::clone(session)));
    }

    fn remove(&mut self, session: &Arc<Session>) {
        self.by_key.remove(session.key());
        if !session.private() {
            self.by_ssrc.remove(&session.ssrc());
        }
        self.leases.retain(|_, (lease, _)| lease.session() != session.id());
    }
}
