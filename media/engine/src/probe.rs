//! Finding out what a stream carries when its PSM is missing, late or wrong (facts 17.4).
//!
//! Video is believed only with whole parameter sets, never by a single NAL type: the type numbers of H.264 and H.265
//! overlap. A stream is known by its first key picture, so within one group of pictures.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::annexb::NalIndex;
use crate::audio;
use crate::types::Codec;

/// Codec of one whole video picture, if its parameter sets prove it.
#[must_use]
pub fn video(data: &[u8]) -> Option<Codec> {
    let mut index = NalIndex::default();
    if !index.scan(data) {
        return None;
    }
    let (mut h264, mut h265, mut mpeg4) = (0_u8, 0_u8, 0_u8);
    for nal in index.nals(data) {
        match *nal {
            // Profile, reserved_zero_2bits, level of a plausible SPS; forbidden_zero_bit 0 and nal_ref_idc > 0.
            [0x27 | 0x47 | 0x67, profile, flags, level, ..]
                if avc_profile(profile) && flags & 3 == 0 && level <= 62 =>
            {
                h264 |= 1;
            }
            [0x28 | 0x48 | 0x68, _, ..] => h264 |= 2,
            [0x40, 1, _, _, ..] => h265 |= 1,
            [0x42, 1, _, _, ..] => h265 |= 2,
            [0x44, 1, _, ..] => h265 |= 4,
            [0x20..=0x2F, _, _, ..] => mpeg4 |= 1,
            [0xB6, _, ..] => mpeg4 |= 2,
            _ => {}
        }
    }
    match (h264, h265, mpeg4) {
        (_, 7, _) => Some(Codec::H265),
        (3, _, _) => Some(Codec::H264),
        (_, _, 3) => Some(Codec::Mpeg4),
        _ => None,
    }
}

const fn avc_profile(profile: u8) -> bool {
    matches!(profile, 66 | 77 | 88 | 100 | 110 | 118 | 122 | 128 | 244 | 44 | 83 | 86)
}

/// Audio units looked at before G.711 is assumed.
const AUDIO_UNITS: u32 = 3;

/// Guesses the audio codec of a stream without PSM from its first units.
#[derive(Clone, Copy, Debug, Default)]
pub struct AudioProbe {
    units: u32,
    a_law: usize,
    mu_law: usize,
}

impl AudioProbe {
    /// Looks at one PES payload. ADTS proves itself; otherwise, after three units, G.711: A-law unless the samples
    /// cluster round the µ-law codes of silence.
    pub fn unit(&mut self, data: &[u8]) -> Option<Codec> {
        if audio::adts(data).is_some() {
            return Some(Codec::Aac);
        }
        self.units += 1;
        // Quiet sound lies round 0xD5/0x55 (A-law) or 0xFF/0x7F (µ-law).
        self.a_law += data.iter().filter(|byte| matches!(**byte | 0x80, 0xD4..=0xD7)).count();
        self.mu_law += data.iter().filter(|byte| matches!(**byte | 0x80, 0xFC..=0xFF)).count();
        (self.units >= AUDIO_UNITS).then_some(if self.mu_law > self.a_law { Codec::G711U } else { Codec::G711A })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annexb(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
    }

    const AVC_SPS: &[u8] = &[0x67, 100, 0, 40, 0xAC];
    const AVC_PPS: &[u8] = &[0x68, 0xEE, 0x3C, 0x80];
    const HEVC: [&[u8]; 3] = [&[0x40, 1, 0x0C, 1, 0xFF], &[0x42, 1, 1, 1, 0x60], &[0x44, 1, 0xC1, 0x72]];

    #[test]
    fn whole_parameter_sets_prove_the_codec() {
        assert_eq!(video(&annexb(&[AVC_SPS, AVC_PPS, &[0x65, 0x88]])), Some(Codec::H264));
        assert_eq!(video(&annexb(&HEVC)), Some(Codec::H265));
        assert_eq!(video(&annexb(&[&[0xB0, 1], &[0x20, 1, 2], &[0xB6, 0x10]])), Some(Codec::Mpeg4));
    }

    #[test]
    fn single_units_prove_nothing() {
        for nal in [AVC_SPS, AVC_PPS, HEVC[0], HEVC[1], HEVC[2], &[0x65, 0x88], &[0x26, 1, 0xAF]] {
            assert_eq!(video(&annexb(&[nal])), None, "{nal:x?}");
        }
        assert_eq!(video(&[0; 64]), None);
        assert_eq!(video(&annexb(&[&[0x67, 99, 0, 40], AVC_PPS])), None, "no such profile");
    }

    #[test]
    fn audio_laws_are_told_apart_by_silence() {
        let mut probe = AudioProbe::default();
        assert_eq!([0xD5; 3].map(|byte| probe.unit(&[byte; 160])), [None, None, Some(Codec::G711A)]);
        let mut probe = AudioProbe::default();
        assert_eq!([0x7F; 3].map(|byte| probe.unit(&[byte; 160])), [None, None, Some(Codec::G711U)]);
    }
}
