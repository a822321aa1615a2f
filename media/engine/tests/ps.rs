//! Program streams as cameras send them, good and bad (MED-01 to MED-08, MED-20, MED-21).

mod common;

use common::*;
use gbmedia::stream::Container;
use gbmedia::types::{Codec, Track};

#[test]
fn video_codecs_by_psm() {
    for codec in [Codec::H264, Codec::H265, Codec::Mpeg4, Codec::Svac] {
        let camera = Camera::new(codec);
        let received = receive(&camera, 25);
        assert_pictures(&received, &camera, 0..25);
        assert_eq!(received.of(Track::Audio).len(), 25, "{codec:?}");
        assert_eq!(received.tracks.last().unwrap().video.as_ref().unwrap().codec, codec);
        assert!(received.tracks.last().unwrap().settled);
    }
}

#[test]
fn audio_codecs_by_psm() {
    for (stream_type, codec) in [
        (0x90, Codec::G711A),
        (0x91, Codec::G711U),
        (0x92, Codec::G7221),
        (0x93, Codec::G7231),
        (0x99, Codec::G729),
        (0x9B, Codec::SvacAudio),
    ] {
        let camera = Camera { map: vec![(0x1B, 0xE0), (stream_type, 0xC0)], sound: 240, ..Camera::new(Codec::H264) };
        let received = receive(&camera, 12);
        assert_pictures(&received, &camera, 0..12);
        let audio = received.of(Track::Audio);
        assert!(audio.len() == 12 && audio.iter().all(|unit| unit.codec == codec && unit.data.len() == 240));
        assert!(audio.windows(2).all(|pair| pair[0].pts < pair[1].pts), "{codec:?}");
    }
}

#[test]
fn unknown_audio_is_ignored_and_video_plays() {
    let camera = Camera { map: vec![(0x1B, 0xE0), (0x07, 0xC0)], ..Camera::new(Codec::H264) };
    let received = receive(&camera, 12);
    assert_pictures(&received, &camera, 0..12);
    assert!(received.of(Track::Audio).is_empty());
}

#[test]
fn aac_frames_become_single_units() {
    let frame = |fill: u8| [&[0xFF, 0xF1, 0x60, 0x40, 0x02, 0x5F, 0xFC][..], &[fill; 11]].concat();
    let mut received = Received::new(false);
    let mut packets = Vec::new();
    for number in 0..8_u16 {
        let time = u64::from(number) * 11_520;
        let two = [frame(number as u8), frame(99)].concat();
        let ps = [pack_header(time), psm(&[(0x0F, 0xC0)]), pes(0xC0, Some(time), &two, None)].concat();
        packets.push(rtp_packet(96, number, time as u32, SSRC, true, &ps));
    }
    received.feed(&packets);
    let audio = received.of(Track::Audio);
    assert_eq!(audio.len(), 16);
    assert!(audio.iter().all(|unit| unit.data.len() == 18 && unit.codec == Codec::Aac));
    assert!(audio.windows(2).all(|pair| pair[1].pts - pair[0].pts == 5_760));
    let track = received.tracks[0].audio.clone().unwrap();
    assert_eq!((track.sample_rate, track.channels, &track.config[..]), (16_000, 1, &[0x14, 0x08][..]));
}

#[test]
fn without_psm_the_pictures_prove_the_codec_within_one_group() {
    for codec in [Codec::H264, Codec::H265, Codec::Mpeg4] {
        let camera = Camera { map: Vec::new(), ..Camera::new(codec) };
        assert_pictures(&receive(&camera, 25), &camera, 0..25);
        // Joined in the middle of a group: nothing is guessed before the key picture.
        let mut late = Received::new(false);
        late.feed(&camera.rtp(3..25, 0));
        assert_eq!(late.numbers(), (10..25).collect::<Vec<_>>(), "{codec:?}");
        let sound = late.of(Track::Audio);
        assert!(sound.len() >= 19 && sound.iter().all(|unit| unit.codec == Codec::G711A));
    }
}

#[test]
fn late_wrong_and_cut_psm() {
    let late = Camera { map_from: 10, ..Camera::new(Codec::H264) };
    assert_pictures(&receive(&late, 25), &late, 0..25);
    let wrong = Camera { map: vec![(0x1B, 0xE0), (0x90, 0xC0)], ..Camera::new(Codec::H265) };
    let received = receive(&wrong, 25);
    assert_pictures(&received, &wrong, 0..25);
    assert_eq!(received.stream.frame_stats().wrong_maps, 1);
    // Wrong lengths inside the PSM: program info, map, first entry's info; and of the PSM itself.
    for (at, value) in [(9, 200), (11, 2), (11, 90), (15, 50), (5, 3), (5, 80), (4, 3), (4, 255)] {
        let camera = Camera::new(Codec::H264);
        let mut received = Received::new(false);
        let good = psm(&camera.map);
        let mut bad = good.clone();
        bad[at] = value;
        for number in 0..20 {
            let ps = camera.ps(number);
            let at = ps.windows(good.len()).position(|window| window == good);
            let ps = match at {
                Some(at) => [&ps[..at], &bad, &ps[at + good.len()..]].concat(),
                None => ps,
            };
            received.feed(&[rtp_packet(96, number as u16, number * 3_600, SSRC, true, &ps)]);
        }
        assert_pictures(&received, &camera, 0..20);
    }
}

#[test]
fn big_pictures_in_every_packing() {
    let base = Camera { key_size: 300_000, size: 70_000, gop: 5, ..Camera::new(Codec::H264) };
    let variants = [
        Camera { pes_payload: 65_000, ..base.clone() },
        Camera { pes_payload: 1_000, ..base.clone() },
        Camera { pes_payload: 400_000, pes_length: Some(0), ..base.clone() },
        // The 16-bit length wrapped: it says less than there is.
        Camera { pes_payload: 400_000, ..base.clone() },
        Camera { pes_payload: 65_000, markers: false, ..base.clone() },
        Camera { pes_payload: 400_000, pes_length: Some(0), markers: false, sound: 0, ..base.clone() },
        Camera { pes_payload: 65_000, mtu: 60_000, ..base },
    ];
    for camera in variants {
        let received = receive(&camera, 16);
        let pictures = if camera.markers { 16 } else { 15 };
        assert_pictures(&received, &camera, 0..pictures);
        assert_eq!(received.stream.frame_stats().damaged, 0);
    }
}

#[test]
fn declared_length_beyond_the_picture_costs_nothing_with_aligned_packets() {
    let camera = Camera { pes_length: Some(60_000), sound: 0, ..Camera::new(Codec::H264) };
    let received = receive(&camera, 21);
    assert_pictures(&received, &camera, 0..20);
}

#[test]
fn private_units_and_vendor_headers_are_skipped() {
    let units = [
        pes(0xBD, None, &Noise(5).bytes(300), None),
        pes(0xBF, None, &[0; 90], None),
        pes(0xBE, None, &[0xFF; 40], None),
        [&[0, 0, 1, 0xF3, 0, 2][..], &[1, 2]].concat(),
    ];
    let camera = Camera { private: units.concat(), ..Camera::new(Codec::H265) };
    assert_pictures(&receive(&camera, 25), &camera, 0..25);
    let mut received = Received::new(true);
    let camera = Camera::new(Codec::H264);
    let mut packets = camera.rtp(0..3, 0);
    let header = [&b"IMKH"[..], &[0xFF; 36]].concat();
    packets[0] = [&packets[0][..12], &header, &packets[0][12..]].concat();
    received.feed(&packets);
    assert_pictures(&received, &camera, 0..3);
}

#[test]
fn displaced_pes_header_is_realigned() {
    // PES_header_data_length says 0 to 60 instead of 5: the picture begins at its start code all the same.
    for lie in (0..60).chain([255]) {
        let camera = Camera { sound: 0, ..Camera::new(Codec::H264) };
        let mut received = Received::new(false);
        for number in 0..6 {
            let mut ps = camera.ps(number);
            let at = ps.windows(4).position(|window| window == [0, 0, 1, 0xE0]).unwrap();
            ps[at + 8] = lie;
            for (index, piece) in ps.chunks(60_000).enumerate() {
                let seq = number as u16 + index as u16;
                received.feed(&[rtp_packet(96, seq, number * 3_600, SSRC, true, piece)]);
            }
        }
        assert_eq!(received.numbers(), [0, 1, 2, 3, 4, 5], "header length {lie}");
        assert!(received.of(Track::Video).iter().all(|unit| unit.data.starts_with(&[0, 0, 0, 1])));
    }
}

#[test]
fn rtp_padding_extension_and_csrc() {
    let camera = Camera::new(Codec::H264);
    let mut received = Received::new(false);
    let packets: Vec<Vec<u8>> = camera
        .rtp(0..12, 0)
        .into_iter()
        .map(|packet| {
            let mut out = packet[..12].to_vec();
            out[0] = 0x80 | 0x20 | 0x10 | 3;
            out.extend_from_slice(&[1; 12]);
            out.extend_from_slice(&[0xBE, 0xDE, 0, 2, 0, 0, 1, 0xBA, 5, 6, 7, 8]);
            out.extend_from_slice(&packet[12..]);
            out.extend_from_slice(&[0, 0, 1, 4]);
            out
        })
        .collect();
    received.feed(&packets);
    assert_pictures(&received, &camera, 0..12);
}

#[test]
fn three_byte_start_codes_are_normalised_and_missing_sets_prefixed() {
    let mut received = Received::new(false);
    let short = |bytes: &[u8]| [&[0, 0, 1], bytes].concat();
    let slice = |key: bool, number| {
        let es = picture(Codec::H264, key, number, 200);
        let at = es.windows(5).rposition(|window| window[..4] == [0, 0, 0, 1]).unwrap();
        short(&es[at + 4..])
    };
    for number in 0..9_u32 {
        let es = match number {
            0 => [short(AVC_SPS), short(AVC_PPS), slice(true, 0)].concat(),
            4 => slice(true, 4),
            _ => slice(false, number),
        };
        let ps = [pack_header(0), pes(0xE0, Some(u64::from(number) * 3_600), &es, None)].concat();
        received.feed(&[rtp_packet(96, number as u16, number * 3_600, SSRC, true, &ps)]);
    }
    let video = received.of(Track::Video);
    assert_eq!(video.len(), 9);
    for (number, unit) in video.iter().enumerate() {
        let expected = picture(Codec::H264, number == 0 || number == 4, number as u32, 200);
        assert!(unit.data[..] == expected[..], "picture {number}");
    }
    assert_eq!(received.tracks.iter().filter(|tracks| tracks.video.is_some()).count(), 1);
}

#[test]
fn sound_first_picture_five_seconds_later() {
    let camera = Camera::new(Codec::H264);
    let mut received = Received::new(false);
    for number in 0..125_u32 {
        let time = u64::from(number) * 3_600;
        let ps = [pack_header(time), pes(0xC0, Some(time), &[0xD5; 320], None)].concat();
        received.feed(&[rtp_packet(96, number as u16, time as u32, SSRC, true, &ps)]);
        received.now_us += 40_000;
    }
    assert!(received.tracks.iter().all(|tracks| !tracks.settled), "not before picture or 5 s");
    let camera = Camera { gop: 5, ..camera };
    received.feed(&camera.rtp(125..150, 125));
    let tracks = received.tracks.last().unwrap();
    assert!(tracks.settled && tracks.video.is_some() && tracks.audio.is_some());
    assert_eq!(received.numbers().len(), 25);
    let (video, audio) = (received.of(Track::Video), received.of(Track::Audio));
    assert!((video[24].pts - audio.last().unwrap().pts).abs() <= 18_000, "in step");
}

#[test]
fn elementary_streams_without_program_stream() {
    for (payload_type, codec) in [(98, Codec::H264), (100, Codec::H265)] {
        let camera = Camera { key_size: 9_000, ..Camera::new(codec) };
        let (mut packets, mut seq) = (Vec::new(), 0_u16);
        for number in 0..20_u32 {
            let es = camera.es(number);
            let nals: Vec<&[u8]> = split_nals(&es);
            for (index, nal) in nals.iter().enumerate() {
                for (last, payload) in packetize(codec, nal) {
                    let marker = last && index + 1 == nals.len();
                    packets.push(rtp_packet(payload_type, seq, number * 3_600, SSRC, marker, &payload));
                    seq += 1;
                }
            }
            // Sound beside it, in the middle of nothing.
            packets.push(rtp_packet(8, seq, number * 320, SSRC, false, &[0xD5; 320]));
            seq += 1;
        }
        let mut received = Received::new(false);
        received.feed(&packets);
        assert_pictures(&received, &camera, 0..20);
        assert_eq!(received.of(Track::Audio).len(), 20);
    }
}

#[test]
fn byte_stream_cut_into_packets() {
    let camera = Camera::new(Codec::H264);
    let (mut received, mut seq) = (Received::new(false), 0_u16);
    for number in 0..20_u32 {
        for piece in camera.es(number).chunks(1_000) {
            received.feed(&[rtp_packet(96, seq, number * 3_600, SSRC, false, piece)]);
            seq += 1;
        }
    }
    assert_pictures(&received, &camera, 0..19);
}

#[test]
fn foreign_containers_are_named() {
    let ts: Vec<u8> = (0..7).flat_map(|_| [&[0x47][..], &[0x1F; 187]].concat()).collect();
    for (payload, name) in [(ts, "MPEG-TS"), (b"DHAV\xFD\x00\x00\x00".to_vec(), "DHAV")] {
        let mut received = Received::new(false);
        received.feed(&[rtp_packet(96, 0, 0, SSRC, true, &payload)]);
        assert_eq!(received.stream.container(), Container::Unsupported(name));
        assert!(received.units.is_empty());
    }
}

fn split_nals(es: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..es.len() - 3).filter(|at| es[*at..at + 4] == [0, 0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([es.len()]);
    starts.iter().zip(ends).map(|(start, end)| &es[start + 4..end]).collect()
}

/// Single NAL unit packets, or fragments of 1200 bytes (RFC 6184 §5.8, RFC 7798 §4.4.3).
fn packetize(codec: Codec, nal: &[u8]) -> Vec<(bool, Vec<u8>)> {
    if nal.len() <= 1_200 {
        return vec![(true, nal.to_vec())];
    }
    let (header, kind) = if codec == Codec::H264 { (1, nal[0] & 0x1F) } else { (2, nal[0] >> 1 & 0x3F) };
    let pieces: Vec<&[u8]> = nal[header..].chunks(1_200).collect();
    let count = pieces.len();
    let fragment = |(index, piece): (usize, &&[u8])| {
        let flags = u8::from(index == 0) << 7 | u8::from(index + 1 == count) << 6 | kind;
        let prefix = match codec {
            Codec::H264 => vec![nal[0] & 0xE0 | 28, flags],
            _ => vec![nal[0] & 0x81 | 49 << 1, nal[1], flags],
        };
        (index + 1 == count, [&prefix, *piece].concat())
    };
    pieces.iter().enumerate().map(fragment).collect()
}
