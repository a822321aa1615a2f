//! RTP packets: the fixed header, CSRC list, extension and padding (RFC 3550 §5.1, §5.3.1).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

/// One RTP packet; the payload is without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtp<'a> {
    pub marker: bool,
    pub payload_type: u8,
    pub seq: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: &'a [u8],
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpError {
    /// Shorter than its own header, extension or padding says.
    Short,
    /// Not version 2.
    Version,
    /// RTCP on the RTP port (RFC 5761 §4): packet types 192 to 223.
    Rtcp,
}

/// Size of the fixed header.
pub const HEADER: usize = 12;

/// Reads one packet.
///
/// # Errors
/// `RtpError` when the bytes are no RTP packet; nothing of it may be used then.
pub fn parse(data: &[u8]) -> Result<Rtp<'_>, RtpError> {
    let (&[first, second, seq_hi, seq_lo, t0, t1, t2, t3, s0, s1, s2, s3], rest) =
        data.split_first_chunk::<HEADER>().ok_or(RtpError::Short)?;
    if first >> 6 != 2 {
        return Err(RtpError::Version);
    }
    if (192..=223).contains(&second) {
        return Err(RtpError::Rtcp);
    }
    let mut payload = rest.get(usize::from(first & 0x0F) * 4..).ok_or(RtpError::Short)?;
    if first & 0x10 != 0 {
        let (&[_, _, hi, lo], extension) = payload.split_first_chunk::<4>().ok_or(RtpError::Short)?;
        payload = extension.get(usize::from(u16::from_be_bytes([hi, lo])) * 4..).ok_or(RtpError::Short)?;
    }
    if first & 0x20 != 0 {
        let padding = usize::from(*payload.last().ok_or(RtpError::Short)?);
        // A padding of 0 is illegal but seen; it takes nothing away.
        let kept = payload.len().checked_sub(padding).ok_or(RtpError::Short)?;
        payload = payload.get(..kept).ok_or(RtpError::Short)?;
    }
    Ok(Rtp {
        marker: second & 0x80 != 0,
        payload_type: second & 0x7F,
        seq: u16::from_be_bytes([seq_hi, seq_lo]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 12] = [0x80, 0xE0, 0x12, 0x34, 0, 1, 2, 3, 0x0A, 0x0B, 0x0C, 0x0D];

    #[test]
    fn plain_header() {
        let packet = [&PLAIN[..], b"payload"].concat();
        let rtp = parse(&packet).unwrap();
        assert_eq!((rtp.marker, rtp.payload_type, rtp.seq), (true, 96, 0x1234));
        assert_eq!((rtp.timestamp, rtp.ssrc, rtp.payload), (0x0001_0203, 0x0A0B_0C0D, &b"payload"[..]));
    }

    #[test]
    fn csrc_extension_and_padding_are_cut_off() {
        let mut packet = PLAIN.to_vec();
        packet[0] = 0x80 | 0x20 | 0x10 | 2;
        packet.extend_from_slice(&[9; 8]); // two CSRC
        packet.extend_from_slice(&[0xBE, 0xDE, 0, 1, 7, 7, 7, 7]); // extension of one word
        packet.extend_from_slice(b"es");
        packet.extend_from_slice(&[0, 0, 3]);
        assert_eq!(parse(&packet).unwrap().payload, b"es");
    }

    #[test]
    fn every_lie_about_length_is_refused() {
        assert_eq!(parse(&PLAIN[..11]), Err(RtpError::Short));
        let cases: [(u8, &[u8]); 5] =
            [(0x8F, &[0; 59]), (0x90, &[0, 0, 0]), (0x90, &[0, 0, 0, 1, 0, 0]), (0xA0, &[]), (0xA0, &[1, 9])];
        for (first, tail) in cases {
            let mut packet = PLAIN.to_vec();
            packet[0] = first;
            packet.extend_from_slice(tail);
            assert_eq!(parse(&packet), Err(RtpError::Short), "{first:#x} {tail:?}");
        }
    }

    #[test]
    fn padding_may_take_everything_and_zero_takes_nothing() {
        let mut packet = PLAIN.to_vec();
        packet[0] = 0xA0;
        packet.extend_from_slice(&[0, 2]);
        assert_eq!(parse(&packet).unwrap().payload, b"");
        packet[13] = 0;
        assert_eq!(parse(&packet).unwrap().payload, [0, 0]);
    }

    #[test]
    fn other_protocols_are_told_apart() {
        let mut packet = PLAIN.to_vec();
        packet[1] = 200;
        assert_eq!(parse(&packet), Err(RtpError::Rtcp));
        packet[0] = 0x40;
        assert_eq!(parse(&packet), Err(RtpError::Version));
    }
}
