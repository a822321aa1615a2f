//! H.264 parameter sets: what a player's set-up record (avcC) needs, and nothing more.

use crate::bits::{BitReader, unescape};

pub const NAL_IDR: u8 = 5;
pub const NAL_SPS: u8 = 7;
pub const NAL_PPS: u8 = 8;
pub const NAL_AUD: u8 = 9;

/// Largest picture side that is believed; level 6.2 ends at 8192 × 4320, panoramic cameras a little above.
pub const MAX_SIDE: u32 = 16_384;

/// What a sequence parameter set says (H.264 §7.3.2.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    pub profile: u8,
    pub constraints: u8,
    pub level: u8,
    pub chroma_format: u8,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
    /// Luma samples, after cropping.
    pub width: u32,
    pub height: u32,
}

pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte & 0x1f)
}

/// True for parameter sets and delimiters, which avc1 samples must not carry in band (ISO/IEC 14496-15 §5.3.2).
pub fn is_out_of_band(nal: &[u8]) -> bool {
    matches!(nal_type(nal), NAL_SPS | NAL_PPS | NAL_AUD | 13)
}

fn is_high_profile(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// Reads a sequence parameter set NAL (with its header byte); `None` when it is cut short or absurd.
pub fn parse_sps(nal: &[u8]) -> Option<Sps> {
    if nal_type(nal) != NAL_SPS {
        return None;
    }
    let rbsp = unescape(nal);
    let &[_, profile, constraints, level, ..] = &rbsp[..] else {
        return None;
    };
    let mut reader = BitReader::new(rbsp.get(4..)?);
    let in_range = |value: u32, most: u32| (value <= most).then_some(value);
    in_range(reader.ue()?, 31)?;
    let (mut chroma_format, mut separate_planes, mut luma, mut chroma) = (1, false, 8, 8);
    if is_high_profile(profile) {
        chroma_format = in_range(reader.ue()?, 3)?;
        separate_planes = chroma_format == 3 && reader.bit()?;
        luma = 8 + in_range(reader.ue()?, 6)?;
        chroma = 8 + in_range(reader.ue()?, 6)?;
        reader.skip(1)?;
        if reader.bit()? {
            skip_scaling_lists(&mut reader, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    reader.ue()?;
    skip_picture_order(&mut reader)?;
    reader.ue()?;
    reader.skip(1)?;
    let width_mbs = in_range(reader.ue()?, MAX_SIDE / 16 - 1)? + 1;
    let height_units = in_range(reader.ue()?, MAX_SIDE / 16 - 1)? + 1;
    let frame_only = reader.bit()?;
    if !frame_only {
        reader.skip(1)?;
    }
    reader.skip(1)?;
    let field_factor = if frame_only { 1 } else { 2 };
    let (mut width, mut height) = (width_mbs * 16, height_units * 16 * field_factor);
    if reader.bit()? {
        let array = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(array, 1 | 2) { 2 } else { 1 };
        let unit_y = if array == 1 { 2 } else { 1 } * field_factor;
        width = crop(width, unit_x, reader.ue()?, reader.ue()?)?;
        height = crop(height, unit_y, reader.ue()?, reader.ue()?)?;
    }
    Some(Sps {
        profile,
        constraints,
        level,
        chroma_format: chroma_format as u8,
        bit_depth_luma: luma as u8,
        bit_depth_chroma: chroma as u8,
        width: in_range(width, MAX_SIDE)?,
        height: in_range(height, MAX_SIDE)?,
    })
}

/// Takes both cropping offsets away; `None` when nothing would be left.
pub fn crop(side: u32, unit: u32, first: u32, second: u32) -> Option<u32> {
    let cut = first.checked_add(second)?.checked_mul(unit)?;
    side.checked_sub(cut).filter(|left| *left > 0)
}

fn skip_scaling_lists(reader: &mut BitReader, lists: u32) -> Option<()> {
    for list in 0..lists {
        if !reader.bit()? {
            continue;
        }
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + reader.se()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(reader: &mut BitReader) -> Option<()> {
    match reader.ue()? {
        0 => reader.ue().map(drop),
        1 => {
            reader.skip(1)?;
            reader.se()?;
            reader.se()?;
            let cycle = reader.ue()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                reader.se()?;
            }
            Some(())
        }
        2 => Some(()),
        _ => None,
    }
}

/// AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1) with four-byte NAL lengths.
/// At most 31 SPS and 255 PPS, each below 64 KiB: the callers keep far fewer.
pub fn avcc(sps: &Sps, sps_nals: &[Vec<u8>], pps_nals: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![1, sps.profile, sps.constraints, sps.level, 0xff, 0xe0 | sps_nals.len().min(31) as u8];
    for nal in sps_nals.iter().take(31) {
        push_sized(&mut out, nal);
    }
    out.push(pps_nals.len().min(255) as u8);
    for nal in pps_nals.iter().take(255) {
        push_sized(&mut out, nal);
    }
    if is_high_profile(sps.profile) {
        out.extend([0xfc | sps.chroma_format, 0xf8 | (sps.bit_depth_luma - 8), 0xf8 | (sps.bit_depth_chroma - 8), 0]);
    }
    out
}

/// Appends a NAL unit behind its 16-bit length.
pub fn push_sized(out: &mut Vec<u8>, nal: &[u8]) {
    let nal = nal.get(..usize::from(u16::MAX)).unwrap_or(nal);
    out.extend((nal.len() as u16).to_be_bytes());
    out.extend_from_slice(nal);
}

/// RFC 6381 codecs parameter, e.g. `avc1.640028`.
pub fn codec_string(sps: &Sps) -> String {
    format!("avc1.{:02x}{:02x}{:02x}", sps.profile, sps.constraints, sps.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x264, High, 1920×1080 (1088 coded, cropped), level 4.0.
    pub const SPS_1080: [u8; 25] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
        0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60,
    ];

    #[test]
    fn full_hd_is_cropped_from_1088() {
        let sps = parse_sps(&SPS_1080).unwrap();
        assert_eq!((sps.width, sps.height), (1920, 1080));
        assert_eq!((sps.profile, sps.level), (100, 40));
        assert_eq!(codec_string(&sps), "avc1.640028");
    }

    #[test]
    fn every_truncation_and_every_flip_is_survived() {
        for end in 0..SPS_1080.len() {
            let _ = parse_sps(&SPS_1080[..end]);
        }
        for at in 0..SPS_1080.len() * 8 {
            let mut bent = SPS_1080;
            bent[at / 8] ^= 1 << (at % 8);
            if let Some(sps) = parse_sps(&bent) {
                assert!(sps.width <= MAX_SIDE && sps.height <= MAX_SIDE && sps.width > 0 && sps.height > 0);
            }
        }
        assert_eq!(parse_sps(&[]), None);
        assert_eq!(parse_sps(&[0x68, 1, 2, 3, 4]), None);
    }

    #[test]
    fn avcc_has_lengths_and_high_profile_tail() {
        let sps = parse_sps(&SPS_1080).unwrap();
        let pps = vec![0x68, 0xeb, 0xe3, 0xcb];
        let record = avcc(&sps, &[SPS_1080.to_vec()], std::slice::from_ref(&pps));
        assert_eq!(&record[..6], &[1, 100, 0, 40, 0xff, 0xe1]);
        assert_eq!(&record[6..8], &[0, 25]);
        assert_eq!(&record[33..36], &[1, 0, 4]);
        assert_eq!(&record[record.len() - 4..], &[0xfd, 0xf8, 0xf8, 0]);
    }
}
