//! Leases inside the engine: permission to handle one session's media until a moment, and not a microsecond longer.
//!
//! A lease is living, released or ended. Living: media may come in and go out. Released (its viewer left by himself):
//! nothing goes out any more, but what comes in is still kept until the moment that had been decided, so that the next
//! viewer's first picture is there at once. Ended: nothing.
#![forbid(unsafe_code)]

use crate::clock::Now;
use crate::types::SessionId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// How far ahead a lease may end (architecture §3): a node cut off from Python goes dark within this time.
pub const LEASE_MAX_AHEAD_US: u64 = 30_000_000;

/// Why a lease's end is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseFault {
    /// More than `LEASE_MAX_AHEAD_US` ahead, or no number.
    TooLong,
    /// Not ahead at all.
    Over,
}

const LIVING: u8 = 0;
const RELEASED: u8 = 1;
const ENDED: u8 = 2;

/// One lease inside the engine. Outputs hold it and ask `alive` before they send anything, `hears` before any sound.
#[derive(Debug)]
pub struct Lease {
    key: Arc<str>,
    session: SessionId,
    session_key: Arc<str>,
    /// End on the monotonic clock.
    deadline_us: AtomicU64,
    /// End on the wall clock.
    not_after_us: AtomicU64,
    state: AtomicU8,
    audio: AtomicBool,
}

/// The two ends of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    deadline_us: u64,
    not_after_us: u64,
}

impl Ends {
    /// Fixes the end on both clocks when it is stated, so that a step of the wall clock cannot move it later.
    fn at(not_after: f64, now: Now) -> Result<Self, LeaseFault> {
        // Comparisons are written so that NaN is refused.
        let micros = not_after * 1e6;
        if !(micros > 0.0 && micros < 9e18) {
            return Err(if micros <= 0.0 { LeaseFault::Over } else { LeaseFault::TooLong });
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range was just checked
        let not_after_us = micros as u64;
        let ahead = not_after_us.checked_sub(now.unix_us).filter(|ahead| *ahead > 0).ok_or(LeaseFault::Over)?;
        if ahead > LEASE_MAX_AHEAD_US {
            return Err(LeaseFault::TooLong);
        }
        Ok(Self { deadline_us: now.mono_us + ahead, not_after_us })
    }
}

impl Lease {
    /// # Errors
    /// `LeaseFault` when `not_after` (Unix seconds) is past or more than 30 s ahead. `audio`: sound may be given out.
    pub fn new(
        key: Arc<str>,
        session: SessionId,
        session_key: Arc<str>,
        not_after: f64,
        audio: bool,
        now: Now,
    ) -> Result<Arc<Self>, LeaseFault> {
        let ends = Ends::at(not_after, now)?;
        Ok(Arc::new(Self {
            key,
            session,
            session_key,
            deadline_us: AtomicU64::new(ends.deadline_us),
            not_after_us: AtomicU64::new(ends.not_after_us),
            state: AtomicU8::new(LIVING),
            audio: AtomicBool::new(audio),
        }))
    }

    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    #[must_use]
    pub fn session_key(&self) -> &Arc<str> {
        &self.session_key
    }

    /// False once ended, once the wall clock reaches `not_after`, or once the granted time has passed on the
    /// monotonic clock, whichever comes first.
    #[must_use]
    pub fn alive(&self, now: Now) -> bool {
        self.state.load(Ordering::Acquire) == LIVING && self.is_within(now)
    }

    /// Whether packets may be taken in under it: while it is alive, and after its release until its end.
    #[must_use]
    pub fn receives(&self, now: Now) -> bool {
        self.state.load(Ordering::Acquire) != ENDED && self.is_within(now)
    }

    /// Whether its viewer left by himself.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.state.load(Ordering::Acquire) == RELEASED
    }

    /// Whether sound may be given out under it.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.audio.load(Ordering::Acquire)
    }

    fn is_within(&self, now: Now) -> bool {
        now.mono_us < self.deadline_us.load(Ordering::Acquire)
            && now.unix_us < self.not_after_us.load(Ordering::Acquire)
    }

    /// Engine microseconds at which it ends if the wall clock does not step.
    #[must_use]
    pub fn deadline_us(&self) -> u64 {
        self.deadline_us.load(Ordering::Acquire)
    }

    /// Moves the end; it may come nearer too. A lease that is over stays over. Sound can be taken away here, never
    /// given: what a lease began without has no ledger row to rest on.
    ///
    /// # Errors
    /// `LeaseFault` when it is over or the new end is not acceptable; nothing changes then.
    pub fn renew(&self, not_after: f64, audio: bool, now: Now) -> Result<(), LeaseFault> {
        if !self.alive(now) {
            return Err(LeaseFault::Over);
        }
        let ends = Ends::at(not_after, now)?;
        self.audio.fetch_and(audio, Ordering::AcqRel);
        self.deadline_us.store(ends.deadline_us, Ordering::Release);
        self.not_after_us.store(ends.not_after_us, Ordering::Release);
        Ok(())
    }

    /// Its viewer has left: from now on nothing goes out. True for the one call that did it.
    pub fn release(&self) -> bool {
        self.state.compare_exchange(LIVING, RELEASED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends it for good. True for the one call that did it while it was living.
    pub fn end(&self) -> bool {
        self.state.swap(ENDED, Ordering::AcqRel) == LIVING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    const START: f64 = 1_700_000_000.0;

    fn lease(not_after: f64, clock: &ManualClock) -> Result<Arc<Lease>, LeaseFault> {
        Lease::new("lea_1".into(), SessionId(1), "str_1".into(), not_after, true, clock.now())
    }

    #[test]
    fn at_most_thirty_seconds_and_only_numbers() {
        let clock = ManualClock::new();
        assert!(lease(START + 30.0, &clock).is_ok());
        for bad in [START + 30.1, 1e300, f64::INFINITY, f64::NAN] {
            assert_eq!(lease(bad, &clock).err(), Some(LeaseFault::TooLong), "{bad}");
        }
        for past in [START, START - 1.0, 0.0, -5.0, f64::NEG_INFINITY] {
            assert_eq!(lease(past, &clock).err(), Some(LeaseFault::Over), "{past}");
        }
    }

    #[test]
    fn ends_to_the_microsecond() {
        let clock = ManualClock::new();
        let lease = lease(START + 10.0, &clock).unwrap();
        clock.advance_ms(9_999);
        assert!(lease.alive(clock.now()));
        clock.advance_ms(1);
        assert!(!lease.alive(clock.now()));
        assert_eq!(lease.renew(START + 20.0, true, clock.now()), Err(LeaseFault::Over));
    }

    #[test]
    fn stepping_the_wall_clock_cannot_extend_it_but_can_end_it() {
        let clock = ManualClock::new();
        let back = lease(START + 10.0, &clock).unwrap();
        clock.step_wall_ms(-3_600_000);
        clock.advance_ms(10_000);
        assert!(!back.alive(clock.now()));
        let clock = ManualClock::new();
        let forward = lease(START + 10.0, &clock).unwrap();
        clock.step_wall_ms(60_000);
        assert!(!forward.alive(clock.now()));
    }

    #[test]
    fn ended_is_ended() {
        let clock = ManualClock::new();
        let lease = lease(START + 10.0, &clock).unwrap();
        assert!(lease.end() && !lease.end());
        assert!(!lease.alive(clock.now()));
        assert_eq!(lease.renew(START + 12.0, true, clock.now()), Err(LeaseFault::Over));
        assert!(!lease.release() && !lease.is_released(), "what has ended cannot be brought back");
    }

    #[test]
    fn released_still_receives_until_its_end_and_can_be_cut() {
        let clock = ManualClock::new();
        let [kept, cut] = [(), ()].map(|()| lease(START + 10.0, &clock).unwrap());
        assert!(kept.release() && !kept.release() && cut.release());
        assert!(!kept.alive(clock.now()) && kept.receives(clock.now()));
        assert_eq!(kept.renew(START + 20.0, true, clock.now()), Err(LeaseFault::Over), "nothing prolongs the tail");
        assert!(!cut.end(), "its viewers were told before");
        assert!(!cut.receives(clock.now()));
        clock.advance_ms(10_000);
        assert!(!kept.receives(clock.now()));
    }

    #[test]
    fn sound_can_be_taken_away_but_not_given() {
        let clock = ManualClock::new();
        let lease = lease(START + 10.0, &clock).unwrap();
        assert!(lease.hears());
        lease.renew(START + 11.0, true, clock.now()).unwrap();
        assert!(lease.hears());
        lease.renew(START + 12.0, false, clock.now()).unwrap();
        assert!(!lease.hears());
        lease.renew(START + 13.0, true, clock.now()).unwrap();
        assert!(!lease.hears());
    }
}
