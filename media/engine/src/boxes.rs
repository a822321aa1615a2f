//! ISO base media file format boxes (ISO/IEC 14496-12): sizes are filled in when the box closes.

/// Writes one box; `fill` writes its payload.
pub fn boxed(out: &mut Vec<u8>, kind: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend_from_slice(kind);
    fill(out);
    let size = (out.len() - start) as u32;
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&size.to_be_bytes());
    }
}

/// Writes one full box: version and 24 bits of flags come first.
pub fn full_box(out: &mut Vec<u8>, kind: &[u8; 4], version: u8, flags: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    boxed(out, kind, |out| {
        put32(out, u32::from(version) << 24 | flags & 0x00ff_ffff);
        fill(out);
    });
}

pub fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_be_bytes());
}

pub fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

pub fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

pub fn zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, 0);
}

/// Elementary stream descriptor for AAC (ISO/IEC 14496-1 §7.2.6.5) around an AudioSpecificConfig of at most 64 bytes.
pub fn esds(out: &mut Vec<u8>, specific_config: &[u8]) {
    let specific = specific_config.get(..64).unwrap_or(specific_config);
    let specific_len = specific.len() as u8;
    full_box(out, b"esds", 0, 0, |out| {
        out.extend([0x03, 3 + 2 + 13 + 2 + specific_len + 3, 0, 0, 0]);
        out.extend([0x04, 13 + 2 + specific_len, 0x40, 0x15]);
        zeros(out, 11);
        out.extend([0x05, specific_len]);
        out.extend_from_slice(specific);
        out.extend([0x06, 1, 2]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_nest() {
        let mut out = Vec::new();
        boxed(&mut out, b"moov", |out| full_box(out, b"mvhd", 1, 7, |out| put16(out, 9)));
        assert_eq!(out, [0, 0, 0, 22, b'm', b'o', b'o', b'v', 0, 0, 0, 14, b'm', b'v', b'h', b'd', 1, 0, 0, 7, 0, 9]);
    }
}
