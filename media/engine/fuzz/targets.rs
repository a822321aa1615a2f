//! What is fuzzed, as plain functions: driven by cargo-fuzz (nightly) and by `tests/fuzz.rs` (stable, deterministic).
//!
//! Each checks more than "no panic": memory stays within its bound and what comes out is well formed.
#![allow(dead_code)]

use gbmedia::frames::{LossPolicy, Output};
use gbmedia::framing::Framer;
use gbmedia::ps::{PsDemux, PsSink, StreamMap};
use gbmedia::rtp;
use gbmedia::stream::Stream;
use gbmedia::types::{Codec, Track};
use std::ops::ControlFlow;

/// Memory one source may hold before the hub.
const HELD_LIMIT: usize = 8 << 20;

/// RTP header: the payload lies inside the packet.
pub fn rtp_one(data: &[u8]) {
    if let Ok(packet) = rtp::parse(data) {
        assert!(packet.payload.len() + rtp::HEADER <= data.len());
    }
}

#[derive(Default)]
struct Checked {
    bytes: usize,
    open: bool,
}

impl PsSink for Checked {
    fn pack(&mut self) {}
    fn system_header(&mut self) {}
    fn map(&mut self, map: &StreamMap) {
        assert!(map.video.is_some() || map.audio.is_some());
    }
    fn pes(&mut self, _: Track, pts: Option<u64>, dts: Option<u64>) {
        assert!(pts.unwrap_or(0) >> 33 == 0 && dts.unwrap_or(0) >> 33 == 0);
        self.open = true;
    }
    fn data(&mut self, _: Track, bytes: &[u8]) {
        assert!(self.open, "payload before any PES header");
        self.bytes += bytes.len();
    }
    fn pes_end(&mut self, _: Track) {}
}

/// PS bytes in pieces; the first byte chooses the size of the pieces. Payload out is never more than bytes in.
pub fn ps_one(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let (mut demux, mut sink) = (PsDemux::new(), Checked::default());
    for piece in data.chunks(usize::from(size).max(1)) {
        demux.push(piece, &mut sink);
    }
    demux.flush(&mut sink);
    assert!(sink.bytes <= data.len());
}

/// RTP packets through the whole pipeline. Input: repeated (2 flag bytes, 2-byte length, bytes). Flags: skip a
/// sequence number, step the time, marker, payload type, pass time; so that mutations reach the payload parsers.
pub fn pipeline_one(data: &[u8]) {
    let Some((&mode, mut rest)) = data.split_first() else { return };
    let policy = if mode & 2 == 0 { LossPolicy::Conceal } else { LossPolicy::UntilKey };
    let mut stream = Stream::new(mode & 1 == 1, policy);
    let (mut seq, mut time, mut now_us) = (65_530_u16, 0_u32, 1_000_000_u64);
    let mut last = [i64::MIN; 2];
    while let Some((&[flags, kind, hi, lo], tail)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([hi, lo])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        rest = tail;
        seq = seq.wrapping_add(1).wrapping_add(u16::from(flags & 3 == 3) * u16::from(kind));
        time = time
            .wrapping_add(if flags & 4 != 0 { 3_600 } else { 0 })
            .wrapping_add(u32::from(flags & 0x60 == 0x60) << 28);
        now_us += u64::from(flags >> 3 & 3) * 20_000;
        let payload_type = [96, 96, 96, 98, 100, 8, 97, 0][usize::from(kind & 7)];
        let packet = rtp::Rtp { marker: flags & 0x80 != 0, payload_type, seq, timestamp: time, ssrc: 1, payload };
        stream.push(&packet, now_us);
        check(&mut stream, &mut last);
    }
    stream.flush(now_us + 1_000_000);
    check(&mut stream, &mut last);
}

fn check(stream: &mut Stream, last: &mut [i64; 2]) {
    assert!(stream.held_bytes() <= HELD_LIMIT, "holds {}", stream.held_bytes());
    for output in stream.drain() {
        let Output::Unit(unit) = output else { continue };
        let slot = &mut last[usize::from(unit.track == Track::Audio)];
        assert!(unit.dts > *slot, "times go back: {slot} then {}", unit.dts);
        *slot = unit.dts;
        assert!(unit.pts >= unit.dts && unit.pts - unit.dts <= 90_000 && !unit.data.is_empty());
        if matches!(unit.codec, Codec::H264 | Codec::H265) {
            assert!(unit.data.starts_with(&[0, 0, 0, 1]), "not normalised");
        }
    }
}

/// Raw RTP bytes (headers included) into the pipeline: packets of the length the first byte says.
pub fn packets_one(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let mut stream = Stream::new(false, LossPolicy::Conceal);
    let mut last = [i64::MIN; 2];
    for (index, piece) in (0_u64..).zip(data.chunks(usize::from(size) * 6 + 12)) {
        if let Ok(packet) = rtp::parse(piece) {
            stream.push(&packet, index * 3_000);
            check(&mut stream, &mut last);
        }
    }
}

/// TCP framing in pieces; the first byte chooses the size of the pieces.
pub fn framing_one(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let (mut framer, mut given) = (Framer::new(), 0);
    for piece in data.chunks(usize::from(size).max(1)) {
        let outcome = framer.receive(piece, |framer, packet| {
            given += packet.len();
            assert!(packet.len() >= rtp::HEADER);
            if let Ok(packet) = rtp::parse(packet) {
                framer.bind(packet.ssrc);
            }
            ControlFlow::Continue(())
        });
        assert!(framer.held() <= (64 << 10) + 256 + 16);
        if outcome.is_err() {
            break;
        }
    }
    assert!(given <= data.len());
}
