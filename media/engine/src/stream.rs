//! One source's way from RTP packets to access units: reorder, recognise the payload, demultiplex, build.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::es::{self, Depacketizer, Packing};
use crate::frames::{FrameStats, Frames, LossPolicy, Output};
use crate::ps::{PsDemux, PsStats, StreamMap};
use crate::reorder::{Ordered, Reorder, ReorderLimits, ReorderStats};
use crate::rtp::Rtp;

/// Unrecognised packets after which payload type 96 is taken for a program stream whose packs begin anywhere.
const UNDECIDED: u32 = 64;
/// Time stamps that changed inside a PES packet, after which they no longer end pictures.
const TIME_FAULTS: u32 = 3;
/// Hikvision file header at the beginning of some downloads.
const IMKH: usize = 40;

/// What the payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Undecided,
    Ps,
    Es(Packing),
    /// Recognised, but not carried on: MPEG-TS, Dahua's DHAV.
    Unsupported(&'static str),
}

impl Container {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Ps => "PS",
            Self::Es(_) => "ES",
            Self::Unsupported(name) => name,
        }
    }
}

/// Ingest of one pinned source.
#[derive(Debug)]
pub struct Stream {
    reorder: Reorder,
    inner: Inner,
}

#[derive(Debug)]
struct Inner {
    container: Container,
    undecided: u32,
    time_faults: u32,
    broken: bool,
    demux: PsDemux,
    depacketizer: Depacketizer,
    frames: Frames,
}

impl Stream {
    /// `reliable`: the packets come through TCP, in order.
    #[must_use]
    pub fn new(reliable: bool, policy: LossPolicy) -> Self {
        Self {
            reorder: Reorder::new(ReorderLimits::default(), reliable),
            inner: Inner {
                container: Container::Undecided,
                undecided: 0,
                time_faults: 0,
                broken: false,
                demux: PsDemux::new(),
                depacketizer: Depacketizer::default(),
                frames: Frames::new(policy),
            },
        }
    }

    /// Takes one packet; what is finished waits in `drain`.
    pub fn push(&mut self, rtp: &Rtp<'_>, now_us: u64) {
        let Self { reorder, inner } = self;
        reorder.push(rtp, now_us, &mut |packet| inner.packet(&packet));
    }

    /// Bytes were lost on the way without a gap in the sequence numbers (framing over TCP).
    pub fn broken(&mut self) {
        self.inner.broken = true;
    }

    /// Must be called at `deadline_us`.
    pub fn flush(&mut self, now_us: u64) {
        let Self { reorder, inner } = self;
        reorder.flush(now_us, &mut |packet| inner.packet(&packet));
    }

    /// When `flush` must be called; `None` while nothing waits.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        self.reorder.deadline_us()
    }

    #[must_use]
    pub fn has_output(&self) -> bool {
        self.inner.frames.has_output()
    }

    pub fn drain(&mut self) -> std::vec::Drain<'_, Output> {
        self.inner.frames.drain()
    }

    #[must_use]
    pub fn container(&self) -> Container {
        self.inner.container
    }

    #[must_use]
    pub fn reorder_stats(&self) -> ReorderStats {
        self.reorder.stats()
    }

    #[must_use]
    pub fn frame_stats(&self) -> FrameStats {
        self.inner.frames.stats()
    }

    #[must_use]
    pub fn ps_stats(&self) -> PsStats {
        self.inner.demux.stats()
    }

    /// Bytes held for this source before the hub; at most about 6 MiB.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.reorder.held_bytes() + self.inner.frames.held()
    }
}

impl Inner {
    fn packet(&mut self, packet: &Ordered<'_>) {
        let mut payload = packet.payload;
        if payload.starts_with(b"IMKH") {
            payload = payload.get(IMKH..).unwrap_or_default();
        }
        if self.container != Container::Ps {
            self.recognise(packet.payload_type, payload);
        }
        let lost = std::mem::take(&mut self.broken) || packet.lost > 0;
        if lost {
            self.frames.lost();
            self.depacketizer.lost();
            self.demux.restart();
        }
        match self.container {
            Container::Ps => self.ps(packet, payload, lost),
            container => match (es::audio_by_payload_type(packet.payload_type), container) {
                (Some(codec), _) => self.frames.audio_packet(codec, payload, packet.timestamp, packet.arrived_us),
                (None, Container::Es(packing)) => self.es(packing, packet, payload, lost),
                _ => {}
            },
        }
    }

    fn recognise(&mut self, payload_type: u8, payload: &[u8]) {
        if system_layer(payload) || (self.container == Container::Undecided && cut_short(payload)) {
            self.container = Container::Ps;
            return;
        }
        if self.container != Container::Undecided || es::audio_by_payload_type(payload_type).is_some() {
            return;
        }
        let start_code = payload.starts_with(&[0, 0, 1]) || payload.starts_with(&[0, 0, 0, 1]);
        let known = es::by_payload_type(payload_type);
        self.undecided += 1;
        self.container = match known {
            Some((packing, codec)) => {
                self.frames.declare(StreamMap { video: Some(codec), audio: None });
                Container::Es(if start_code { Packing::Bytes } else { packing })
            }
            None if start_code => Container::Es(Packing::Bytes),
            None if transport_stream(payload) => Container::Unsupported("MPEG-TS"),
            None if payload.starts_with(b"DHAV") => Container::Unsupported("DHAV"),
            None if self.undecided >= UNDECIDED => Container::Ps,
            None => Container::Undecided,
        };
    }

    fn ps(&mut self, packet: &Ordered<'_>, payload: &[u8], lost: bool) {
        let pack = payload.starts_with(&[0, 0, 1, 0xBA]);
        if self.frames.is_new_time(packet.timestamp) && self.time_faults < TIME_FAULTS {
            if self.demux.mid_pes() && !system_layer(payload) {
                // The time stamp changed inside a PES packet: it does not mark pictures.
                self.time_faults += 1;
            } else {
                self.demux.flush(&mut self.frames);
                self.frames.finish();
            }
        }
        // No picture contains a pack header: a PES length that reaches over it is wrong.
        if pack && self.demux.mid_pes() {
            self.demux.restart();
        }
        self.frames.begin_packet(packet.timestamp, packet.arrived_us);
        if lost && !pack {
            self.frames.taint();
        }
        self.demux.push(payload, &mut self.frames);
        if packet.marker && self.frames.markers_trusted() && !self.demux.mid_pes() {
            self.demux.flush(&mut self.frames);
            self.frames.marker();
        }
    }

    fn es(&mut self, packing: Packing, packet: &Ordered<'_>, payload: &[u8], lost: bool) {
        if self.frames.is_new_time(packet.timestamp) {
            self.frames.finish();
        }
        self.frames.begin_packet(packet.timestamp, packet.arrived_us);
        if lost {
            self.frames.taint();
        }
        if !self.depacketizer.packet(packing, payload, &mut self.frames) {
            self.frames.taint();
        }
        if packet.marker && self.frames.markers_trusted() {
            self.frames.marker();
        }
    }
}

/// Begins with a start code that occurs only in a program stream.
fn system_layer(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, 0xBA..=0xEF, ..])
}

/// Cut inside its first start code; what follows is most likely a program stream.
fn cut_short(payload: &[u8]) -> bool {
    matches!(payload, [0] | [0, 0] | [0, 0, 1])
}

fn transport_stream(payload: &[u8]) -> bool {
    payload.len() >= 376
        && payload.len().is_multiple_of(188)
        && payload.chunks(188).all(|packet| packet.first() == Some(&0x47))
}
