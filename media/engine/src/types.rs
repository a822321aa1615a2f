//! Shared values of the data plane: codecs, access units, tracks, and the events told to Python.
#![forbid(unsafe_code)]

use bytes::Bytes;
use std::sync::Arc;

/// Ticks per second of every `pts` and `dts` inside the engine.
pub const TIMEBASE: i64 = 90_000;

/// Small handle of one session inside one engine; never reused, never shown outside the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What an access unit belongs to. A GB/T 28181 stream carries at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    Video,
    Audio,
}

/// Codecs named by GB/T 28181-2022 C.2 (PS `stream_type`); `Unknown` keeps the number for diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    H265,
    Mpeg4,
    Svac,
    G711A,
    G711U,
    G7221,
    G7231,
    G729,
    SvacAudio,
    Aac,
    Unknown(u8),
}

impl Codec {
    /// Codec of a PSM `stream_type` (GB/T 28181-2022 annex C; MPEG registered values).
    #[must_use]
    pub const fn from_stream_type(stream_type: u8) -> Self {
        match stream_type {
            0x10 => Self::Mpeg4,
            0x1B => Self::H264,
            0x24 => Self::H265,
            0x80 => Self::Svac,
            0x90 => Self::G711A,
            0x91 => Self::G711U,
            0x92 => Self::G7221,
            0x93 => Self::G7231,
            0x99 => Self::G729,
            0x9B => Self::SvacAudio,
            0x0F => Self::Aac,
            other => Self::Unknown(other),
        }
    }

    /// Stable name used in events, statistics and the JSON of the outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
            Self::Mpeg4 => "MPEG4",
            Self::Svac => "SVAC",
            Self::G711A => "G711A",
            Self::G711U => "G711U",
            Self::G7221 => "G722.1",
            Self::G7231 => "G723.1",
            Self::G729 => "G729",
            Self::SvacAudio => "SVACA",
            Self::Aac => "AAC",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Track the codec belongs to; `None` for `Unknown`.
    #[must_use]
    pub const fn track(self) -> Option<Track> {
        match self {
            Self::H264 | Self::H265 | Self::Mpeg4 | Self::Svac => Some(Track::Video),
            Self::Unknown(_) => None,
            _ => Some(Track::Audio),
        }
    }
}

/// One picture or one audio unit: the only stored form of media. Shared by reference, never copied per viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    pub track: Track,
    pub codec: Codec,
    /// 90 kHz, unwrapped. Strictly increasing per track, except where B pictures put `pts` before an earlier one.
    pub pts: i64,
    /// 90 kHz, unwrapped, strictly increasing per track; equals `pts` without B pictures.
    pub dts: i64,
    /// Decoding may start here. Always true for audio.
    pub key: bool,
    /// Units of this track were lost or discarded just before this one.
    pub discontinuity: bool,
    /// Video: Annex B with 4-byte start codes, parameter sets on every key picture (MPEG-4, SVAC: as sent).
    /// Audio: raw samples or frames (G.711, G.72x), or exactly one ADTS frame (AAC).
    pub data: Bytes,
    /// Engine clock (`clock::Now::mono_us`) when the last packet of the unit came.
    pub arrived_us: u64,
}

/// Parameter sets without start codes, in the order of the stream. Bounded: 16 of each kind, 4 KiB each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterSets {
    /// H.265 only.
    pub vps: Vec<Bytes>,
    /// MPEG-4: the whole configuration (VOS … VOL) with its start codes, as one element.
    pub sps: Vec<Bytes>,
    pub pps: Vec<Bytes>,
}

impl ParameterSets {
    /// Whether a decoder of `codec` can be set up from these.
    #[must_use]
    pub fn complete(&self, codec: Codec) -> bool {
        match codec {
            Codec::H264 => !self.sps.is_empty() && !self.pps.is_empty(),
            Codec::H265 => !self.vps.is_empty() && !self.sps.is_empty() && !self.pps.is_empty(),
            _ => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTrack {
    pub codec: Codec,
    pub parameter_sets: ParameterSets,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTrack {
    pub codec: Codec,
    /// Hertz.
    pub sample_rate: u32,
    pub channels: u8,
    /// AAC: AudioSpecificConfig (ISO/IEC 14496-3, 2 bytes); otherwise empty.
    pub config: Bytes,
}

/// What a stream carries now. `version` grows with every change: a muxer that sees a new one starts over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    pub version: u64,
    pub video: Option<VideoTrack>,
    pub audio: Option<AudioTrack>,
    /// Every track the PSM announced was seen, or the wait for it is over; muxers may write their headers.
    pub settled: bool,
}

/// A value in an event's detail or in a statistics record.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Float(f64),
    Text(String),
}

/// Kinds of events, named as Python sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    SourceStarted,
    FirstFrame,
    Tracks,
    SourceLost,
    SourceTcpClosed,
    SourceRejected,
    ViewerOpened,
    ViewerClosed,
    LeaseExpired,
}

impl EventKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceStarted => "source_started",
            Self::FirstFrame => "first_frame",
            Self::Tracks => "tracks",
            Self::SourceLost => "source_lost",
            Self::SourceTcpClosed => "source_tcp_closed",
            Self::SourceRejected => "source_rejected",
            Self::ViewerOpened => "viewer_opened",
            Self::ViewerClosed => "viewer_closed",
            Self::LeaseExpired => "lease_expired",
        }
    }
}

/// One thing that happened to a session, for Python. Carries opaque keys only, never address codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: EventKind,
    pub session: Arc<str>,
    pub lease: Option<Arc<str>>,
    pub detail: Vec<(&'static str, Value)>,
}
