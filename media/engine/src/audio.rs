//! Audio units: how long they last, and ADTS frames (ISO/IEC 13818-7 §6.2).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::types::{AudioTrack, Codec, TIMEBASE};
use bytes::Bytes;

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Samples in one AAC frame.
const AAC_SAMPLES: i64 = 1_024;

/// One ADTS header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adts {
    /// Length of the frame with its header.
    pub length: usize,
    pub sample_rate: u32,
    pub channels: u8,
    /// AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
    pub config: [u8; 2],
}

/// Reads the ADTS header at the beginning of `data`; `None` unless the whole frame is there.
#[must_use]
pub fn adts(data: &[u8]) -> Option<Adts> {
    let &[sync, flags, third, fourth, fifth, sixth, _] = data.first_chunk::<7>()?;
    if sync != 0xFF || flags & 0xF6 != 0xF0 {
        return None;
    }
    let (object_type, index) = ((third >> 6) + 1, third >> 2 & 0x0F);
    let sample_rate = *RATES.get(usize::from(index))?;
    let channels = (third & 1) << 2 | fourth >> 6;
    let length = usize::from(fourth & 3) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    let header = if flags & 1 == 1 { 7 } else { 9 };
    let config = [object_type << 3 | index >> 1, index << 7 | channels << 3];
    (length > header && length <= data.len()).then_some(Adts { length, sample_rate, channels, config })
}

/// How long one unit lasts, in 90 kHz ticks; `None` when it cannot be told from its size.
#[must_use]
pub fn duration(codec: Codec, unit: &[u8]) -> Option<i64> {
    match codec {
        Codec::G711A | Codec::G711U => Some(i64::try_from(unit.len()).ok()? * TIMEBASE / 8_000),
        Codec::Aac => Some(AAC_SAMPLES * TIMEBASE / i64::from(adts(unit)?.sample_rate)),
        // 10 ms in 10 bytes; 30 ms in 24 or 20 bytes (RFC 3551 §4.5.3, §4.5.6).
        Codec::G729 => Some(i64::try_from(unit.len() / 10).ok()? * TIMEBASE / 100),
        Codec::G7231 => Some(i64::try_from(unit.len().div_ceil(24)).ok()? * TIMEBASE * 3 / 100),
        _ => None,
    }
}

/// Description of the track a unit belongs to.
#[must_use]
pub fn track(codec: Codec, unit: &[u8]) -> AudioTrack {
    let header = if codec == Codec::Aac { adts(unit) } else { None };
    match header {
        Some(header) => AudioTrack {
            codec,
            sample_rate: header.sample_rate,
            channels: header.channels,
            config: Bytes::copy_from_slice(&header.config),
        },
        None => {
            let sample_rate = if codec == Codec::G7221 { 16_000 } else { 8_000 };
            AudioTrack { codec, sample_rate, channels: 1, config: Bytes::new() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An AAC-LC frame, 16 kHz, mono, of 7 + `size` bytes.
    fn frame(size: usize) -> Vec<u8> {
        let length = size + 7;
        let mut out =
            vec![0xFF, 0xF1, 0x60, 0x40 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8, 0xFC];
        out.resize(length, 0x21);
        out
    }

    #[test]
    fn adts_header_is_read() {
        let header = adts(&frame(100)).unwrap();
        assert_eq!((header.length, header.sample_rate, header.channels, header.config), (107, 16_000, 1, [0x14, 0x08]));
        assert_eq!(duration(Codec::Aac, &frame(100)), Some(5_760));
    }

    #[test]
    fn cut_or_absurd_headers_are_refused() {
        let good = frame(20);
        assert_eq!(adts(&good[..26]), None);
        assert_eq!(adts(&good[..6]), None);
        let cases: [(usize, u8); 4] = [(0, 0xFE), (1, 0xF7), (2, 0x7C), (4, 0)];
        for (at, byte) in cases {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(adts(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Codec::G711A, &[0; 320]), Some(3_600));
        assert_eq!(duration(Codec::G729, &[0; 20]), Some(1_800));
        assert_eq!(duration(Codec::G7231, &[0; 24]), Some(2_700));
        assert_eq!(duration(Codec::G7221, &[0; 40]), None);
    }
}
