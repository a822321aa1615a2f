//! From access units to player-ready samples: made once per session, shared by every viewer of every output.
//!
//! [`Packager`] keeps the set-up record ([`Config`]), one timeline for both tracks, and a bounded ring of [`Sample`]s.
//! A viewer is a cursor into the ring; one that falls out of the ring starts again at the newest key picture.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::aac::{AdtsConfig, FRAME_SAMPLES, adts_frames};
use crate::bits::nal_units;
use crate::timeline::{AudioClock, Timeline};
use crate::types::{AccessUnit, AudioTrack, Codec, Track, Tracks};
use crate::{h264, h265};

/// What lies before the newest key picture is kept this long for readers that are a little late.
pub const KEEP_BYTES: u64 = 4 << 20;
pub const KEEP_US: u64 = 3_000_000;
/// Whatever the key picture distance, the ring holds no more than this.
pub const RING_BYTES: u64 = 8 << 20;
pub const RING_SAMPLES: usize = 2048;
const PARAMETER_SETS: usize = 16;
/// Duration told for a picture whose successor has not come (90 kHz): bounds and first guess (25 pictures a second).
const DURATION: std::ops::RangeInclusive<i64> = 90..=180_000;
const FIRST_DURATION: i64 = 3_600;

/// Set-up of the video track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    pub codec: Codec,
    /// avcC or hvcC.
    pub record: Vec<u8>,
    pub codec_string: String,
    pub width: u32,
    pub height: u32,
}

/// Set-up of the audio track; `aac` is there for AAC alone. G.711 is 8 kHz, mono.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioConfig {
    pub codec: Codec,
    pub aac: Option<AdtsConfig>,
}

impl AudioConfig {
    /// Whether any output carries it.
    pub fn playable(&self) -> bool {
        matches!(self.codec, Codec::G711A | Codec::G711U) || self.aac.is_some()
    }
}

/// What a player must be told before the samples that refer to it.
#[derive(Debug)]
pub struct Config {
    /// Grows with every change; a viewer that meets a new one is sent a new header first.
    pub generation: u32,
    pub video: Option<VideoConfig>,
    pub audio: Option<AudioConfig>,
    /// Without sound, with it.
    pub(crate) fmp4_init: [OnceLock<Bytes>; 2],
}

/// One picture or audio frame in the form both containers carry.
#[derive(Debug)]
pub struct Sample {
    pub sequence: u64,
    pub track: Track,
    /// A viewer may start here.
    pub entry: bool,
    pub key: bool,
    /// 90 kHz on the timeline of the packager, which starts at 0 and never goes back within a track.
    pub dts: i64,
    /// 90 kHz, `pts - dts`.
    pub composition: i32,
    /// Video: 90 kHz. Audio: samples.
    pub duration: u32,
    /// Audio: sample position of `dts` at the rate of the track.
    pub audio_position: i64,
    /// Video: four-byte lengths and NAL units. Audio: one raw frame.
    pub body: Bytes,
    pub arrived_us: u64,
    /// Pictures made before this sample: tells a reader how many it has skipped.
    pub pictures: u64,
    pub config: Arc<Config>,
    end_bytes: u64,
    pub(crate) fmp4_head: OnceLock<crate::fmp4::Head>,
}

/// Turns the access units of one session into samples. Pure: no clock, no socket.
#[derive(Default)]
pub struct Packager {
    timeline: Timeline,
    audio_clock: AudioClock,
    config: Option<Arc<Config>>,
    ring: VecDeque<Arc<Sample>>,
    next_sequence: u64,
    total_bytes: u64,
    pictures: u64,
    last_entry: Option<u64>,
    last_duration: i64,
    mean_duration: i64,
    last_video_dts: Option<i64>,
    unplayable: u64,
}

impl Packager {
    pub fn new() -> Self {
        Self { last_duration: FIRST_DURATION, mean_duration: FIRST_DURATION, ..Self::default() }
    }

    /// Takes one unit; `tracks` says what the stream carries. Units no player could use are counted and left out.
    pub fn push(&mut self, unit: &AccessUnit, tracks: &Tracks) {
        let taken = match unit.track {
            Track::Video => self.push_video(unit, tracks),
            Track::Audio => self.push_audio(unit, tracks),
        };
        if taken.is_none() {
            self.unplayable += 1;
        }
    }

    /// Units left out: no set-up yet, a codec no browser output carries, or nothing but parameter sets.
    pub fn unplayable(&self) -> u64 {
        self.unplayable
    }

    /// Set-up of the newest sample.
    pub fn config(&self) -> Option<&Arc<Config>> {
        self.config.as_ref()
    }

    /// Sequence the next sample will have.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Newest place a viewer may start at.
    pub fn last_entry(&self) -> Option<u64> {
        self.last_entry
    }

    /// The sample, unless it has left the ring or is still to come.
    pub fn get(&self, sequence: u64) -> Option<&Arc<Sample>> {
        let first = self.ring.front()?.sequence;
        self.ring.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    fn push_video(&mut self, unit: &AccessUnit, tracks: &Tracks) -> Option<()> {
        if unit.key {
            self.update_config(unit, tracks);
        }
        let config = self.config.clone()?;
        if config.video.as_ref()?.codec != unit.codec {
            return None;
        }
        let body = length_prefixed(unit.codec, &unit.data);
        if body.is_empty() {
            return None;
        }
        let dts = self.timeline.map(Track::Video, unit.dts);
        if let Some(last) = self.last_video_dts.replace(dts) {
            self.last_duration = (dts - last).clamp(*DURATION.start(), *DURATION.end());
            self.mean_duration += (self.last_duration - self.mean_duration) / 8;
        }
        let composition = i32::try_from(unit.pts.saturating_sub(unit.dts)).unwrap_or(0);
        let duration = self.last_duration.max(self.mean_duration) as u32;
        self.store(Sample {
            entry: unit.key,
            key: unit.key,
            composition,
            ..self.blank(unit, config, dts, duration, body)
        });
        self.pictures += 1;
        Some(())
    }

    fn push_audio(&mut self, unit: &AccessUnit, tracks: &Tracks) -> Option<()> {
        if tracks.video.is_none() && audio_config(unit) != self.config.as_ref().and_then(|known| known.audio.clone()) {
            self.set_config(None, Some(audio_config(unit)?));
        }
        let config = self.config.clone()?;
        let audio = config.audio.as_ref()?;
        if audio.codec != unit.codec || !audio.playable() {
            return None;
        }
        let entry = config.video.is_none();
        let dts = self.timeline.map(Track::Audio, unit.dts);
        let Some(aac) = audio.aac else {
            let samples = unit.data.len() as u32;
            let sample = self.blank(unit, config.clone(), dts, samples, unit.data.clone());
            self.store(Sample { entry, key: true, audio_position: dts * 8_000 / 90_000, ..sample });
            return Some(());
        };
        for (found, frame) in adts_frames(&unit.data) {
            if found != aac {
                return None;
            }
            let (position, dts) = self.audio_clock.next(dts, aac.rate(), FRAME_SAMPLES);
            let body = unit.data.slice_ref(frame);
            let sample = self.blank(unit, config.clone(), dts, FRAME_SAMPLES, body);
            self.store(Sample { entry, key: true, audio_position: position, ..sample });
        }
        Some(())
    }

    fn blank(&self, unit: &AccessUnit, config: Arc<Config>, dts: i64, duration: u32, body: Bytes) -> Sample {
        Sample {
            sequence: self.next_sequence,
            track: unit.track,
            entry: false,
            key: false,
            dts,
            composition: 0,
            duration,
            audio_position: 0,
            body,
            arrived_us: unit.arrived_us,
            pictures: self.pictures,
            config,
            end_bytes: 0,
            fmp4_head: OnceLock::new(),
        }
    }

    fn store(&mut self, mut sample: Sample) {
        self.total_bytes += sample.body.len() as u64;
        sample.end_bytes = self.total_bytes;
        sample.sequence = self.next_sequence;
        self.next_sequence += 1;
        if sample.entry {
            self.last_entry = Some(sample.sequence);
        }
        self.ring.push_back(Arc::new(sample));
        self.trim();
    }

    fn trim(&mut self) {
        let Some(newest) = self.ring.back().cloned() else {
            return;
        };
        while let Some(oldest) = self.ring.front() {
            let bytes = newest.end_bytes - oldest.end_bytes + oldest.body.len() as u64;
            let passed = self.last_entry.is_some_and(|entry| oldest.sequence < entry);
            let late = newest.arrived_us.saturating_sub(oldest.arrived_us) > KEEP_US || bytes > KEEP_BYTES;
            let over = bytes > RING_BYTES || self.ring.len() > RING_SAMPLES;
            if !(passed && late || over) || oldest.sequence == newest.sequence {
                return;
            }
            if self.last_entry == Some(oldest.sequence) {
                self.last_entry = None;
            }
            self.ring.pop_front();
        }
    }

    /// A key picture brings its parameter sets; audio joins or changes here too, so that no player restarts between.
    fn update_config(&mut self, unit: &AccessUnit, tracks: &Tracks) {
        let known = self.config.as_ref();
        let video = video_config(unit)
            .or_else(|| known.and_then(|config| config.video.clone()).filter(|video| video.codec == unit.codec));
        let audio = tracks.audio.as_ref().map(announced_audio);
        let same = known.is_some_and(|config| config.video == video && config.audio == audio);
        if !same && video.is_some() {
            self.set_config(video, audio);
        }
    }

    fn set_config(&mut self, video: Option<VideoConfig>, audio: Option<AudioConfig>) {
        let generation = self.config.as_ref().map_or(1, |config| config.generation + 1);
        self.config = Some(Arc::new(Config { generation, video, audio, fmp4_init: Default::default() }));
    }
}

fn audio_config(unit: &AccessUnit) -> Option<AudioConfig> {
    let aac = match unit.codec {
        Codec::Aac => Some(adts_frames(&unit.data).next()?.0),
        _ => None,
    };
    Some(AudioConfig { codec: unit.codec, aac })
}

fn announced_audio(track: &AudioTrack) -> AudioConfig {
    let aac = match track.config[..] {
        [first, second, ..] if track.codec == Codec::Aac => AdtsConfig::from_specific_config([first, second]),
        _ => None,
    };
    AudioConfig { codec: track.codec, aac }
}

/// Set-up from the parameter sets inside a key picture; `None` when they are absent or cannot be read.
fn video_config(unit: &AccessUnit) -> Option<VideoConfig> {
    let collect = |kind: u8, nal_type: fn(&[u8]) -> u8| {
        let mut found: Vec<Vec<u8>> = Vec::new();
        for nal in nal_units(&unit.data).take_while(|nal| !is_picture(unit.codec, nal)) {
            if nal_type(nal) == kind && found.len() < PARAMETER_SETS && !found.iter().any(|known| known == nal) {
                found.push(nal.to_vec());
            }
        }
        found
    };
    match unit.codec {
        Codec::H264 => {
            let (sps, pps) = (collect(h264::NAL_SPS, h264::nal_type), collect(h264::NAL_PPS, h264::nal_type));
            let parsed = h264::parse_sps(sps.first()?)?;
            (!pps.is_empty()).then(|| VideoConfig {
                codec: unit.codec,
                record: h264::avcc(&parsed, &sps, &pps),
                codec_string: h264::codec_string(&parsed),
                width: parsed.width,
                height: parsed.height,
            })
        }
        Codec::H265 => {
            let [vps, sps, pps] =
                [h265::NAL_VPS, h265::NAL_SPS, h265::NAL_PPS].map(|kind| collect(kind, h265::nal_type));
            let parsed = h265::parse_sps(sps.first()?)?;
            (!vps.is_empty() && !pps.is_empty()).then(|| VideoConfig {
                codec: unit.codec,
                record: h265::hvcc(&parsed, &vps, &sps, &pps),
                codec_string: h265::codec_string(&parsed),
                width: parsed.width,
                height: parsed.height,
            })
        }
        _ => None,
    }
}

fn is_picture(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::H264 => matches!(h264::nal_type(nal), 1..=5),
        _ => h265::nal_type(nal) < 32,
    }
}

/// Annex B to four-byte lengths, without parameter sets and delimiters (ISO/IEC 14496-15 §5.3.2, §8.3.2).
fn length_prefixed(codec: Codec, data: &[u8]) -> Bytes {
    let out_of_band = if codec == Codec::H264 { h264::is_out_of_band } else { h265::is_out_of_band };
    let mut out = Vec::with_capacity(data.len() + 16);
    for nal in nal_units(data).filter(|nal| !out_of_band(nal)) {
        out.extend((nal.len() as u32).to_be_bytes());
        out.extend_from_slice(nal);
    }
    Bytes::from(out)
}
