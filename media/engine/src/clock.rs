//! The engine's clock: the only place that reads the time, so that every deadline can be tested with a manual clock.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks, taken together once per batch of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the engine's clock was made; never goes back. For deadlines and latencies.
    pub mono_us: u64,
    /// Microseconds since the Unix epoch; may step. For leases, whose end Python states in wall time.
    pub unix_us: u64,
}

/// Source of time, injected everywhere.
pub trait Clock: Send + Sync {
    fn now(&self) -> Now;
}

/// The real clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the one place allowed to
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // this is the one place allowed to
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono_us: micros(Instant::now().saturating_duration_since(self.start)), unix_us: micros(unix) }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A clock that moves only when told to, for tests. Starts at mono 1 s, Unix 1 700 000 000 s.
#[derive(Debug)]
pub struct ManualClock {
    mono_us: AtomicU64,
    unix_us: AtomicU64,
}

impl ManualClock {
    #[must_use]
    pub fn new() -> Self {
        Self { mono_us: AtomicU64::new(1_000_000), unix_us: AtomicU64::new(1_700_000_000_000_000) }
    }

    /// Lets `millis` pass on both clocks.
    pub fn advance_ms(&self, millis: u64) {
        self.mono_us.fetch_add(millis * 1_000, Ordering::SeqCst);
        self.unix_us.fetch_add(millis * 1_000, Ordering::SeqCst);
    }

    /// Steps the wall clock alone, as NTP or an administrator does.
    pub fn step_wall_ms(&self, millis: i64) {
        let now = self.unix_us.load(Ordering::SeqCst);
        self.unix_us.store(now.saturating_add_signed(millis * 1_000), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { mono_us: self.mono_us.load(Ordering::SeqCst), unix_us: self.unix_us.load(Ordering::SeqCst) }
    }
}
