//! The fuzz targets on stable: a deterministic loop of mutations over a corpus of good and bad streams (row M1).
//!
//! `MINGJIAN_FUZZ_RUNS` sets the number of runs of each target (default 100 000; five
//! targets). A failure prints nothing but the panic; the run is repeatable, because nothing in it is by chance.

mod common;
#[path = "../fuzz/targets.rs"]
mod targets;

use common::*;
use gbmedia::types::Codec;

fn runs() -> usize {
    std::env::var("MINGJIAN_FUZZ_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

fn cameras() -> Vec<Camera> {
    let base = |codec| Camera { key_size: 260, size: 90, gop: 3, sound: 40, ..Camera::new(codec) };
    vec![
        base(Codec::H264),
        base(Codec::H265),
        base(Codec::Mpeg4),
        base(Codec::Svac),
        Camera { map: Vec::new(), ..base(Codec::H264) },
        Camera { pes_length: Some(0), ..base(Codec::H264) },
        Camera { pes_payload: 60, ..base(Codec::H265) },
        Camera {
            private: [pes(0xBD, None, &[1; 30], None), pes(0xBE, None, &[0xFF; 9], None)].concat(),
            ..base(Codec::H264)
        },
        Camera { no_pts: true, markers: false, ..base(Codec::H264) },
    ]
}

/// Whole program streams, and the pathological.
fn ps_corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = cameras()
        .iter()
        .flat_map(|camera| {
            [1_u8, 7, 255].map(|size| [&[size][..], &(0..4).flat_map(|n| camera.ps(n)).collect::<Vec<u8>>()].concat())
        })
        .collect();
    for pattern in
        [&[0, 0, 1][..], &[0, 0, 1, 0xBC, 0xFF, 0xFF], &[0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 0xFF], &[0], &[0, 0, 1, 0xBA]]
    {
        corpus.push(pattern.iter().copied().cycle().take(900).collect());
    }
    corpus
}

/// Packets in the format of `pipeline_one`.
fn pipeline_corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for (index, camera) in (0_u8..).zip(cameras()) {
        let mut input = vec![index & 3];
        for number in 0..6 {
            let ps = camera.ps(number);
            let count = ps.len().div_ceil(120);
            for (piece_index, piece) in ps.chunks(120).enumerate() {
                let marker = u8::from(piece_index + 1 == count) << 7;
                let step = if piece_index == 0 { 4 | 2 << 3 } else { 0 };
                input.extend_from_slice(&[marker | step, 0]);
                input.extend_from_slice(&(piece.len() as u16).to_be_bytes());
                input.extend_from_slice(piece);
            }
        }
        corpus.push(input);
    }
    let adts = [&[0xFF, 0xF1, 0x60, 0x40, 0x02, 0x5F, 0xFC][..], &[9; 11]].concat();
    let sound = [pack_header(0), psm(&[(0x0F, 0xC0)]), pes(0xC0, Some(9), &adts.repeat(3), None)].concat();
    let sound = [&[0x84, 0][..], &(sound.len() as u16).to_be_bytes(), &sound].concat();
    corpus.push([&[0][..], &sound.repeat(4)].concat());
    for kind in [3_u8, 4, 5, 6] {
        let codec = if kind == 4 { Codec::H265 } else { Codec::H264 };
        let mut input = vec![0];
        for number in 0..8 {
            let es = picture(codec, number % 3 == 0, number, 80);
            let payload = if kind == 6 { &es[..] } else { &es[4..] };
            input.extend_from_slice(&[0x80 | 4 | 2 << 3, kind]);
            input.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            input.extend_from_slice(payload);
        }
        corpus.push(input);
    }
    corpus
}

fn packet_corpus() -> Vec<Vec<u8>> {
    let camera = Camera { mtu: 54, key_size: 200, size: 60, ..Camera::new(Codec::H264) };
    let flat: Vec<u8> = camera
        .rtp(0..6, 65_533)
        .into_iter()
        .flat_map(|mut packet| {
            packet.resize(66, 0);
            packet
        })
        .collect();
    vec![[&[9][..], &flat].concat(), [&[0][..], &flat].concat()]
}

fn framing_corpus() -> Vec<Vec<u8>> {
    let packets = Camera { mtu: 90, key_size: 200, size: 60, ..Camera::new(Codec::H264) }.rtp(0..6, 0);
    let plain: Vec<u8> =
        packets.iter().flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat()).collect();
    let dollar: Vec<u8> = packets
        .iter()
        .flat_map(|packet| [&[b'$', 0], &(packet.len() as u16).to_be_bytes()[..], packet].concat())
        .collect();
    let preamble = [&[1, 0, 0, 2][..], &[0; 252], &dollar].concat();
    [plain, dollar, preamble].iter().flat_map(|flow| [1, 50, 255].map(|size| [&[size][..], flow].concat())).collect()
}

/// One to eight changes: flip, set to an interesting value, insert, remove, repeat, splice with another seed.
fn mutate(seed: &[u8], other: &[u8], noise: &mut Noise) -> Vec<u8> {
    const INTERESTING: [u8; 12] = [0, 1, 0xBA, 0xBB, 0xBC, 0xBD, 0xC0, 0xE0, 0x7F, 0x80, 0xFF, 0x24];
    let mut data = seed.to_vec();
    for _ in 0..=noise.below(8) {
        if data.is_empty() {
            return data;
        }
        let at = noise.below(data.len());
        match noise.below(8) {
            0 => data[at] ^= 1 << noise.below(8),
            1 | 2 => data[at] = INTERESTING[noise.below(INTERESTING.len())],
            3 => data.truncate(at),
            4 => {
                let end = (at + noise.below(60)).min(data.len());
                data.drain(at..end);
            }
            5 => {
                let end = (at + noise.below(60)).min(data.len());
                let copy = data[at..end].to_vec();
                data.splice(at..at, copy);
            }
            6 => drop(data.splice(at..at, [0, 0, 1, INTERESTING[noise.below(INTERESTING.len())]])),
            _ => {
                let from = noise.below(other.len().max(1));
                let end = (from + noise.below(200)).min(other.len());
                data.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    data
}

/// Writes the corpus as seeds for cargo-fuzz where `MINGJIAN_FUZZ_SEEDS` names a directory.
fn save(name: &str, corpus: &[Vec<u8>]) {
    let Some(directory) = std::env::var_os("MINGJIAN_FUZZ_SEEDS") else { return };
    let directory = std::path::Path::new(&directory).join(name);
    std::fs::create_dir_all(&directory).unwrap();
    for (index, input) in corpus.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{index:03}")), input).unwrap();
    }
}

fn drive(name: &str, corpus: &[Vec<u8>], target: fn(&[u8]), seed: u64) {
    save(name, corpus);
    corpus.iter().for_each(|input| target(input));
    let mut noise = Noise(seed);
    let mut current = corpus.to_vec();
    for run in 0..runs() {
        let (slot, other) = (noise.below(current.len()), noise.below(corpus.len()));
        let mutated = mutate(&current[slot], &corpus[other], &mut noise);
        target(&mutated);
        // Wander away from the seeds, and come back now and then.
        current[slot] = if run % 7 == 0 || mutated.len() > 8_000 { corpus[slot].clone() } else { mutated };
    }
}

#[test]
fn rtp_headers() {
    let corpus: Vec<Vec<u8>> = Camera::new(Codec::H264).rtp(0..2, 0).into_iter().map(|mut p| p.split_off(0)).collect();
    drive("rtp", &corpus, targets::rtp_one, 1);
}

#[test]
fn program_streams() {
    drive("ps", &ps_corpus(), targets::ps_one, 2);
}

#[test]
fn pipeline() {
    drive("pipeline", &pipeline_corpus(), targets::pipeline_one, 3);
}

#[test]
fn packets() {
    drive("packets", &packet_corpus(), targets::packets_one, 4);
}

#[test]
fn framing() {
    drive("framing", &framing_corpus(), targets::framing_one, 5);
}
