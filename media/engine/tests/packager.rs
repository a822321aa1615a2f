//! The packager and the two containers without sockets: bounds of the ring, timelines, H.265, B pictures, durations.

mod support;

use bytes::Bytes;
use gbmedia::mux::{KEEP_BYTES, Packager, RING_BYTES, RING_SAMPLES};
use gbmedia::types::{AccessUnit, AudioTrack, Codec, Track, Tracks, VideoTrack};
use gbmedia::{flv, fmp4};
use support::*;

/// x265, Main, 1280×720, level 3.1.
const SPS_265: [u8; 41] = [
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d, 0xa0,
    0x02, 0x80, 0x80, 0x2d, 0x16, 0x59, 0x59, 0xa4, 0x93, 0x2b, 0xc0, 0x40, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00,
    0x00, 0x06, 0x42,
];

fn at(packager: &Packager, sequence: u64) -> &gbmedia::mux::Sample {
    packager.get(sequence).unwrap()
}

fn duration(sample: &gbmedia::mux::Sample) -> u32 {
    let mut head = Vec::new();
    fmp4::head(sample, 0, &mut head);
    head.extend_from_slice(&sample.body);
    let boxes = boxes(&head);
    u32::from_be_bytes(find(&boxes, "/moof/traf/trun")[12..16].try_into().unwrap())
}

#[test]
fn the_ring_keeps_the_newest_group_and_little_before_it() {
    let mut packager = Packager::new();
    for index in 0..200 {
        packager.push(&picture(index, (index % 50 == 0).then_some(&SPS[..]), 20_000), &tracks(None));
    }
    assert_eq!(packager.last_entry(), Some(150));
    assert!(packager.get(150).is_some());
    // 3 s at 40 ms are 75 pictures: 124 … 199 stay.
    assert!(packager.get(124).is_some() && packager.get(123).is_none());
    assert_eq!(packager.next_sequence(), 200);
}

#[test]
fn a_group_without_end_stays_within_the_bounds() {
    let mut packager = Packager::new();
    packager.push(&picture(0, Some(&SPS), 100), &tracks(None));
    for index in 1..200 {
        packager.push(&picture(index, None, 100_000), &tracks(None));
    }
    assert_eq!(packager.last_entry(), None, "its key picture has left the ring");
    let held = (0..200).filter(|sequence| packager.get(*sequence).is_some()).count() as u64;
    assert!(held * 100_000 <= RING_BYTES && held * 100_000 > KEEP_BYTES);
    for index in 200..200 + RING_SAMPLES as i64 * 2 {
        packager.push(&picture(index, None, 10), &tracks(None));
    }
    let held = (0..10_000).filter(|sequence| packager.get(*sequence).is_some()).count();
    assert_eq!(held, RING_SAMPLES);
}

#[test]
fn nothing_is_made_before_a_readable_parameter_set() {
    let mut packager = Packager::new();
    packager.push(&picture(0, None, 100), &tracks(None));
    packager.push(&picture(1, Some(&[0x67, 0x64]), 100), &tracks(None));
    packager.push(&sound(Codec::G711A, 2), &tracks(Some(Codec::G711A)));
    assert_eq!((packager.next_sequence(), packager.unplayable()), (0, 3));
    packager.push(&picture(2, Some(&SPS), 100), &tracks(None));
    packager.push(&picture(3, Some(&[0x67, 0x64]), 100), &tracks(None));
    assert_eq!(packager.next_sequence(), 2, "an unreadable set leaves the old one in force");
    assert_eq!(at(&packager, 1).config.generation, 1);
}

#[test]
fn durations_cover_the_next_step_when_the_rate_is_steady_or_jitters() {
    let mut packager = Packager::new();
    let steps = [0, 3600, 7200, 10_800, 14_400, 16_000, 21_600, 25_200, 26_000, 32_400];
    for (index, step) in steps.iter().enumerate() {
        let mut unit = picture(index as i64, (index == 0).then_some(&SPS[..]), 50);
        (unit.dts, unit.pts) = (500 + step, 500 + step);
        packager.push(&unit, &tracks(None));
    }
    for sequence in 0..steps.len() as u64 - 1 {
        let (this, next) = (at(&packager, sequence), at(&packager, sequence + 1));
        let step = next.dts - this.dts;
        // Media Source Extensions §3.5.8 step 6: more than twice the last duration is a discontinuity.
        assert!(step <= 2 * i64::from(duration(this)), "{step} after {}", duration(this));
    }
    assert_eq!(duration(at(&packager, 3)), 3600);
}

#[test]
fn b_pictures_carry_their_composition_offset() {
    let mut packager = Packager::new();
    packager.push(&picture(0, Some(&SPS), 50), &tracks(None));
    let mut unit = picture(1, None, 50);
    unit.pts = unit.dts + 7200;
    packager.push(&unit, &tracks(None));
    let sample = at(&packager, 1);
    let mut head = Vec::new();
    assert!(flv::head(sample, 40, &mut head));
    assert_eq!(&head[11..], [0x27, 1, 0, 0, 80]);
    let mut moof = Vec::new();
    fmp4::head(sample, 0, &mut moof);
    assert_eq!(moof[moof.len() - 12..moof.len() - 8], 7200u32.to_be_bytes());
}

#[test]
fn h265_goes_out_as_hvc1() {
    let mut packager = Packager::new();
    let video = Some(VideoTrack { codec: Codec::H265, parameter_sets: Default::default() });
    let tracks = Tracks { version: 1, video, audio: None, settled: true };
    let slice = [0x26, 1, 7, 7, 7];
    let data = annex_b(&[&[0x46, 1, 0x50], &[0x40, 1, 0x0c], &SPS_265, &[0x44, 1, 0xc1], &[0x4e, 1, 5], &slice]);
    let unit = AccessUnit { codec: Codec::H265, data, ..picture(0, Some(&SPS), 10) };
    packager.push(&unit, &tracks);
    let sample = at(&packager, 0);
    assert_eq!(&sample.body[..], [&[0, 0, 0, 3, 0x4e, 1, 5, 0, 0, 0, 5][..], &slice].concat(), "SEI stays, sets go");
    let mut out = Vec::new();
    flv::sequence_headers(&sample.config, true, 0, &mut out);
    assert_eq!(out[11..16], [0x90, b'h', b'v', b'c', b'1']);
    let mut head = Vec::new();
    assert!(flv::head(sample, 0, &mut head));
    assert_eq!(head[11..], [0x93, b'h', b'v', b'c', b'1']);
    assert_eq!(fmp4::codecs(&sample.config, true), "hvc1.1.6.L93.90");
    let init = fmp4::init(&sample.config, true);
    let boxes = boxes(&init);
    let stsd = find(&boxes, "/moov/trak/mdia/minf/stbl/stsd");
    assert_eq!(&stsd[12..16], b"hvc1");
    assert!(stsd.windows(4).any(|kind| kind == b"hvcC"));
}

#[test]
fn audio_joins_at_a_key_picture_and_never_restarts_the_player_between() {
    let mut packager = Packager::new();
    packager.push(&picture(0, Some(&SPS), 50), &tracks(None));
    packager.push(&sound(Codec::Aac, 1), &tracks(Some(Codec::Aac)));
    packager.push(&picture(1, None, 50), &tracks(Some(Codec::Aac)));
    packager.push(&picture(2, Some(&SPS), 50), &tracks(Some(Codec::Aac)));
    packager.push(&sound(Codec::Aac, 4), &tracks(Some(Codec::Aac)));
    let generations: Vec<_> = (0..4).map(|sequence| at(&packager, sequence).config.generation).collect();
    assert_eq!(generations, [1, 1, 2, 2]);
    assert_eq!(at(&packager, 3).track, Track::Audio);
}

#[test]
fn a_stream_of_sound_alone_can_be_entered_anywhere() {
    let mut packager = Packager::new();
    let audio = Some(AudioTrack { codec: Codec::G711U, sample_rate: 8000, channels: 1, config: Bytes::new() });
    let tracks = Tracks { version: 1, video: None, audio, settled: true };
    for index in 0..3 {
        packager.push(&sound(Codec::G711U, index), &tracks);
    }
    assert_eq!(packager.last_entry(), Some(2));
    let config = &at(&packager, 2).config;
    let mut out = Vec::new();
    flv::file_header(config, true, &mut out);
    assert_eq!(out[4], 4);
    let mut head = Vec::new();
    assert!(flv::head(at(&packager, 2), 0, &mut head));
    assert_eq!(head[11], 0x82);
    assert!(!fmp4::playable(config, true), "no browser plays it from fMP4");
}

/// Reproducible noise (Marsaglia's xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn bent_units_never_panic_and_never_turn_time_back() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut packager = Packager::new();
    let mut seen = 0;
    let mut last = [i64::MIN; 2];
    for index in 0..20_000 {
        let codec = [Codec::H264, Codec::H265, Codec::Aac, Codec::G711A, Codec::Svac][noise.next(5) as usize];
        let mut unit = match codec {
            Codec::Aac | Codec::G711A => sound(codec, index),
            _ => picture(index, (noise.next(4) == 0).then_some(&SPS[..]), 40),
        };
        unit.codec = codec;
        let mut data = unit.data.to_vec();
        for _ in 0..noise.next(4) {
            let at = noise.next(data.len() as u64) as usize;
            data[at] ^= 1 << noise.next(8);
        }
        data.truncate(noise.next(data.len() as u64 * 3) as usize + 1);
        unit.data = Bytes::from(data);
        if noise.next(50) == 0 {
            unit.dts = [i64::MIN, i64::MAX, 0, -1, 1 << 33][noise.next(5) as usize];
        }
        let audio = [None, Some(Codec::Aac), Some(Codec::G711A)][noise.next(3) as usize];
        packager.push(&unit, &tracks(audio));
        while let Some(sample) = packager.get(seen) {
            let mut out = Vec::new();
            flv::sequence_headers(&sample.config, true, 0, &mut out);
            flv::head(sample, 0, &mut out);
            fmp4::head(sample, sample.dts, &mut out);
            boxes(&fmp4::init(&sample.config, true));
            let track = usize::from(sample.track == Track::Audio);
            assert!(sample.dts >= last[track], "{} after {}", sample.dts, last[track]);
            last[track] = sample.dts;
            seen += 1;
        }
    }
    assert!(seen > 2_000, "{seen} samples were made");
}
