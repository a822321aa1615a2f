//! What the output thread shares with the rest of the engine: a mailbox to wake it, counters, and what viewers were given.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use mio::Waker;
use parking_lot::Mutex;

use crate::hub::Hub;
use crate::lease::Lease;
use crate::tickets::Tickets;
use crate::types::SessionId;
use crate::viewer::Counters;

/// Leases whose totals are kept until they are asked for.
const TOTALS: usize = 65_536;

/// What a redeemed ticket admits to.
pub struct Admission {
    pub session: Arc<str>,
    pub hub: Arc<Hub>,
    /// Asked before anything is sent.
    pub lease: Arc<Lease>,
}

/// Finds what a lease admits to; `None` when it is not alive.
pub type Gate = Arc<dyn Fn(&str) -> Option<Admission> + Send + Sync>;

/// Counters since the start, except the two gauges.
#[derive(Debug, Default)]
pub struct OutletStats {
    pub viewers: AtomicU64,
    pub connections: AtomicU64,
    pub bytes: AtomicU64,
    pub frames: AtomicU64,
    pub dropped: AtomicU64,
    pub refused: AtomicU64,
}

/// What all viewers of one lease were given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LeaseTotals {
    pub viewers: u64,
    pub counters: Counters,
    /// Watched by all viewers together.
    pub microseconds: u64,
    watching: u64,
}

/// Messages to the output thread.
#[derive(Default)]
pub(crate) struct Letters {
    pub dirty: HashSet<SessionId>,
    pub cut: Vec<(Arc<str>, String)>,
    pub barriers: Vec<SyncSender<()>>,
    pub stop: bool,
}

/// The shared part of the output side.
pub struct Outlet {
    letters: Mutex<Letters>,
    rung: AtomicBool,
    waker: Waker,
    pub tickets: Tickets,
    pub stats: OutletStats,
    totals: Mutex<HashMap<Arc<str>, LeaseTotals>>,
    viewers: Mutex<HashMap<SessionId, u64>>,
}

impl Outlet {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            letters: Mutex::default(),
            rung: AtomicBool::new(false),
            waker,
            tickets: Tickets::default(),
            stats: OutletStats::default(),
            totals: Mutex::default(),
            viewers: Mutex::default(),
        }
    }

    /// A session has new units, new tracks or has ended. Never blocks.
    pub fn notify(&self, session: SessionId) {
        self.post(|letters| letters.dirty.extend([session]));
    }

    /// A lease has ended: its tickets are void, its viewers go.
    pub fn cut(&self, lease: &Arc<str>, reason: &str) {
        self.tickets.forget(lease);
        self.post(|letters| letters.cut.push((Arc::clone(lease), reason.to_owned())));
    }

    /// Waits until everything posted before was done, at most `timeout`; `false` when it was not.
    pub fn barrier(&self, timeout: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.post(|letters| letters.barriers.push(done));
        wait.recv_timeout(timeout).is_ok()
    }

    pub(crate) fn stop(&self) {
        self.post(|letters| letters.stop = true);
    }

    fn post(&self, write: impl FnOnce(&mut Letters)) {
        write(&mut self.letters.lock());
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Fails only when the poll is gone, and then nobody is there to be woken.
            let _gone = self.waker.wake();
        }
    }

    pub(crate) fn collect(&self) -> Letters {
        self.rung.store(false, Ordering::Release);
        std::mem::take(&mut *self.letters.lock())
    }

    /// Viewers of a session now.
    pub fn viewers(&self, session: SessionId) -> u64 {
        self.viewers.lock().get(&session).copied().unwrap_or(0)
    }

    /// Totals of a lease; they are forgotten when nobody watches any more.
    pub fn take_totals(&self, lease: &str) -> LeaseTotals {
        let mut totals = self.totals.lock();
        let found = totals.get(lease).copied().unwrap_or_default();
        if found.watching == 0 {
            totals.remove(lease);
        }
        found
    }

    pub(crate) fn viewer_came(&self, session: SessionId, lease: &Arc<str>) {
        self.stats.viewers.fetch_add(1, Ordering::Relaxed);
        *self.viewers.lock().entry(session).or_insert(0) += 1;
        let mut totals = self.totals.lock();
        if totals.len() >= TOTALS {
            totals.retain(|_, total| total.watching > 0);
        }
        let total = totals.entry(Arc::clone(lease)).or_default();
        total.viewers += 1;
        total.watching += 1;
    }

    pub(crate) fn viewer_went(&self, session: SessionId, lease: &str, counters: Counters, microseconds: u64) {
        self.stats.viewers.fetch_sub(1, Ordering::Relaxed);
        let mut viewers = self.viewers.lock();
        if let Some(count) = viewers.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                viewers.remove(&session);
            }
        }
        drop(viewers);
        if let Some(total) = self.totals.lock().get_mut(lease) {
            total.watching -= 1;
            total.microseconds += microseconds;
            total.counters.bytes += counters.bytes;
            total.counters.frames += counters.frames;
            total.counters.dropped += counters.dropped;
        }
    }

    pub(crate) fn given(&self, before: Counters, after: Counters) {
        let add = |to: &AtomicU64, before: u64, after: u64| {
            if after > before {
                to.fetch_add(after - before, Ordering::Relaxed);
            }
        };
        add(&self.stats.bytes, before.bytes, after.bytes);
        add(&self.stats.frames, before.frames, after.frames);
        add(&self.stats.dropped, before.dropped, after.dropped);
    }
}
