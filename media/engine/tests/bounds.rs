//! Bounds of one source: picture, sound, NAL units, parameter sets, memory; and going on afterwards.

mod common;

use common::*;
use gbmedia::types::{Codec, Track};

/// Feeds one program stream per picture, in packets of 1400 bytes, and asserts the memory bound on the way.
fn feed(received: &mut Received, seq: &mut u16, number: u32, ps: &[u8]) {
    let count = ps.len().div_ceil(1_400);
    for (index, piece) in ps.chunks(1_400).enumerate() {
        let marker = index + 1 == count;
        received.feed(&[rtp_packet(96, *seq, number * 3_600, SSRC, marker, piece)]);
        *seq = seq.wrapping_add(1);
    }
}

#[test]
fn endless_picture_is_left_out_and_the_next_key_goes_on() {
    let camera = Camera { gop: 3, sound: 0, ..Camera::new(Codec::H264) };
    let (mut received, mut seq) = (Received::new(true), 0);
    feed(&mut received, &mut seq, 0, &camera.ps(0));
    let endless = picture(Codec::H264, false, 1, 10 << 20);
    feed(&mut received, &mut seq, 1, &[pack_header(0), pes(0xE0, Some(3_600), &endless, Some(0))].concat());
    (2..6).for_each(|number| feed(&mut received, &mut seq, number, &camera.ps(number)));
    assert_eq!(received.stream.frame_stats().oversize, 1);
    assert_eq!(received.numbers(), [0, 3, 4, 5]);
    assert!(received.stream.held_bytes() < 64 << 10, "what was reserved is given back");
}

#[test]
fn endless_sound_is_left_out() {
    let camera = Camera { sound: 0, ..Camera::new(Codec::H264) };
    let (mut received, mut seq) = (Received::new(true), 0);
    feed(&mut received, &mut seq, 0, &camera.ps(0));
    let endless = [pack_header(0), pes(0xC0, Some(3_600), &vec![0xD5; 300_000], Some(0))].concat();
    feed(&mut received, &mut seq, 1, &endless);
    (2..5).for_each(|number| feed(&mut received, &mut seq, number, &camera.ps(number)));
    assert_eq!(received.stream.frame_stats().oversize, 1);
    assert!(received.of(Track::Audio).is_empty());
    assert_eq!(received.numbers(), [0, 2, 3, 4]);
}

#[test]
fn picture_of_thousands_of_nal_units_is_no_picture() {
    let camera = Camera { sound: 0, ..Camera::new(Codec::H264) };
    for (count, taken) in [(900, true), (1_100, false)] {
        let (mut received, mut seq) = (Received::new(true), 0);
        feed(&mut received, &mut seq, 0, &camera.ps(0));
        let slices: Vec<u8> = (0..count).flat_map(|_| nal(&[0x41, 0x9A, 1, 2, 3, 4, 5, 6])).collect();
        feed(&mut received, &mut seq, 1, &[pack_header(0), pes(0xE0, Some(3_600), &slices, Some(0))].concat());
        assert_eq!(received.of(Track::Video).len(), 1 + usize::from(taken), "{count} NAL units");
        assert_eq!(received.stream.frame_stats().malformed, u64::from(!taken));
    }
}

#[test]
fn parameter_sets_are_bounded_in_number_and_size() {
    let (mut received, mut seq) = (Received::new(true), 0);
    let mut es = [nal(AVC_SPS), nal(AVC_PPS)].concat();
    (0..200_u8).for_each(|number| es.extend(nal(&[AVC_PPS, &[number | 1, number >> 4 | 0x10]].concat())));
    es.extend(nal(&[AVC_PPS, &vec![7; 60_000]].concat()));
    es.extend(nal(&[0x65, 0x88, 1, 2, 3]));
    feed(&mut received, &mut seq, 0, &[pack_header(0), pes(0xE0, Some(0), &es, Some(0))].concat());
    let tracks = received.tracks.last().unwrap().video.clone().unwrap();
    assert_eq!(tracks.parameter_sets.pps.len(), 16);
    assert!(tracks.parameter_sets.pps.iter().all(|set| set.len() < 4_097));
}

#[test]
fn empty_pictures_and_cut_adts_frames_are_nothing() {
    for codec in [Codec::Svac, Codec::H264] {
        let camera = Camera { sound: 0, ..Camera::new(codec) };
        let (mut received, mut seq) = (Received::new(true), 0);
        feed(&mut received, &mut seq, 0, &camera.ps(0));
        let empty = [pack_header(0), system_header(), pes(0xE0, Some(3_600), &[], None)].concat();
        feed(&mut received, &mut seq, 1, &empty);
        assert_eq!(received.of(Track::Video).len(), 1, "{codec:?}");
    }
    let whole = [&[0xFF, 0xF1, 0x60, 0x40, 0x02, 0x5F, 0xFC][..], &[9; 11]].concat();
    for length in 1..whole.len() {
        let (mut received, mut seq) = (Received::new(true), 0);
        let payload = [&whole, &whole[..length]].concat();
        let ps = [pack_header(0), psm(&[(0x0F, 0xC0)]), pes(0xC0, Some(0), &payload, None)].concat();
        feed(&mut received, &mut seq, 0, &ps);
        let audio = received.of(Track::Audio);
        assert!(audio.len() == 1 && audio[0].data[..] == whole[..], "{length} bytes of a second frame");
        assert_eq!(received.stream.frame_stats().malformed, 1);
    }
}

#[test]
fn small_pictures_after_big_ones_do_not_keep_big_buffers() {
    let (mut received, mut seq) = (Received::new(true), 0);
    let camera = Camera { sound: 0, ..Camera::new(Codec::H264) };
    feed(&mut received, &mut seq, 0, &camera.ps(0));
    for number in 1..40 {
        let size = if number % 2 == 1 { 500_000 } else { 10 };
        let es = picture(Codec::H264, false, number, size);
        let pts = Some(u64::from(number) * 3_600);
        feed(&mut received, &mut seq, number, &[pack_header(0), pes(0xE0, pts, &es, Some(0))].concat());
    }
    // A unit that nobody shares is turned back into its buffer, whose capacity is then known.
    let small = received.units.into_iter().filter(|unit| unit.data.len() < 100);
    let kept: usize = small.map(|unit| bytes::BytesMut::from(unit.data).capacity()).sum();
    assert!(kept < 19 * 8_192, "{kept} bytes kept for 19 small pictures");
}
