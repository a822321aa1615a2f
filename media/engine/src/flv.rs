//! FLV for players: Adobe FLV 10.1 annex E, H.265 by Enhanced RTMP v1 (`hvc1`), AAC and G.711.

use crate::mux::{AudioConfig, Config, Sample};
use crate::types::{Codec, Track};

const TAG_AUDIO: u8 = 8;
const TAG_VIDEO: u8 = 9;
/// 8 kHz cannot be said in the rate field: G.711 has sound format 7 or 8, 16-bit, mono (E.4.2.1).
const G711A: u8 = 7 << 4 | 1 << 1;
const G711U: u8 = 8 << 4 | 1 << 1;
/// AAC is always marked 44 kHz, 16-bit, stereo (E.4.2.1).
const AAC: u8 = 0xaf;
const AVC: u8 = 7;
const ENHANCED: u8 = 0x80;

/// Audio for a viewer who `hears`, if this container can carry it.
fn audio(config: &Config, hears: bool) -> Option<&AudioConfig> {
    config.audio.as_ref().filter(|audio| hears && audio.playable())
}

/// Whether viewers of this container get anything at all.
pub fn playable(config: &Config, hears: bool) -> bool {
    config.video.is_some() || audio(config, hears).is_some()
}

/// File header and the first (zero) previous-tag size (E.2).
pub fn file_header(config: &Config, hears: bool, out: &mut Vec<u8>) {
    let flags = u8::from(config.video.is_some()) | u8::from(audio(config, hears).is_some()) << 2;
    out.extend([b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]);
}

/// Sequence headers: sent first, and again when the set-up changes.
pub fn sequence_headers(config: &Config, hears: bool, milliseconds: u32, out: &mut Vec<u8>) {
    if let Some(video) = &config.video {
        let mut data = match video.codec {
            Codec::H265 => vec![ENHANCED | 1 << 4, b'h', b'v', b'c', b'1'],
            _ => vec![1 << 4 | AVC, 0, 0, 0, 0],
        };
        data.extend_from_slice(&video.record);
        whole_tag(out, TAG_VIDEO, milliseconds, &data);
    }
    if let Some(aac) = audio(config, hears).and_then(|audio| audio.aac) {
        let [first, second] = aac.specific_config();
        whole_tag(out, TAG_AUDIO, milliseconds, &[AAC, 0, first, second]);
    }
}

/// Tag header and codec header of one sample; the body follows, then [`tail`]. `false`: not for this container.
pub fn head(sample: &Sample, milliseconds: u32, out: &mut Vec<u8>) -> bool {
    let mut codec_header = [0; 8];
    let Some(length) = codec_header_of(sample, &mut codec_header) else {
        return false;
    };
    let kind = if sample.track == Track::Video { TAG_VIDEO } else { TAG_AUDIO };
    tag_header(out, kind, milliseconds, length + sample.body.len());
    out.extend_from_slice(codec_header.get(..length).unwrap_or_default());
    true
}

/// Previous-tag size after a sample of which `head` bytes and the body were written.
pub fn tail(head: usize, sample: &Sample) -> [u8; 4] {
    ((head + sample.body.len()) as u32).to_be_bytes()
}

fn codec_header_of(sample: &Sample, out: &mut [u8; 8]) -> Option<usize> {
    let codec = match sample.track {
        Track::Video => sample.config.video.as_ref()?.codec,
        Track::Audio => sample.config.audio.as_ref()?.codec,
    };
    let frame = if sample.key { 1 << 4 } else { 2 << 4 };
    let [_, c0, c1, c2] = (sample.composition / 90).to_be_bytes();
    match codec {
        Codec::H264 => *out = [frame | AVC, 1, c0, c1, c2, 0, 0, 0],
        Codec::H265 if sample.composition == 0 => *out = [ENHANCED | frame | 3, b'h', b'v', b'c', b'1', 0, 0, 0],
        Codec::H265 => *out = [ENHANCED | frame | 1, b'h', b'v', b'c', b'1', c0, c1, c2],
        Codec::Aac => *out = [AAC, 1, 0, 0, 0, 0, 0, 0],
        Codec::G711A => *out = [G711A, 0, 0, 0, 0, 0, 0, 0],
        Codec::G711U => *out = [G711U, 0, 0, 0, 0, 0, 0, 0],
        _ => return None,
    }
    Some(match codec {
        Codec::H264 => 5,
        Codec::H265 if sample.composition == 0 => 5,
        Codec::H265 => 8,
        Codec::Aac => 2,
        _ => 1,
    })
}

fn whole_tag(out: &mut Vec<u8>, kind: u8, milliseconds: u32, data: &[u8]) {
    tag_header(out, kind, milliseconds, data.len());
    out.extend_from_slice(data);
    out.extend((data.len() as u32 + 11).to_be_bytes());
}

fn tag_header(out: &mut Vec<u8>, kind: u8, milliseconds: u32, size: usize) {
    let [_, s0, s1, s2] = (size as u32).to_be_bytes();
    let [high, t0, t1, t2] = milliseconds.to_be_bytes();
    out.extend([kind, s0, s1, s2, t0, t1, t2, high, 0, 0, 0]);
}
