//! Bounded bit reading over NAL payloads, and the Annex-B walk that both video codecs share.

use memchr::memmem;

/// Longest parameter set that is looked at; real ones stay below 200 bytes.
pub const MAX_PARAMETER_SET: usize = 4096;

/// Removes emulation prevention bytes (H.264 §7.3.1, H.265 §7.3.1.1); reads at most [`MAX_PARAMETER_SET`] bytes.
pub fn unescape(nal: &[u8]) -> Vec<u8> {
    let nal = nal.get(..MAX_PARAMETER_SET).unwrap_or(nal);
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Reads big-endian bits; every read past the end is `None`, never a panic.
pub struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    pub fn bit(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// Up to 32 bits.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0u64;
        for _ in 0..count {
            value = value << 1 | u64::from(self.bit()?);
        }
        u32::try_from(value).ok()
    }

    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.position = self.position.checked_add(count)?;
        (self.position <= self.data.len() * 8).then_some(())
    }

    /// Exp-Golomb ue(v) (H.264 §9.1), at most 32 leading zeros.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        ((1u64 << zeros) - 1 + u64::from(suffix)).try_into().ok()
    }

    /// Exp-Golomb se(v) (H.264 §9.1.1).
    pub fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -(code / 2) } else { (code + 1) / 2 })
    }
}

/// Walks the NAL units of an Annex-B byte stream (H.264 Annex B); slices exclude start codes and trailing zeros.
pub fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = memmem::find_iter(data, &[0u8, 0, 1]).map(|at| at + 3);
    let mut current = starts.next();
    std::iter::from_fn(move || {
        loop {
            let start = current?;
            current = starts.next();
            let end = current.map_or(data.len(), |next| next - 3).max(start);
            let nal = trim_zeros(data.get(start..end)?);
            if !nal.is_empty() {
                return Some(nal);
            }
        }
    })
}

fn trim_zeros(mut nal: &[u8]) -> &[u8] {
    while let [head @ .., 0] = nal {
        nal = head;
    }
    nal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_prevention_is_removed_only_after_two_zeros() {
        assert_eq!(unescape(&[0, 0, 3, 1, 0, 3, 0, 0, 3]), vec![0, 0, 1, 0, 3, 0, 0]);
    }

    #[test]
    fn exp_golomb_follows_the_standard_table() {
        // 1 | 010 | 011 | 00100 | 00101 -> 0 1 2 3 4
        let data = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&data);
        let read: Vec<_> = (0..5).map(|_| reader.ue().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        let mut reader = BitReader::new(&data);
        let read: Vec<_> = (0..5).map(|_| reader.se().unwrap()).collect();
        assert_eq!(read, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn reading_past_the_end_is_none() {
        let mut reader = BitReader::new(&[0, 0, 0, 0, 0, 0]);
        assert_eq!(reader.ue(), None);
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!(reader.bits(9), None);
        assert_eq!(BitReader::new(&[1]).skip(usize::MAX), Some(()).filter(|()| false));
    }

    #[test]
    fn nal_walk_takes_three_and_four_byte_start_codes() {
        let data = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 3, 0, 0];
        let nals: Vec<&[u8]> = nal_units(&data).collect();
        assert_eq!(nals, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
        assert_eq!(nal_units(&[0, 0, 1, 0, 0, 1]).count(), 0);
    }
}
