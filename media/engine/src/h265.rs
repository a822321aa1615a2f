//! H.265 parameter sets: what a player's set-up record (hvcC) needs, and nothing more.

use crate::bits::{BitReader, unescape};
use crate::h264::{MAX_SIDE, crop, push_sized};

pub const NAL_VPS: u8 = 32;
pub const NAL_SPS: u8 = 33;
pub const NAL_PPS: u8 = 34;
pub const NAL_AUD: u8 = 35;

/// What a sequence parameter set says (H.265 §7.3.2.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    /// general_profile_space (2), tier (1), profile_idc (5), compatibility (32), constraints (48), level: 12 bytes as coded.
    pub general: [u8; 12],
    pub temporal_layers: u8,
    pub temporal_nested: bool,
    pub chroma_format: u8,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
    /// Luma samples, after the conformance window.
    pub width: u32,
    pub height: u32,
}

pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(64, |byte| byte >> 1 & 0x3f)
}

/// True for pictures a decoder may start from (IRAP, H.265 §7.4.2.2: types 16 to 23).
pub fn is_irap(nal: &[u8]) -> bool {
    (16..=23).contains(&nal_type(nal))
}

/// True for parameter sets, delimiters and end marks, which hvc1 samples do not carry (ISO/IEC 14496-15 §8.3.2).
pub fn is_out_of_band(nal: &[u8]) -> bool {
    matches!(nal_type(nal), NAL_VPS | NAL_SPS | NAL_PPS | NAL_AUD)
}

/// Reads a sequence parameter set NAL (with its two header bytes); `None` when it is cut short or absurd.
pub fn parse_sps(nal: &[u8]) -> Option<Sps> {
    if nal_type(nal) != NAL_SPS {
        return None;
    }
    let rbsp = unescape(nal);
    let body = rbsp.get(2..)?;
    let mut reader = BitReader::new(body);
    reader.skip(4)?;
    let sub_layers_minus1 = reader.bits(3)?;
    if sub_layers_minus1 > 6 {
        return None;
    }
    let temporal_nested = reader.bit()?;
    let general: [u8; 12] = body.get(1..13)?.try_into().ok()?;
    reader.skip(96)?;
    skip_sub_layers(&mut reader, sub_layers_minus1)?;
    let in_range = |value: u32, most: u32| (value <= most).then_some(value);
    in_range(reader.ue()?, 15)?;
    let chroma_format = in_range(reader.ue()?, 3)?;
    let separate_planes = chroma_format == 3 && reader.bit()?;
    let mut width = in_range(reader.ue()?, MAX_SIDE).filter(|side| *side > 0)?;
    let mut height = in_range(reader.ue()?, MAX_SIDE).filter(|side| *side > 0)?;
    if reader.bit()? {
        let array = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(array, 1 | 2) { 2 } else { 1 };
        let unit_y = if array == 1 { 2 } else { 1 };
        width = crop(width, unit_x, reader.ue()?, reader.ue()?)?;
        height = crop(height, unit_y, reader.ue()?, reader.ue()?)?;
    }
    let luma = 8 + in_range(reader.ue()?, 8)?;
    let chroma = 8 + in_range(reader.ue()?, 8)?;
    Some(Sps {
        general,
        temporal_layers: sub_layers_minus1 as u8 + 1,
        temporal_nested,
        chroma_format: chroma_format as u8,
        bit_depth_luma: luma as u8,
        bit_depth_chroma: chroma as u8,
        width,
        height,
    })
}

/// Sub-layer part of profile_tier_level (H.265 §7.3.3).
fn skip_sub_layers(reader: &mut BitReader, sub_layers_minus1: u32) -> Option<()> {
    if sub_layers_minus1 == 0 {
        return Some(());
    }
    let mut present = Vec::with_capacity(8);
    for _ in 0..8 {
        present.push((reader.bit()?, reader.bit()?));
    }
    for &(profile, level) in present.iter().take(sub_layers_minus1 as usize) {
        reader.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

/// HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 §8.3.3.1) with four-byte NAL lengths.
pub fn hvcc(sps: &Sps, vps_nals: &[Vec<u8>], sps_nals: &[Vec<u8>], pps_nals: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(sps.general);
    out.extend([0xf0, 0x00, 0xfc, 0xfc | sps.chroma_format]);
    out.extend([0xf8 | (sps.bit_depth_luma - 8), 0xf8 | (sps.bit_depth_chroma - 8), 0, 0]);
    out.push(sps.temporal_layers << 3 | u8::from(sps.temporal_nested) << 2 | 3);
    out.push(3);
    for (kind, nals) in [(NAL_VPS, vps_nals), (NAL_SPS, sps_nals), (NAL_PPS, pps_nals)] {
        out.push(0x80 | kind);
        out.extend((nals.len().min(255) as u16).to_be_bytes());
        for nal in nals.iter().take(255) {
            push_sized(&mut out, nal);
        }
    }
    out
}

/// RFC 6381 codecs parameter by ISO/IEC 14496-15 Annex E.3, e.g. `hvc1.1.6.L93.90`.
pub fn codec_string(sps: &Sps) -> String {
    let [profile, c0, c1, c2, c3, constraints @ .., level] = sps.general;
    let space = match profile >> 6 {
        0 => "",
        1 => "A",
        2 => "B",
        _ => "C",
    };
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
    let mut text = format!("hvc1.{space}{}.{compatibility:x}.{tier}{level}", profile & 0x1f);
    let kept = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    for byte in constraints.iter().take(kept) {
        text.push_str(&format!(".{byte:x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x265, Main, 1280×720, level 3.1.
    const SPS_720: [u8; 41] = [
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d,
        0xa0, 0x02, 0x80, 0x80, 0x2d, 0x16, 0x59, 0x59, 0xa4, 0x93, 0x2b, 0xc0, 0x40, 0x40, 0x00, 0x00, 0x03, 0x00,
        0x40, 0x00, 0x00, 0x06, 0x42,
    ];

    #[test]
    fn size_and_codec_string_are_read() {
        let sps = parse_sps(&SPS_720).unwrap();
        assert_eq!((sps.width, sps.height), (1280, 720));
        assert_eq!((sps.bit_depth_luma, sps.chroma_format), (8, 1));
        assert_eq!(codec_string(&sps), "hvc1.1.6.L93.90");
    }

    #[test]
    fn every_truncation_and_every_flip_is_survived() {
        for end in 0..SPS_720.len() {
            let _ = parse_sps(&SPS_720[..end]);
        }
        for at in 0..SPS_720.len() * 8 {
            let mut bent = SPS_720;
            bent[at / 8] ^= 1 << (at % 8);
            if let Some(sps) = parse_sps(&bent) {
                assert!(sps.width <= MAX_SIDE && sps.height <= MAX_SIDE && sps.width > 0 && sps.height > 0);
            }
        }
    }

    #[test]
    fn hvcc_lists_the_three_arrays() {
        let sps = parse_sps(&SPS_720).unwrap();
        let record = hvcc(&sps, &[vec![0x40, 1, 2]], &[SPS_720.to_vec()], &[vec![0x44, 1, 3]]);
        assert_eq!(record[0], 1);
        assert_eq!(record[1..13], sps.general);
        assert_eq!(record[21], 0x0f, "one temporal layer, nested, four-byte lengths");
        assert_eq!(record[22], 3);
        assert_eq!(record[23..31], [0xa0, 0, 1, 0, 3, 0x40, 1, 2]);
    }
}
