//! Elementary streams carried in RTP without a program stream (MED-21): H.264 (RFC 6184), H.265 (RFC 7798), or the
//! plain byte stream cut into packets.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::ps::PsSink;
use crate::types::{Codec, Track};

const START: [u8; 4] = [0, 0, 0, 1];

/// How the elementary stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 6184 (non-interleaved).
    H264,
    /// RFC 7798 (without DONL).
    H265,
    /// Byte stream with start codes, cut anywhere.
    Bytes,
}

/// A fragmented NAL unit in progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depacketizer {
    in_fragment: bool,
}

impl Depacketizer {
    /// Packets were lost: the NAL unit in progress cannot be completed.
    pub fn lost(&mut self) {
        self.in_fragment = false;
    }

    /// Takes one payload. False when it makes no sense; then nothing of it was passed on.
    pub fn packet(&mut self, packing: Packing, payload: &[u8], sink: &mut impl PsSink) -> bool {
        match packing {
            Packing::Bytes => {
                sink.data(Track::Video, payload);
                true
            }
            Packing::H264 => self.h264(payload, sink),
            Packing::H265 => self.h265(payload, sink),
        }
    }

    fn h264(&mut self, payload: &[u8], sink: &mut impl PsSink) -> bool {
        match *payload {
            [indicator, header, ref rest @ ..] if indicator & 0x1F == 28 => {
                let nal_header = [indicator & 0xE0 | header & 0x1F];
                self.fragment(header, &nal_header, rest, sink)
            }
            [indicator, ref rest @ ..] if indicator & 0x1F == 24 => aggregate(rest, sink),
            [header, ..] if matches!(header & 0x1F, 1..=23) => single(payload, sink),
            _ => false,
        }
    }

    fn h265(&mut self, payload: &[u8], sink: &mut impl PsSink) -> bool {
        match *payload {
            [first, second, header, ref rest @ ..] if first >> 1 & 0x3F == 49 => {
                let nal_header = [first & 0x81 | (header & 0x3F) << 1, second];
                self.fragment(header, &nal_header, rest, sink)
            }
            [first, _, ref rest @ ..] if first >> 1 & 0x3F == 48 => aggregate(rest, sink),
            [first, _, _, ..] if first >> 1 & 0x3F < 48 => single(payload, sink),
            _ => false,
        }
    }

    /// FU-A of both RFCs: start bit 0x80, end bit 0x40.
    fn fragment(&mut self, header: u8, nal_header: &[u8], rest: &[u8], sink: &mut impl PsSink) -> bool {
        if header & 0x80 != 0 {
            self.in_fragment = true;
            sink.data(Track::Video, &START);
            sink.data(Track::Video, nal_header);
        }
        if !self.in_fragment {
            return false;
        }
        sink.data(Track::Video, rest);
        self.in_fragment = header & 0x40 == 0;
        true
    }
}

fn single(nal: &[u8], sink: &mut impl PsSink) -> bool {
    sink.data(Track::Video, &START);
    sink.data(Track::Video, nal);
    true
}

/// NAL units with 16-bit lengths; stops at the first that does not fit.
fn aggregate(mut rest: &[u8], sink: &mut impl PsSink) -> bool {
    let mut any = false;
    while let Some((&[hi, lo], tail)) = rest.split_first_chunk::<2>() {
        let Some((nal, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes([hi, lo]))) else { break };
        any |= !nal.is_empty() && single(nal, sink);
        rest = tail;
    }
    any
}

/// Packing and codec a payload type stands for (facts 15.3), when signalling said nothing better.
#[must_use]
pub fn by_payload_type(payload_type: u8) -> Option<(Packing, Codec)> {
    match payload_type {
        97 => Some((Packing::Bytes, Codec::Mpeg4)),
        98 | 125 | 126 => Some((Packing::H264, Codec::H264)),
        100 => Some((Packing::H265, Codec::H265)),
        _ => None,
    }
}

/// Audio codec of a payload type (facts 15.3).
#[must_use]
pub fn audio_by_payload_type(payload_type: u8) -> Option<Codec> {
    match payload_type {
        0 => Some(Codec::G711U),
        4 => Some(Codec::G7231),
        8 => Some(Codec::G711A),
        9 => Some(Codec::G7221),
        18 => Some(Codec::G729),
        20 => Some(Codec::SvacAudio),
        _ => None,
    }
}
