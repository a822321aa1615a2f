//! Streams of real encoders (x264 with three slices, x265) through the program stream: every NAL unit comes out, in
//! order, in whole pictures. Vectors: `ffmpeg -f lavfi -i testsrc2=s=96x64:r=25 …` (see the options in each test).

mod common;

use common::*;
use gbmedia::annexb::{Nal, NalIndex, classify};
use gbmedia::types::{AccessUnit, Codec, Track};

fn nals(data: &[u8]) -> Vec<Vec<u8>> {
    let mut index = NalIndex::default();
    assert!(index.scan(data));
    index.nals(data).map(<[u8]>::to_vec).collect()
}

/// Groups the NAL units into pictures: a new one begins with the first slice of a picture, or what precedes it.
fn pictures(codec: Codec, stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut pictures: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    let mut coded = false;
    for nal in stream_nals(stream) {
        let slice = matches!(classify(codec, &nal), Nal::Key | Nal::Intra | Nal::Slice);
        // first_mb_in_slice 0, or first_slice_segment_in_pic_flag.
        let first = slice && nal[if codec == Codec::H264 { 1 } else { 2 }] & 0x80 != 0;
        if coded && (first || !slice) {
            pictures.push(Vec::new());
            coded = false;
        }
        coded |= slice;
        pictures.last_mut().unwrap().push(nal);
    }
    pictures
}

/// The stream as a whole has more NAL units than a picture may: searched plainly.
fn stream_nals(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..stream.len() - 2).filter(|at| stream[*at..at + 3] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let nal = |(start, end): (&usize, usize)| {
        let nal = &stream[start + 3..end];
        nal[..=nal.iter().rposition(|byte| *byte != 0).unwrap()].to_vec()
    };
    starts.iter().zip(ends).map(nal).collect()
}

fn through(codec: Codec, stream: &[u8], mtu: usize, short_codes: bool) {
    let (mut received, mut seq) = (Received::new(false), 0_u16);
    let pictures = pictures(codec, stream);
    for (number, picture) in (0_u32..).zip(&pictures) {
        let code: &[u8] = if short_codes { &[0, 0, 1] } else { &[0, 0, 0, 1] };
        let es: Vec<u8> = picture.iter().flat_map(|nal| [code, nal].concat()).collect();
        let ps = [pack_header(0), pes(0xE0, Some(u64::from(number) * 3_600), &es, None)].concat();
        let count = ps.len().div_ceil(mtu);
        for (index, piece) in ps.chunks(mtu).enumerate() {
            received.feed(&[rtp_packet(96, seq, number * 3_600, SSRC, index + 1 == count, piece)]);
            seq += 1;
        }
    }
    let video: Vec<&AccessUnit> = received.of(Track::Video);
    assert_eq!(video.len(), pictures.len());
    for (unit, sent) in video.iter().zip(&pictures) {
        assert_eq!(nals(&unit.data), *sent);
        assert_eq!(unit.key, sent.iter().any(|nal| classify(codec, nal) == Nal::Key));
        assert_eq!(unit.codec, codec);
    }
    assert!(video.iter().filter(|unit| unit.key).count() >= 2);
}

/// `-frames:v 40 -c:v libx264 -profile:v main -bf 0 -x264-params slices=3:aud=1:keyint=10:scenecut=0 -b:v 60k`
#[test]
fn x264_with_three_slices() {
    let stream = include_bytes!("vectors/tiny.h264");
    assert_eq!(pictures(Codec::H264, stream).len(), 40);
    for (mtu, short) in [(1_400, false), (100, true), (13, false)] {
        through(Codec::H264, stream, mtu, short);
    }
}

/// `-frames:v 20 -c:v libx265 -x265-params keyint=10:bframes=0:info=0 -b:v 40k`
#[test]
fn x265() {
    let stream = include_bytes!("vectors/tiny.h265");
    assert_eq!(pictures(Codec::H265, stream).len(), 20);
    for (mtu, short) in [(1_400, false), (100, true), (13, false)] {
        through(Codec::H265, stream, mtu, short);
    }
}
