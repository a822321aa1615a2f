//! One monotone 90 kHz timeline for picture and sound, out of the time stamps cameras really send (MED-07).
//!
//! Trust, in this order: PTS/DTS of the PES, RTP time stamps (if they run at a known rate), the arrival clock. A step
//! is believed if it goes forward and not further than the arrival allows; otherwise it is a jump: the step is taken
//! from the next source and the camera's time is tied anew to ours. Both tracks share the tie, so they stay together
//! across jumps and wraps at 2³² and 2³³. Sound whose stamps cannot be used (none, 8 kHz units, a base of its own) is
//! timed by its own length and held within 200 ms of the picture by the arrival clock.
#![forbid(unsafe_code)]

/// Where the first unit is put, so that a slightly earlier one of the other track does not fall below zero.
pub const ORIGIN: i64 = 90_000;
/// Longest step in any case: 10 s.
const MOST_GAP: i64 = 900_000;
/// A step may exceed what the arrival clock says by 1 s: frames come in bursts.
const BURST: i64 = 90_000;
/// Small steps back (0.5 s) are jitter: the time stands still rather than being tied anew.
const JITTER: i64 = 45_000;
/// Sound is believed to be on the picture's base within 2 s of it.
const NEAR: i64 = 180_000;
/// Sound timed by its length may be this far (200 ms) from where the arrival clock puts it.
const SYNC: i64 = 18_000;
/// Interval of pictures until one is known: 25 a second.
const NOMINAL: i64 = 3_600;

/// Time stamps of one unit as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// 33 bits, 90 kHz (if the camera keeps to it).
    pub pts: Option<u64>,
    pub dts: Option<u64>,
    pub rtp: u32,
    /// Engine microseconds.
    pub arrived_us: u64,
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineStats {
    /// Steps that were not believed.
    pub jumps: u64,
    /// Audio units timed by their own length.
    pub rebuilt: u64,
}

/// A camera time and the time it stands for here.
#[derive(Clone, Copy, Debug)]
struct Tie {
    raw: u64,
    out: i64,
}

impl Tie {
    fn map(self, raw: u64) -> i64 {
        self.out + wrapped(raw, self.raw)
    }
}

/// `to - from`, through a wrap at 2³³ or, for cameras that count 32 bits, at 2³².
fn wrapped(to: u64, from: u64) -> i64 {
    let signed = |bits: u32| (to.wrapping_sub(from) << (64 - bits)).cast_signed() >> (64 - bits);
    let (full, short) = (signed(33), signed(32));
    if to >> 32 == 0 && from >> 32 == 0 && short.abs() < full.abs() { short } else { full }
}

fn ticks(from_us: u64, to_us: u64) -> i64 {
    i64::try_from(to_us.saturating_sub(from_us).min(1 << 40)).unwrap_or(0) * 9 / 100
}

/// Last unit of a track.
#[derive(Clone, Copy, Debug)]
struct Last {
    raw: Option<u64>,
    out: i64,
    rtp: u32,
    arrived_us: u64,
}

/// The rate at which RTP time stamps run, found by comparing them with the arrival clock.
#[derive(Clone, Copy, Debug, Default)]
struct RtpRate {
    start: Option<(u32, u64)>,
    /// Factor to 90 kHz times 8; 0: not usable.
    scale: Option<i64>,
}

impl RtpRate {
    fn observe(&mut self, stamps: &Stamps) {
        let (rtp, since) = *self.start.get_or_insert((stamps.rtp, stamps.arrived_us));
        let millis = i64::try_from(stamps.arrived_us.saturating_sub(since) / 1_000).unwrap_or(0);
        if millis < 500 {
            return;
        }
        let per_second = i64::from(stamps.rtp.wrapping_sub(rtp).cast_signed()) * 1_000 / millis;
        self.scale = Some(match per_second {
            45_000..=180_000 => 8,
            4_000..=16_000 => 90,
            500..=2_000 => 720,
            _ => 0,
        });
        self.start = Some((stamps.rtp, stamps.arrived_us));
    }

    /// A step of RTP time in 90 kHz ticks.
    fn step(&self, from: u32, to: u32) -> Option<i64> {
        let step = i64::from(to.wrapping_sub(from).cast_signed());
        match self.scale {
            Some(scale) => Some(step * scale / 8).filter(|step| *step > 0),
            // Not measured yet: 5 ms or more can only be 90 kHz.
            None => (step >= 450).then_some(step),
        }
    }
}

/// The timeline of one source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeline {
    tie: Option<Tie>,
    before: Option<Tie>,
    video: Option<Last>,
    audio: Option<Last>,
    rate: RtpRate,
    interval: i64,
    /// Audio steps in a row that were far too short for the sound they carry.
    slow_steps: u32,
    audio_duration: i64,
    stats: TimelineStats,
}

impl Timeline {
    #[must_use]
    pub fn new() -> Self {
        Self { interval: NOMINAL, ..Self::default() }
    }

    #[must_use]
    pub fn stats(&self) -> TimelineStats {
        self.stats
    }

    /// Times a picture: (pts, dts). `dts` strictly increases; `pts` ≥ `dts`.
    pub fn video(&mut self, stamps: &Stamps) -> (i64, i64) {
        self.rate.observe(stamps);
        let raw = stamps.dts.or(stamps.pts);
        let delay = match (stamps.pts, stamps.dts) {
            (Some(pts), Some(dts)) => Some(wrapped(pts, dts)).filter(|delay| (0..=BURST).contains(delay)),
            _ => None,
        };
        let out = match self.video {
            None => self.first(raw, self.audio, stamps),
            Some(last) => self.picture(raw, &last, stamps),
        };
        self.video = Some(Last { raw, out, rtp: stamps.rtp, arrived_us: stamps.arrived_us });
        (out + delay.unwrap_or(0), out)
    }

    fn picture(&mut self, raw: Option<u64>, last: &Last, stamps: &Stamps) -> i64 {
        let most = (ticks(last.arrived_us, stamps.arrived_us) + BURST).min(MOST_GAP);
        if let Some(raw) = raw.filter(|raw| Some(*raw) != last.raw) {
            if let Some(out) = self.believed(raw, last.out + 1, last.out + most) {
                if out - last.out < BURST {
                    self.interval = (self.interval * 7 + (out - last.out)) / 8;
                }
                return out;
            }
            // Jitter back: stands still, and the tie is kept.
            if self.tie.is_some_and(|tie| (last.out - JITTER..=last.out).contains(&tie.map(raw))) {
                self.stats.jumps += 1;
                return last.out + 1;
            }
        }
        self.stats.jumps += 1;
        let arrival = ticks(last.arrived_us, stamps.arrived_us);
        let by_arrival = if arrival < 90 { self.interval } else { arrival };
        let step = self.rate.step(last.rtp, stamps.rtp).filter(|step| *step <= most).unwrap_or(by_arrival);
        let out = last.out + step.clamp(1, MOST_GAP);
        self.retie(raw, out);
        out
    }

    /// Times a unit of sound that lasts `duration` ticks, if known. Strictly increases.
    pub fn audio(&mut self, stamps: &Stamps, duration: Option<i64>) -> i64 {
        let out = match self.audio {
            None => self.first(stamps.pts, self.video, stamps),
            Some(last) => self.sound(&last, stamps),
        };
        self.audio = Some(Last { raw: stamps.pts, out, rtp: stamps.rtp, arrived_us: stamps.arrived_us });
        self.audio_duration = duration.unwrap_or(0);
        out
    }

    fn sound(&mut self, last: &Last, stamps: &Stamps) -> i64 {
        let (low, high) = match self.video {
            Some(video) => ((last.out + 1).max(video.out - NEAR), video.out + NEAR),
            None => (last.out + 1, last.out + (ticks(last.arrived_us, stamps.arrived_us) + BURST).min(MOST_GAP)),
        };
        if let Some(raw) = stamps.pts.filter(|raw| Some(*raw) != last.raw) {
            let step = last.raw.map_or(0, |before| wrapped(raw, before));
            let slow = self.audio_duration > 0 && (1..self.audio_duration / 2).contains(&step);
            self.slow_steps = if slow { self.slow_steps + 1 } else { 0 };
            if self.slow_steps < 2
                && let Some(out) = self.believed(raw, low, high)
            {
                return out;
            }
        }
        self.stats.rebuilt += 1;
        let arrival = ticks(last.arrived_us, stamps.arrived_us);
        let step = if self.audio_duration > 0 { self.audio_duration } else { arrival.clamp(1, BURST) };
        let out = last.out + step;
        let anchor = self.video.unwrap_or(*last);
        let expected = anchor.out + ticks(anchor.arrived_us, stamps.arrived_us);
        let out = if self.video.is_some() && (out - expected).abs() > SYNC { expected } else { out };
        if self.video.is_none() {
            self.retie(stamps.pts, out);
        }
        out.max(last.out + 1)
    }

    /// First unit of a track: beside the other track if that runs, otherwise at the origin.
    fn first(&mut self, raw: Option<u64>, other: Option<Last>, stamps: &Stamps) -> i64 {
        let Some(other) = other else {
            self.retie(raw, ORIGIN);
            return ORIGIN;
        };
        let near = raw.and_then(|raw| self.believed(raw, (other.out - NEAR).max(0), other.out + NEAR));
        near.unwrap_or_else(|| other.out + ticks(other.arrived_us, stamps.arrived_us).min(MOST_GAP))
    }

    /// The time of `raw` under the present tie or the one before, if it lies within [low, high].
    fn believed(&mut self, raw: u64, low: i64, high: i64) -> Option<i64> {
        if let Some(out) = self.tie.map(|tie| tie.map(raw)).filter(|out| (low..=high).contains(out)) {
            self.tie = Some(Tie { raw, out });
            return Some(out);
        }
        self.before.map(|tie| tie.map(raw)).filter(|out| (low..=high).contains(out))
    }

    fn retie(&mut self, raw: Option<u64>, out: i64) {
        if let Some(raw) = raw {
            self.before = self.tie;
            self.tie = Some(Tie { raw, out });
        }
    }
}
