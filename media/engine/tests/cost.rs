//! Linear cost: hostile bytes cost no more than twice what random bytes cost, and twice the bytes twice as much (M2).
//!
//! Measured in processor time of the thread, the best of many runs, so that a busy machine does not decide the outcome.

mod common;

use common::*;
use gbmedia::frames::LossPolicy;
use gbmedia::ps::{PsDemux, PsSink, StreamMap};
use gbmedia::rtp;
use gbmedia::stream::Stream;
use gbmedia::types::{Codec, Track};

struct Nothing;

impl PsSink for Nothing {
    fn pack(&mut self) {}
    fn system_header(&mut self) {}
    fn map(&mut self, _: &StreamMap) {}
    fn pes(&mut self, _: Track, _: Option<u64>, _: Option<u64>) {}
    fn data(&mut self, _: Track, bytes: &[u8]) {
        std::hint::black_box(bytes);
    }
    fn pes_end(&mut self, _: Track) {}
}

/// Processor time of this thread in nanoseconds.
fn spent() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that lives through the call; this clock exists on every Linux.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Best time of `run` in nanoseconds.
fn best(mut run: impl FnMut()) -> u64 {
    let mut time = || {
        let start = spent();
        run();
        spent() - start
    };
    (0..100).map(|_| time()).min().unwrap()
}

fn repeated(pattern: &[u8], length: usize) -> Vec<u8> {
    pattern.iter().copied().cycle().take(length).collect()
}

fn random(length: usize) -> Vec<u8> {
    let mut noise = Noise(11);
    (0..length).map(|_| (noise.next() >> 32) as u8).collect()
}

/// Demultiplexes in pieces, if `open` after a PES header of length 0: the mode that searches every byte.
fn demux(data: &[u8], open: bool, piece: usize) -> u64 {
    best(|| {
        let mut demux = PsDemux::new();
        if open {
            demux.push(&pes(0xE0, Some(1), &[9; 20], Some(0)), &mut Nothing);
        }
        data.chunks(piece).for_each(|piece| demux.push(piece, &mut Nothing));
    })
}

/// Eight times the bytes take eight times as long, a quadratic search sixty-four times: the limit lies between.
const GROWTH: u64 = 20;

const HOSTILE: [&[u8]; 9] = [
    &[0, 0, 1],
    &[0],
    &[0, 0, 1, 0xBA],
    &[0, 0, 1, 0xBB, 0xFF, 0xFF],
    &[0, 0, 1, 0xBC, 0xFF, 0xFF],
    &[0, 0, 1, 0xBC, 3, 0xF0, 0, 0, 1],
    &[0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 0xFF],
    &[0, 0, 1, 0xBD, 0, 0],
    &[0, 0, 1, 0x65],
];

#[test]
fn hostile_start_codes_cost_at_most_twice_random_bytes() {
    let length = 64 << 10;
    for open in [false, true] {
        let usual = demux(&random(length), open, 1_400);
        let prefix = demux(&repeated(&[0, 0, 1], length), open, 1_400);
        assert!(prefix <= usual * 2, "open {open}: 00 00 01 takes {prefix} ns, random bytes {usual} ns");
    }
}

#[test]
fn every_hostile_pattern_costs_in_proportion_to_its_length() {
    for pattern in HOSTILE {
        for open in [false, true] {
            let part = demux(&repeated(pattern, 32 << 10), open, usize::MAX);
            let whole = demux(&repeated(pattern, 256 << 10), open, usize::MAX);
            println!("{pattern:x?} open {open}: {:.2} ns/byte", whole as f64 / (256.0 * 1024.0));
            assert!(whole <= part * GROWTH, "{pattern:x?} open {open}: {part} ns, then {whole} ns");
        }
    }
}

#[test]
fn hostile_pictures_through_the_whole_pipeline_cost_in_proportion() {
    let run = |pattern: &[u8], length: usize| {
        let es = [picture(Codec::H264, true, 1, 10), repeated(pattern, length)].concat();
        let ps = [pack_header(1), psm(&[(0x1B, 0xE0)]), pes(0xE0, Some(1), &es, Some(0))].concat();
        let pieces: Vec<&[u8]> = ps.chunks(1_400).collect();
        let packets: Vec<Vec<u8>> = (0..)
            .zip(&pieces)
            .map(|(seq, piece)| rtp_packet(96, seq, 1, SSRC, usize::from(seq) + 1 == pieces.len(), piece))
            .collect();
        best(|| {
            let mut stream = Stream::new(true, LossPolicy::Conceal);
            packets.iter().for_each(|packet| stream.push(&rtp::parse(packet).unwrap(), 1));
            std::hint::black_box(stream.drain().count());
        })
    };
    for pattern in [&[0, 0, 1][..], &[0, 0, 1, 0x41], &[0], &[0, 0, 1, 0x67, 100, 0, 40], &[0, 0, 3]] {
        let (part, whole) = (run(pattern, 32 << 10), run(pattern, 256 << 10));
        println!("{pattern:x?} pipeline: {:.2} ns/byte", whole as f64 / (256.0 * 1024.0));
        assert!(whole <= part * GROWTH, "{pattern:x?}: {part} ns, then {whole} ns");
    }
}
