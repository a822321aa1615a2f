//! WebSocket frames (RFC 6455 §5): unmasked out, masked in; a viewer has nothing to say but ping, pong and close.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest message a viewer may send; control frames end at 125 bytes anyway (§5.5).
const MAX_INBOUND: u64 = 1024;

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound {
    Ping(Vec<u8>),
    Close,
    /// Text, binary, continuation or pong: heard and ignored.
    Ignored,
    /// Not masked, too long or malformed: the connection ends with this close code (§7.4.1).
    Fault(u16),
}

fn header(opcode: OpCode, length: usize, out: &mut Vec<u8>) {
    let frame = FrameHeader { opcode, ..FrameHeader::default() };
    // Writing to a vector cannot fail.
    let _infallible = frame.format(length as u64, out);
}

/// Head of a binary message whose `length` bytes follow.
pub fn binary(length: usize, out: &mut Vec<u8>) {
    header(OpCode::Data(Data::Binary), length, out);
}

/// A whole text message.
pub fn text(message: &str, out: &mut Vec<u8>) {
    header(OpCode::Data(Data::Text), message.len(), out);
    out.extend_from_slice(message.as_bytes());
}

/// A whole pong, at most 125 bytes (§5.5.3).
pub fn pong(payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..125).unwrap_or(payload);
    header(OpCode::Control(Control::Pong), payload.len(), out);
    out.extend_from_slice(payload);
}

/// A whole close frame (§5.5.1).
pub fn close(code: u16, reason: &str, out: &mut Vec<u8>) {
    header(OpCode::Control(Control::Close), 2 + reason.len(), out);
    out.extend(code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Takes one frame off the front of `buffer`; `None` while it is incomplete.
pub fn take(buffer: &mut Vec<u8>) -> Option<Inbound> {
    let mut cursor = Cursor::new(&buffer[..]);
    let (head, length) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return None,
        Err(_) => return Some(Inbound::Fault(1002)),
    };
    let Some(mask) = head.mask else {
        return Some(Inbound::Fault(1002));
    };
    if length > MAX_INBOUND {
        return Some(Inbound::Fault(1009));
    }
    let start = cursor.position() as usize;
    let end = start + length as usize;
    let payload = buffer.get(start..end)?;
    let payload: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    buffer.drain(..end);
    Some(match head.opcode {
        OpCode::Control(_) if length > 125 || !head.is_final => Inbound::Fault(1002),
        OpCode::Control(Control::Ping) => Inbound::Ping(payload),
        OpCode::Control(Control::Close) => Inbound::Close,
        OpCode::Control(Control::Pong) | OpCode::Data(Data::Text | Data::Binary | Data::Continue) => Inbound::Ignored,
        _ => Inbound::Fault(1002),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_three_forms() {
        for (length, head) in
            [(5, vec![0x82, 5]), (300, vec![0x82, 126, 1, 44]), (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0])]
        {
            let mut out = Vec::new();
            binary(length, &mut out);
            assert_eq!(out, head);
        }
        let mut out = Vec::new();
        close(1008, "lease", &mut out);
        assert_eq!(out, [0x88, 7, 3, 240, b'l', b'e', b'a', b's', b'e']);
    }

    #[test]
    fn masked_ping_is_read_and_the_rest_stays() {
        let mut buffer = vec![0x89, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2, 0x88];
        assert_eq!(take(&mut buffer), Some(Inbound::Ping(b"hi".to_vec())));
        assert_eq!(take(&mut buffer), None);
        assert_eq!(buffer, [0x88]);
    }

    #[test]
    fn unmasked_long_and_unknown_frames_are_faults() {
        assert_eq!(take(&mut vec![0x89, 0]), Some(Inbound::Fault(1002)));
        assert_eq!(take(&mut vec![0x82, 0xfe, 0x04, 0x01, 0, 0, 0, 0]), Some(Inbound::Fault(1009)));
        assert_eq!(take(&mut vec![0x83, 0x80, 0, 0, 0, 0]), Some(Inbound::Fault(1002)));
        assert_eq!(take(&mut vec![0x82, 0x80, 0, 0, 0, 0]), Some(Inbound::Ignored));
    }
}
