//! One output timeline for both tracks: starts at 0, never goes back, survives jumps of the source clock.

use crate::types::{TIMEBASE, Track};

/// A step larger than this is a new clock of the source, not time that passed.
const JUMP: i64 = 10 * TIMEBASE;
/// Distance put between the old and the new clock: one picture at 25 a second.
const SEAM: i64 = TIMEBASE / 25;

/// Source times beyond this (24 years) are nonsense; below it no sum or product here can overflow.
const LARGEST: i64 = 1 << 46;

#[derive(Default, Clone, Copy)]
struct Lane {
    offset: Option<i64>,
    last: Option<i64>,
}

/// Maps source time stamps (90 kHz) to output time stamps (90 kHz).
#[derive(Default)]
pub struct Timeline {
    video: Lane,
    audio: Lane,
}

impl Timeline {
    /// Strictly increasing per track. Both tracks share one offset unless only one of them has jumped yet.
    pub fn map(&mut self, track: Track, dts: i64) -> i64 {
        let dts = dts.clamp(-LARGEST, LARGEST);
        let (own, other) = match track {
            Track::Video => (&mut self.video, &self.audio),
            Track::Audio => (&mut self.audio, &self.video),
        };
        let newest = own.last.max(other.last);
        let near = |offset: &i64| newest.is_none_or(|last| (dts + offset - last).abs() <= JUMP);
        let offset = own.offset.filter(near).or(other.offset.filter(near));
        let offset = offset.unwrap_or_else(|| newest.map_or(-dts, |last| last + SEAM - dts));
        let mapped = own.last.map_or(dts + offset, |last| (dts + offset).max(last + 1));
        *own = Lane { offset: Some(offset), last: Some(mapped) };
        mapped
    }
}

/// Keeps AAC frames butt to butt: players gap audibly when time stamps jitter by a few samples.
#[derive(Default)]
pub struct AudioClock {
    next: Option<(u32, i64)>,
}

impl AudioClock {
    /// Position in samples and its 90 kHz time for a frame stamped `dts`; follows the stamp when off by over 60 ms.
    pub fn next(&mut self, dts: i64, rate: u32, samples: u32) -> (i64, i64) {
        let rate = i64::from(rate.max(1));
        let stamped = dts * rate / TIMEBASE;
        let expected = self.next.filter(|(known, _)| i64::from(*known) == rate).map(|(_, position)| position);
        let position = match expected {
            Some(position) if (position - stamped).abs() <= rate * 60 / 1000 => position,
            Some(position) => stamped.max(position),
            None => stamped,
        };
        self.next = Some((rate as u32, position + i64::from(samples)));
        (position, position * TIMEBASE / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tracks_share_the_first_offset() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.map(Track::Video, 1_000_000), 0);
        assert_eq!(timeline.map(Track::Audio, 1_000_900), 900);
        assert_eq!(timeline.map(Track::Video, 1_003_600), 3_600);
    }

    #[test]
    fn a_jump_of_the_source_is_bridged_and_tracks_stay_together() {
        let mut timeline = Timeline::default();
        timeline.map(Track::Video, 9_000_000_000);
        timeline.map(Track::Audio, 9_000_000_100);
        let video = timeline.map(Track::Video, 5_000);
        assert_eq!(video, 100 + SEAM);
        let late_audio = timeline.map(Track::Audio, 9_000_000_200);
        assert_eq!(late_audio, 200, "a unit of the old clock keeps its place");
        assert_eq!(timeline.map(Track::Audio, 5_100), video + 100);
        assert_eq!(timeline.map(Track::Video, 8_600), video + 3_600);
    }

    #[test]
    fn time_never_goes_back() {
        let mut timeline = Timeline::default();
        timeline.map(Track::Video, 10_000);
        assert_eq!(timeline.map(Track::Video, 9_000), 1);
        assert_eq!(timeline.map(Track::Video, 13_600), 3_600);
    }

    #[test]
    fn audio_jitter_is_smoothed_and_a_gap_is_followed() {
        let mut clock = AudioClock::default();
        assert_eq!(clock.next(0, 48_000, 1024), (0, 0));
        assert_eq!(clock.next(2_000, 48_000, 1024).0, 1024);
        assert_eq!(clock.next(3_700, 48_000, 1024).0, 2048);
        assert_eq!(clock.next(180_000, 48_000, 1024).0, 96_000);
    }
}
