//! RTP over TCP: RFC 4571 framing, and what real senders put in its place (GB/T 28181-2022 annex D; facts 31.4).
//!
//! Recognised: a 2-byte length; RTSP-like `$`, channel, 2-byte length; a private preamble of 256 bytes (`01 00 …`)
//! before one of the first frames. A wrong length is repaired by searching for the SSRC the connection is bound to.
//! At most one frame (64 KiB) is held, every byte is copied at most once, and the search is bounded.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::rtp;
use memchr::memmem;
use std::ops::ControlFlow;

/// Bytes searched in a row without finding the SSRC again before the connection is given up.
pub const RESYNC_LIMIT: usize = 256 << 10;
/// Length of the private preamble of eHome-like senders.
const PREAMBLE: usize = 256;
/// A preamble is believed only before one of the first frames.
const PREAMBLE_FRAMES: u32 = 4;

/// Why a connection cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// The bytes are no framed RTP, and no SSRC is known yet to search for.
    NotRtp,
    /// The SSRC did not turn up again within `RESYNC_LIMIT` bytes.
    Lost,
    /// The receiver of the packets asked to stop.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// 2-byte length.
    Plain,
    /// `$`, channel, 2-byte length.
    Dollar,
}

impl Framing {
    const fn header(self) -> usize {
        match self {
            Self::Plain => 2,
            Self::Dollar => 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// More bytes are needed to say.
    Need,
    /// Skip this many bytes.
    Skip(usize),
    /// A frame: (header length, whole length).
    Frame(usize, usize),
    /// The frame cannot be right.
    Wrong,
}

/// Splits one connection into RTP packets.
#[derive(Debug, Default)]
pub struct Framer {
    held: Vec<u8>,
    framing: Option<Framing>,
    ssrc: Option<u32>,
    frames: u32,
    skipping: usize,
    /// Bytes passed over since the framing was lost; `None` while in step.
    searching: Option<usize>,
    resyncs: u64,
    /// Bytes were lost since the last packet given out.
    broken: bool,
    /// Largest frame so far.
    largest: usize,
}

impl Framer {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds the connection to the SSRC of its first accepted packet: what a search looks for.
    pub fn bind(&mut self, ssrc: u32) {
        self.ssrc = Some(ssrc);
    }

    /// Whether bytes were lost before the packet given out now.
    pub fn take_broken(&mut self) -> bool {
        std::mem::take(&mut self.broken)
    }

    /// How often the framing was lost.
    #[must_use]
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// Bytes now held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes of the stream and gives every whole packet to `packet`, which may bind the framer's SSRC
    /// or break to stop.
    ///
    /// # Errors
    /// `FramingError`: the connection must be closed.
    pub fn receive(
        &mut self,
        data: &[u8],
        mut packet: impl FnMut(&mut Self, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), FramingError> {
        if self.held.is_empty() {
            let used = self.run(data, &mut packet)?;
            self.held.extend_from_slice(data.get(used..).unwrap_or_default());
            return Ok(());
        }
        self.held.extend_from_slice(data);
        let mut buffer = std::mem::take(&mut self.held);
        let used = self.run(&buffer, &mut packet)?;
        buffer.drain(..used.min(buffer.len()));
        self.held = buffer;
        Ok(())
    }

    /// Reads everything readable; returns how many bytes are done with. What stays is less than one frame.
    fn run(
        &mut self,
        data: &[u8],
        packet: &mut impl FnMut(&mut Self, &[u8]) -> ControlFlow<()>,
    ) -> Result<usize, FramingError> {
        let mut at = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(data.len());
            }
            if self.skipping > 0 {
                let skipped = self.skipping.min(rest.len());
                self.skipping -= skipped;
                at += skipped;
                continue;
            }
            if self.searching.is_some() {
                let (used, found) = self.search(rest)?;
                at += used;
                if found {
                    continue;
                }
                return Ok(at);
            }
            match self.step(rest) {
                Step::Need => return Ok(at),
                Step::Skip(count) => self.skipping = count,
                Step::Wrong => self.lose()?,
                Step::Frame(header, whole) => {
                    self.framing.get_or_insert(if header == 2 { Framing::Plain } else { Framing::Dollar });
                    self.deliver(rest.get(header..whole).unwrap_or_default(), packet)?;
                    at += whole;
                }
            }
        }
    }

    fn deliver(
        &mut self,
        frame: &[u8],
        packet: &mut impl FnMut(&mut Self, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), FramingError> {
        self.frames = self.frames.saturating_add(1);
        self.largest = self.largest.max(frame.len());
        match packet(self, frame) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(FramingError::Stopped),
        }
    }

    fn lose(&mut self) -> Result<(), FramingError> {
        if self.ssrc.is_none() {
            return Err(FramingError::NotRtp);
        }
        self.searching = Some(0);
        self.broken = true;
        self.resyncs += 1;
        Ok(())
    }

    /// What the bytes at a frame boundary are.
    fn step(&self, data: &[u8]) -> Step {
        let Some(framing) = self.framing.or_else(|| guess(data)) else {
            return Step::Need;
        };
        match *data {
            [1, 0] if self.frames < PREAMBLE_FRAMES => return Step::Need,
            [1, 0, third, ..] if self.frames < PREAMBLE_FRAMES && third >> 6 != 2 => {
                return Step::Skip(PREAMBLE);
            }
            _ => {}
        }
        let header = framing.header();
        let length = match (framing, data) {
            (Framing::Plain, &[hi, lo, ..]) => u16::from_be_bytes([hi, lo]),
            (Framing::Dollar, &[b'$', _, hi, lo, ..]) => u16::from_be_bytes([hi, lo]),
            (Framing::Dollar, &[first, ..]) if first != b'$' => return Step::Wrong,
            _ => return Step::Need,
        };
        let length = usize::from(length);
        if length < rtp::HEADER {
            return Step::Wrong;
        }
        let Some(&[first, second, _, _, _, _, _, _, s0, s1, s2, s3]) =
            data.get(header..).and_then(<[u8]>::first_chunk::<{ rtp::HEADER }>)
        else {
            return Step::Need;
        };
        let rtcp = (192..=223).contains(&second);
        let foreign = self.ssrc.is_some_and(|ssrc| ssrc != u32::from_be_bytes([s0, s1, s2, s3]));
        if first >> 6 != 2 || (foreign && !rtcp) {
            return Step::Wrong;
        }
        match (data.get(header + length..), self.ssrc) {
            (None, _) => Step::Need,
            (Some(next), Some(ssrc)) if self.frames >= PREAMBLE_FRAMES => self.confirm(framing, length, next, ssrc),
            (Some(_), _) => Step::Frame(header, header + length),
        }
    }

    /// A frame is believed if another one follows it. Where that cannot be seen yet, only a frame longer than any
    /// before has to wait: a wrong length that is too long would swallow many good packets.
    fn confirm(&self, framing: Framing, length: usize, next: &[u8], ssrc: u32) -> Step {
        let header = framing.header();
        match next.get(header..).and_then(<[u8]>::first_chunk::<{ rtp::HEADER }>) {
            Some(&[first, second, _, _, _, _, _, _, s0, s1, s2, s3]) => {
                let ours = u32::from_be_bytes([s0, s1, s2, s3]) == ssrc || (192..=223).contains(&second);
                if first >> 6 == 2 && ours { Step::Frame(header, header + length) } else { Step::Wrong }
            }
            None if length > self.largest => Step::Need,
            None => Step::Frame(header, header + length),
        }
    }

    /// Looks for the known SSRC where an RTP header would have it. Returns how many bytes are done with and whether
    /// a frame begins there. Every byte is searched once, but for the few a header could span.
    fn search(&mut self, data: &[u8]) -> Result<(usize, bool), FramingError> {
        let (Some(ssrc), Some(passed)) = (self.ssrc, self.searching) else {
            return Err(FramingError::NotRtp);
        };
        let before = self.framing.unwrap_or(Framing::Plain).header() + 8;
        for at in memmem::find_iter(data, &ssrc.to_be_bytes()) {
            let Some(start) = at.checked_sub(before) else {
                continue;
            };
            if matches!(self.step(data.get(start..).unwrap_or_default()), Step::Need | Step::Frame(..)) {
                self.searching = None;
                return Ok((start, true));
            }
        }
        let used = data.len().saturating_sub(before + 3);
        self.searching = Some(passed + used);
        if passed + used > RESYNC_LIMIT { Err(FramingError::Lost) } else { Ok((used, false)) }
    }
}

/// Tells the two framings apart by where an RTP version would be. `None`: too few bytes to say.
fn guess(data: &[u8]) -> Option<Framing> {
    match *data {
        [b'$', _, third, _, fifth, ..] if third >> 6 != 2 && fifth >> 6 == 2 => Some(Framing::Dollar),
        [b'$', _, _, _, _, ..] => Some(Framing::Plain),
        [b'$', ..] | [] => None,
        _ => Some(Framing::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 0x3B9A_CA01;

    fn rtp(seq: u16, size: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&seq.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&SSRC.to_be_bytes());
        packet.resize(12 + size, seq as u8);
        packet
    }

    fn plain(packet: &[u8]) -> Vec<u8> {
        [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
    }

    fn dollar(packet: &[u8]) -> Vec<u8> {
        [&[b'$', 0][..], &plain(packet)].concat()
    }

    /// Feeds `stream` in pieces of `size`; returns the packets and how it ended.
    fn split(stream: &[u8], size: usize) -> (Vec<Vec<u8>>, Result<(), FramingError>) {
        let (mut framer, mut packets) = (Framer::new(), Vec::new());
        for piece in stream.chunks(size) {
            let outcome = framer.receive(piece, |framer, packet| {
                framer.bind(SSRC);
                packets.push(packet.to_vec());
                ControlFlow::Continue(())
            });
            assert!(framer.held() <= (64 << 10) + 4);
            if outcome.is_err() {
                return (packets, outcome);
            }
        }
        (packets, Ok(()))
    }

    fn packets() -> Vec<Vec<u8>> {
        (0..6).map(|seq| rtp(seq, [0, 1, 300, 1400, 9300, 5][usize::from(seq)])).collect()
    }

    #[test]
    fn every_split_of_every_framing_gives_the_same_packets() {
        let preamble: Vec<u8> = [&[1, 0, 0, 1][..], &[0; 252]].concat();
        let plain: Vec<u8> = packets().iter().flat_map(|packet| plain(packet)).collect();
        let dollar: Vec<u8> = packets().iter().flat_map(|packet| dollar(packet)).collect();
        let after_preamble = [&preamble[..], &dollar].concat();
        for stream in [plain, dollar, after_preamble] {
            for size in (1..40).chain([255, 256, 257, 1413, 1414, 1415, 70_000]) {
                assert_eq!(split(&stream, size), (packets(), Ok(())), "pieces of {size}");
            }
        }
    }

    #[test]
    fn length_that_looks_like_a_dollar_is_still_a_length() {
        let packet = rtp(9, 0x2480 - 12);
        assert_eq!(split(&plain(&packet), 1).0, vec![packet]);
    }

    #[test]
    fn wrong_length_costs_the_frames_it_covers_and_no_more() {
        for (framed, header) in [(plain as fn(&[u8]) -> Vec<u8>, 2), (dollar, 4)] {
            for lie in [0_u16, 5, 20, 200, 1500, 65_535] {
                let mut stream: Vec<u8> = (0..3).flat_map(|seq| framed(&rtp(seq, 700))).collect();
                let length_at = stream.len() / 3 + header - 2;
                stream[length_at..length_at + 2].copy_from_slice(&lie.to_be_bytes());
                stream.extend((3..200).flat_map(|seq| framed(&rtp(seq, 700))));
                for size in [1, 7, 1000, 100_000] {
                    let (packets, outcome) = split(&stream, size);
                    assert_eq!(outcome, Ok(()), "length {lie}, pieces of {size}");
                    assert_eq!(packets.first(), Some(&rtp(0, 700)));
                    assert_eq!(packets.last(), Some(&rtp(199, 700)), "length {lie}, pieces of {size}");
                    assert!(packets.len() > 100);
                }
            }
        }
    }

    #[test]
    fn noise_before_any_packet_closes() {
        assert_eq!(split(b"GET / HTTP/1.1\r\n\r\n", 3).1, Err(FramingError::NotRtp));
    }

    #[test]
    fn endless_noise_after_a_packet_closes_within_the_bound() {
        let stream = [plain(&rtp(0, 10)), vec![0xAA; RESYNC_LIMIT + 2000]].concat();
        for size in [1, 1000, 1 << 20] {
            let (packets, outcome) = split(&stream, size);
            assert_eq!((packets.len(), outcome), (1, Err(FramingError::Lost)), "pieces of {size}");
        }
    }

    #[test]
    fn receiver_may_stop() {
        let stream = plain(&rtp(0, 10));
        assert_eq!(Framer::new().receive(&stream, |_, _| ControlFlow::Break(())), Err(FramingError::Stopped));
    }
}
