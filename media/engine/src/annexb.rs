//! One picture as H.264 / H.265 byte stream (annex B of both) or MPEG-4: what it contains, in normalised form.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::types::{Codec, ParameterSets};
use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// NAL units in one picture; more is no picture but an attack.
const NAL_LIMIT: usize = 1_024;
/// Parameter sets kept of one kind, and the size of one.
const SET_LIMIT: usize = 16;
const SET_SIZE: usize = 4 << 10;
const START: [u8; 4] = [0, 0, 0, 1];

/// A picture, ready for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub data: Bytes,
    /// Decoding may start here (with the parameter sets that `data` now contains).
    pub key: bool,
    /// False when there are only parameter sets or messages in it.
    pub coded: bool,
}

/// What a NAL unit is, as far as the engine cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nal {
    Vps,
    Sps,
    Pps,
    /// A random access picture (H.264 IDR; H.265 types 16 to 23).
    Key,
    /// An H.264 slice that only holds intra macroblocks.
    Intra,
    /// Any other slice.
    Slice,
    /// An H.264 recovery point message.
    Recovery,
    Other,
}

/// Says what a NAL unit (without start code) is.
#[must_use]
pub fn classify(codec: Codec, nal: &[u8]) -> Nal {
    let Some(&first) = nal.first() else { return Nal::Other };
    if codec == Codec::H265 {
        return match first >> 1 & 0x3F {
            16..=23 => Nal::Key,
            0..=31 => Nal::Slice,
            32 => Nal::Vps,
            33 => Nal::Sps,
            34 => Nal::Pps,
            _ => Nal::Other,
        };
    }
    match first & 0x1F {
        5 => Nal::Key,
        1 if matches!(slice_type(nal), Some(2 | 7)) => Nal::Intra,
        1..=4 => Nal::Slice,
        6 if nal.get(1) == Some(&6) => Nal::Recovery,
        7 => Nal::Sps,
        8 => Nal::Pps,
        _ => Nal::Other,
    }
}

/// `slice_type` of an H.264 slice header: the second Exp-Golomb number (H.264 §7.3.3, §9.1).
fn slice_type(nal: &[u8]) -> Option<u32> {
    let mut bytes = [0; 8];
    for (slot, byte) in bytes.iter_mut().zip(nal.iter().skip(1)) {
        *slot = *byte;
    }
    let bits = u64::from_be_bytes(bytes);
    let skip = 2 * bits.leading_zeros() + 1;
    let bits = bits.checked_shl(skip)?;
    let zeros = bits.leading_zeros();
    if zeros > 15 || skip + 2 * zeros + 1 > 64 {
        return None;
    }
    u32::try_from((bits >> (63 - 2 * zeros)) - 1).ok()
}

/// The NAL units of a picture as (start, end), without start codes and trailing zeros. Bounded by `NAL_LIMIT`.
#[derive(Debug, Default)]
pub struct NalIndex {
    units: Vec<(usize, usize)>,
}

impl NalIndex {
    /// Finds the NAL units of `data`. False when there are none or too many.
    pub fn scan(&mut self, data: &[u8]) -> bool {
        self.units.clear();
        for at in memmem::find_iter(data, &[0, 0, 1]) {
            if let Some(last) = self.units.last_mut() {
                last.1 = at;
            }
            if self.units.len() == NAL_LIMIT {
                return false;
            }
            self.units.push((at + 3, data.len()));
        }
        for unit in &mut self.units {
            let nal = data.get(unit.0..unit.1).unwrap_or_default();
            unit.1 = unit.0 + nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        }
        self.units.retain(|unit| unit.0 < unit.1);
        !self.units.is_empty()
    }

    /// The NAL units found last.
    pub fn nals<'a>(&'a self, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.units.iter().filter_map(|unit| data.get(unit.0..unit.1))
    }

    /// Whether every start code already has 4 bytes and nothing stands before the first one.
    fn normal(&self, data: &[u8]) -> bool {
        let prefixed = |unit: &(usize, usize)| unit.0.checked_sub(4).is_some_and(|at| data.get(at) == Some(&0));
        self.units.first().is_some_and(|first| first.0 == 4) && self.units.iter().all(prefixed)
    }
}

/// Reads an H.264 or H.265 picture, takes over its parameter sets into `sets`, and prefixes them to a key picture that
/// lacks them. `None`: not a picture of that codec.
pub fn read(codec: Codec, data: BytesMut, index: &mut NalIndex, sets: &mut ParameterSets) -> Option<Picture> {
    if !index.scan(&data) {
        return None;
    }
    let mut found = ParameterSets::default();
    let (mut key, mut coded, mut intra, mut recovery) = (false, false, true, false);
    for nal in index.nals(&data) {
        match classify(codec, nal) {
            Nal::Vps => keep(&mut found.vps, nal),
            Nal::Sps => keep(&mut found.sps, nal),
            Nal::Pps => keep(&mut found.pps, nal),
            Nal::Key => (key, coded) = (true, true),
            Nal::Intra => coded = true,
            Nal::Slice => (intra, coded) = (false, true),
            Nal::Recovery => recovery = true,
            Nal::Other => {}
        }
    }
    // Some cameras begin a group with an intra picture that is no IDR; parameter sets or a recovery point give it away.
    key |= coded && codec == Codec::H264 && ((intra && !found.sps.is_empty()) || recovery);
    take_over(sets, &found);
    key &= sets.complete(codec);
    let missing = key && !found.complete(codec);
    let data = if missing || !index.normal(&data) {
        rebuild(&data, index, missing.then_some((&*sets, &found)))
    } else {
        data.freeze()
    };
    Some(Picture { data, key, coded })
}

fn keep(into: &mut Vec<Bytes>, nal: &[u8]) {
    if into.len() < SET_LIMIT && nal.len() <= SET_SIZE && !into.iter().any(|kept| kept == nal) {
        into.push(Bytes::copy_from_slice(nal));
    }
}

/// A picture that brings sets of a kind replaces all of that kind: a camera repeats everything it uses.
fn take_over(sets: &mut ParameterSets, found: &ParameterSets) {
    for (kept, new) in [(&mut sets.vps, &found.vps), (&mut sets.sps, &found.sps), (&mut sets.pps, &found.pps)] {
        if !new.is_empty() && kept != new {
            kept.clone_from(new);
        }
    }
}

/// Writes the picture anew with 4-byte start codes, the kinds of sets that it lacks first.
fn rebuild(data: &[u8], index: &NalIndex, prefix: Option<(&ParameterSets, &ParameterSets)>) -> Bytes {
    let mut lacking: Vec<&Bytes> = Vec::new();
    if let Some((sets, found)) = prefix {
        for (kept, new) in [(&sets.vps, &found.vps), (&sets.sps, &found.sps), (&sets.pps, &found.pps)] {
            // All or none, in order: decoders want VPS, SPS, PPS.
            lacking.extend(kept.iter().filter(|set| !new.contains(set)));
        }
    }
    let size: usize = lacking.iter().map(|set| set.len() + 4).sum();
    let mut out = BytesMut::with_capacity(size + data.len() + index.units.len());
    for nal in lacking.into_iter().map(|set| &set[..]).chain(index.nals(data)) {
        out.extend_from_slice(&START);
        out.extend_from_slice(nal);
    }
    out.freeze()
}

/// Reads an MPEG-4 part 2 picture (ISO/IEC 14496-2 §6.2): key if the VOP is intra; its configuration goes to `sets`.
pub fn read_mpeg4(data: BytesMut, index: &mut NalIndex, sets: &mut ParameterSets) -> Option<Picture> {
    if !index.scan(&data) {
        return None;
    }
    let (mut key, mut coded, mut config_end) = (false, false, 0);
    for (unit, nal) in index.units.iter().zip(index.nals(&data)) {
        match *nal {
            [0xB6, second, ..] => {
                key |= second >> 6 == 0;
                coded = true;
            }
            [0x00..=0x2F | 0xB0 | 0xB5, ..] if !coded => config_end = unit.1,
            _ => {}
        }
    }
    if let Some(config) = data.get(..config_end).filter(|config| !config.is_empty() && config.len() <= SET_SIZE)
        && sets.sps.first().is_none_or(|kept| kept != config)
    {
        sets.sps = vec![Bytes::copy_from_slice(config)];
    }
    let data = match sets.sps.first() {
        Some(config) if key && config_end == 0 => [config, &data[..]].concat().into(),
        _ => data.freeze(),
    };
    Some(Picture { data, key, coded })
}
