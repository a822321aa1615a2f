//! ADTS framing (ISO/IEC 13818-7 §6.2) and AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// Samples in one AAC-LC frame.
pub const FRAME_SAMPLES: u32 = 1024;

/// What every ADTS header repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdtsConfig {
    pub object_type: u8,
    pub rate_index: u8,
    pub channels: u8,
}

impl AdtsConfig {
    /// Whether the indices mean anything; every other method wants this to hold.
    pub fn is_sound(self) -> bool {
        usize::from(self.rate_index) < RATES.len() && self.object_type > 0 && (1..=7).contains(&self.channels)
    }

    /// Samples a second.
    pub fn rate(self) -> u32 {
        RATES.get(usize::from(self.rate_index)).copied().unwrap_or(8_000)
    }

    /// AudioSpecificConfig: object type (5), rate index (4), channels (4), then GASpecificConfig of zeros.
    pub fn specific_config(self) -> [u8; 2] {
        [self.object_type << 3 | self.rate_index >> 1, (self.rate_index & 1) << 7 | self.channels << 3]
    }

    /// Reads the first two bytes of an AudioSpecificConfig; `None` when an index means nothing.
    pub fn from_specific_config([first, second]: [u8; 2]) -> Option<Self> {
        let config =
            Self { object_type: first >> 3, rate_index: (first & 7) << 1 | second >> 7, channels: second >> 3 & 0xf };
        config.is_sound().then_some(config)
    }

    /// RFC 6381 codecs parameter, e.g. `mp4a.40.2`.
    pub fn codec_string(self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

/// Splits a run of ADTS frames into (config, raw frame); stops at the first byte that is not a whole frame.
pub fn adts_frames(mut data: &[u8]) -> impl Iterator<Item = (AdtsConfig, &[u8])> {
    std::iter::from_fn(move || {
        let (config, header, length) = parse_header(data)?;
        let frame = data.get(header..length)?;
        data = data.get(length..)?;
        Some((config, frame))
    })
}

fn parse_header(data: &[u8]) -> Option<(AdtsConfig, usize, usize)> {
    let &[sync, flags, profile, channels, length, tail, _, ..] = data else {
        return None;
    };
    if sync != 0xff || flags & 0xf6 != 0xf0 {
        return None;
    }
    let config = AdtsConfig {
        object_type: (profile >> 6) + 1,
        rate_index: profile >> 2 & 0xf,
        channels: (profile & 1) << 2 | channels >> 6,
    };
    let header = if flags & 1 == 1 { 7 } else { 9 };
    let length = usize::from(channels & 3) << 11 | usize::from(length) << 3 | usize::from(tail >> 5);
    let sound = config.is_sound() && length > header;
    sound.then_some((config, header, length))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Wraps a raw frame: AAC-LC, 48 kHz, stereo.
    pub fn adts(frame: &[u8]) -> Vec<u8> {
        let length = frame.len() + 7;
        let mut out = vec![0xff, 0xf1, 1 << 6 | 3 << 2, 2 << 6 | (length >> 11) as u8, (length >> 3) as u8];
        out.extend([(length << 5) as u8 | 0x1f, 0xfc]);
        out.extend_from_slice(frame);
        out
    }

    #[test]
    fn a_run_is_split_and_garbage_ends_it() {
        let mut run = adts(&[1, 2, 3]);
        run.extend(adts(&[4]));
        run.extend([0xff, 0xf1, 0]);
        let frames: Vec<_> = adts_frames(&run).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[0].1, frames[1].1), (&[1u8, 2, 3][..], &[4u8][..]));
        let config = frames[0].0;
        assert_eq!((config.rate(), config.channels, config.codec_string().as_str()), (48_000, 2, "mp4a.40.2"));
        assert_eq!(config.specific_config(), [0x11, 0x90]);
        assert_eq!(adts_frames(&[0xff; 64]).count(), 0);
    }
}
