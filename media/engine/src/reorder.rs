//! Puts RTP packets back in order (RFC 3550 appendix A.1) without delaying what is already in order.
//!
//! A packet that is next goes straight through, uncopied. Behind a gap packets wait, bounded in number, bytes and time;
//! then the gap is declared lost. The waiting time adapts: it starts short and grows to the bound when packets turn up
//! after they were given up.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::rtp::Rtp;
use std::collections::VecDeque;

/// Bounds of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReorderLimits {
    pub packets: usize,
    pub bytes: usize,
    /// Microseconds a gap is waited for at first, and at most.
    pub first_wait_us: u64,
    pub most_wait_us: u64,
}

impl Default for ReorderLimits {
    fn default() -> Self {
        Self { packets: 512, bytes: 1 << 20, first_wait_us: 100_000, most_wait_us: 200_000 }
    }
}

/// So many packets in a row from behind mean that the sender began anew a little behind.
const BEHIND_RUN: u32 = 64;

/// What comes out: one packet, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered<'a> {
    pub marker: bool,
    pub payload_type: u8,
    pub timestamp: u32,
    pub payload: &'a [u8],
    /// Packets missing between the one before and this one (at least 1 after a restart).
    pub lost: u32,
    /// Engine microseconds when it arrived.
    pub arrived_us: u64,
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReorderStats {
    pub lost: u64,
    /// Came out of order, but in time.
    pub reordered: u64,
    /// Came twice.
    pub duplicates: u64,
    /// Came after they had been given up (counted as lost too).
    pub late: u64,
    /// The sequence numbers began anew.
    pub restarts: u64,
}

#[derive(Debug)]
struct Held {
    marker: bool,
    payload_type: u8,
    seq: u16,
    timestamp: u32,
    arrived_us: u64,
    payload: Vec<u8>,
}

impl Held {
    fn copy(rtp: &Rtp<'_>, arrived_us: u64) -> Self {
        Self {
            marker: rtp.marker,
            payload_type: rtp.payload_type,
            seq: rtp.seq,
            timestamp: rtp.timestamp,
            arrived_us,
            payload: rtp.payload.to_vec(),
        }
    }

    fn out(&self, lost: u32) -> Ordered<'_> {
        Ordered {
            marker: self.marker,
            payload_type: self.payload_type,
            timestamp: self.timestamp,
            payload: &self.payload,
            lost,
            arrived_us: self.arrived_us,
        }
    }
}

/// The window of one source.
#[derive(Debug)]
pub struct Reorder {
    limits: ReorderLimits,
    /// A stream transport keeps the order: every gap is a loss at once.
    reliable: bool,
    /// Next sequence number to give out; `None` before the first packet.
    next: Option<u16>,
    /// Slot `i` stands for sequence number `next + i`; slot 0 is the gap. Empty while nothing waits.
    window: VecDeque<Option<Held>>,
    held: usize,
    held_bytes: usize,
    /// When the oldest waiting packet came.
    gap_since_us: u64,
    wait_us: u64,
    /// A packet from far away, waiting for a second that agrees (boxed: rare).
    suspect: Option<Box<Held>>,
    /// The sequence numbers given up last: first and count.
    given_up: (u16, u16),
    /// Packets in a row that were behind.
    behind: u32,
    stats: ReorderStats,
}

impl Reorder {
    #[must_use]
    pub fn new(limits: ReorderLimits, reliable: bool) -> Self {
        Self {
            limits,
            reliable,
            next: None,
            window: VecDeque::new(),
            held: 0,
            held_bytes: 0,
            gap_since_us: 0,
            wait_us: limits.first_wait_us,
            suspect: None,
            given_up: (0, 0),
            behind: 0,
            stats: ReorderStats::default(),
        }
    }

    #[must_use]
    pub fn stats(&self) -> ReorderStats {
        self.stats
    }

    /// Bytes of payload now held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.suspect.as_ref().map_or(0, |suspect| suspect.payload.len())
    }

    /// Engine microseconds at which `flush` must be called; `None` while nothing waits.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        (self.held > 0).then(|| self.gap_since_us.saturating_add(self.wait_us))
    }

    /// Takes one packet; gives out all that are now in order.
    pub fn push(&mut self, rtp: &Rtp<'_>, now_us: u64, out: &mut impl FnMut(Ordered<'_>)) {
        self.flush(now_us, out);
        let next = *self.next.get_or_insert(rtp.seq);
        let ahead = isize::from(rtp.seq.wrapping_sub(next).cast_signed());
        let reach = self.limits.packets.cast_signed();
        if ahead == 0 {
            self.stats.reordered += u64::from(self.held > 0);
            self.window.pop_front();
            self.give(rtp, now_us, 0, out);
            self.drain(out);
        } else if ahead > 0 && ahead < reach {
            if self.reliable {
                self.give(rtp, now_us, u32::try_from(ahead).unwrap_or(1), out);
            } else {
                self.hold(rtp, ahead.unsigned_abs(), now_us, out);
            }
        } else if ahead < 0 && ahead > -reach && self.behind < BEHIND_RUN {
            self.late(rtp.seq);
        } else {
            self.far(rtp, now_us, out);
        }
    }

    /// Gives up gaps that were waited for long enough. Call at `deadline_us`.
    pub fn flush(&mut self, now_us: u64, out: &mut impl FnMut(Ordered<'_>)) {
        while self.deadline_us().is_some_and(|deadline| now_us >= deadline) {
            self.give_up(out);
        }
    }

    /// Gives out a packet that is next, uncopied.
    fn give(&mut self, rtp: &Rtp<'_>, now_us: u64, lost: u32, out: &mut impl FnMut(Ordered<'_>)) {
        self.stats.lost += u64::from(lost);
        self.next = Some(rtp.seq.wrapping_add(1));
        self.behind = 0;
        out(Ordered {
            marker: rtp.marker,
            payload_type: rtp.payload_type,
            timestamp: rtp.timestamp,
            payload: rtp.payload,
            lost,
            arrived_us: now_us,
        });
    }

    /// Gives out the waiting packets that follow without a gap.
    fn drain(&mut self, out: &mut impl FnMut(Ordered<'_>)) {
        while let Some(Some(held)) = self.window.pop_front_if(|slot| slot.is_some()) {
            self.release(&held, 0, out);
        }
        if self.held == 0 {
            self.window.clear();
        } else if let Some(oldest) = self.window.iter().flatten().map(|held| held.arrived_us).min() {
            self.gap_since_us = oldest;
        }
    }

    fn release(&mut self, held: &Held, lost: u32, out: &mut impl FnMut(Ordered<'_>)) {
        self.held -= 1;
        self.held_bytes -= held.payload.len();
        self.stats.lost += u64::from(lost);
        self.next = Some(held.seq.wrapping_add(1));
        out(held.out(lost));
    }

    /// Keeps a packet that came before its turn.
    fn hold(&mut self, rtp: &Rtp<'_>, ahead: usize, now_us: u64, out: &mut impl FnMut(Ordered<'_>)) {
        self.behind = 0;
        if self.window.len() <= ahead {
            self.window.resize_with(ahead + 1, || None);
        }
        match self.window.get_mut(ahead) {
            Some(slot @ None) => *slot = Some(Held::copy(rtp, now_us)),
            _ => {
                self.stats.duplicates += 1;
                return;
            }
        }
        if self.held == 0 {
            self.gap_since_us = now_us;
        }
        self.held += 1;
        self.held_bytes += rtp.payload.len();
        while self.held_bytes > self.limits.bytes {
            self.give_up(out);
        }
    }

    /// Declares the gap at the front lost and gives out what follows it.
    fn give_up(&mut self, out: &mut impl FnMut(Ordered<'_>)) {
        let mut missing = 0_u16;
        while let Some(slot) = self.window.pop_front() {
            if let Some(held) = slot {
                self.given_up = (held.seq.wrapping_sub(missing), missing);
                self.release(&held, u32::from(missing), out);
                break;
            }
            missing = missing.saturating_add(1);
        }
        self.drain(out);
    }

    /// A packet from behind: given up too early, or sent twice.
    fn late(&mut self, seq: u16) {
        self.behind += 1;
        let (first, count) = self.given_up;
        if seq.wrapping_sub(first) < count {
            self.stats.late += 1;
            self.wait_us = self.limits.most_wait_us;
        } else {
            self.stats.duplicates += 1;
        }
    }

    /// A packet from far away: the sender began anew, if a second one agrees; otherwise a stray.
    fn far(&mut self, rtp: &Rtp<'_>, now_us: u64, out: &mut impl FnMut(Ordered<'_>)) {
        let confirmed = self.suspect.take_if(|suspect| suspect.seq.wrapping_add(1) == rtp.seq);
        if !self.reliable && confirmed.is_none() {
            self.suspect = Some(Box::new(Held::copy(rtp, now_us)));
            return;
        }
        while self.held > 0 {
            self.give_up(out);
        }
        self.stats.restarts += 1;
        let mut lost = 1;
        if let Some(suspect) = confirmed {
            self.stats.lost += 1;
            out(suspect.out(lost));
            lost = 0;
        }
        self.give(rtp, now_us, lost, out);
    }
}
