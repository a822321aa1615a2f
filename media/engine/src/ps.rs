//! MPEG program stream, read incrementally (ISO/IEC 13818-1 §2.5; GB/T 28181-2022 annex C).
//!
//! Written for what cameras send, not for what they should: no length is trusted further than it agrees with the start
//! codes, PES packets may have length 0 or a length that wrapped at 64 KiB, headers may be displaced, the PSM's CRC is
//! ignored. Bytes may come in any pieces. Headers are collected (≤ 1 KiB), payload is passed on as it comes; every byte
//! is looked at a bounded number of times.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::scan;
use crate::types::{Codec, Track};

/// Longest system header or PSM that is believed; a longer one is passed over without being believed.
pub const MAP_LIMIT: usize = 1_024;

const PACK: u8 = 0xBA;
const SYSTEM: u8 = 0xBB;
const MAP: u8 = 0xBC;
const END: u8 = 0xB9;
/// Smallest id of the system layer; below are codes of the elementary streams.
const SYSTEM_LAYER: u8 = 0xB9;

/// Receives what the program stream carries, in order.
pub trait PsSink {
    /// A pack header: in GB/T 28181 every picture begins with one.
    fn pack(&mut self);
    /// A system header: sent with key pictures.
    fn system_header(&mut self);
    /// A program stream map.
    fn map(&mut self, map: &StreamMap);
    /// A PES packet of a track begins. Times are 90 kHz, 33 bits, as sent.
    fn pes(&mut self, track: Track, pts: Option<u64>, dts: Option<u64>);
    /// Payload of the PES packet begun last.
    fn data(&mut self, track: Track, bytes: &[u8]);
    /// The declared length of that PES packet is reached (not told for length 0).
    fn pes_end(&mut self, track: Track);
}

/// What a PSM declares: the first video and the first audio stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMap {
    pub video: Option<Codec>,
    pub audio: Option<Codec>,
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PsStats {
    pub packs: u64,
    pub maps: u64,
    pub pes: u64,
    /// Private and padding packets passed over.
    pub skipped: u64,
    /// Headers that could not be right.
    pub bad_headers: u64,
    /// Bytes thrown away while looking for a start code.
    pub lost_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Looking for a start code of the system layer.
    Search,
    /// Collecting a header; it begins at `header[0]`.
    Header,
    /// Inside a PES packet with this much to come.
    Payload(Track, usize),
    /// Inside a PES packet whose end only the next start code tells.
    Open(Track),
    /// Passing over the rest of something.
    Skip(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// So many bytes in all are needed.
    Need(usize),
    /// The header is `used` bytes long; then comes this.
    Then(usize, State),
    /// It cannot be a header: look on behind its start code.
    Bad,
}

/// The demultiplexer of one stream.
#[derive(Debug)]
pub struct PsDemux {
    state: State,
    /// In `Header`: the bytes so far. In `Search` and `Open`: at most 3 that may begin a start code.
    header: Vec<u8>,
    stats: PsStats,
}

impl Default for PsDemux {
    fn default() -> Self {
        Self::new()
    }
}

impl PsDemux {
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Search, header: Vec::new(), stats: PsStats::default() }
    }

    #[must_use]
    pub fn stats(&self) -> PsStats {
        self.stats
    }

    /// Inside a PES packet that declared more than has come.
    #[must_use]
    pub fn mid_pes(&self) -> bool {
        matches!(self.state, State::Payload(_, left) if left > 0)
    }

    /// The picture ends here: gives out what was kept back because a start code might have begun with it.
    pub fn flush(&mut self, sink: &mut impl PsSink) {
        if matches!(self.state, State::Open(_)) {
            let kept = std::mem::take(&mut self.header);
            self.pass(&kept, sink);
        }
    }

    /// Bytes were lost or a new picture begins: look for the next start code.
    pub fn restart(&mut self) {
        self.state = State::Search;
        self.header.clear();
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut data: &[u8], sink: &mut impl PsSink) {
        while !data.is_empty() {
            data = match self.state {
                State::Payload(track, left) => self.payload(track, left, data, sink),
                State::Skip(left) => {
                    let (skipped, rest) = cut(data, left);
                    self.state = next_if_done(left - skipped.len(), State::Skip, State::Search);
                    rest
                }
                State::Search | State::Open(_) => self.seek(data, sink),
                State::Header => self.collect(data, sink),
            };
        }
    }

    fn payload<'a>(&mut self, track: Track, left: usize, data: &'a [u8], sink: &mut impl PsSink) -> &'a [u8] {
        let (bytes, rest) = cut(data, left);
        sink.data(track, bytes);
        let left = left - bytes.len();
        // After the declared end of a video packet more payload may follow: lengths above 64 KiB wrap.
        let after = if track == Track::Video { State::Open(track) } else { State::Search };
        self.state = next_if_done(left, |left| State::Payload(track, left), after);
        if left == 0 {
            sink.pes_end(track);
        }
        rest
    }

    /// Looks for a start code of the system layer; what comes before it is payload in `Open`, lost in `Search`.
    fn seek<'a>(&mut self, data: &'a [u8], sink: &mut impl PsSink) -> &'a [u8] {
        if !self.header.is_empty() {
            return self.seek_across(data, sink);
        }
        if let Some(at) = scan::code(data, 0, SYSTEM_LAYER) {
            let (before, found) = cut(data, at);
            self.pass(before, sink);
            self.state = State::Header;
            return found;
        }
        let kept = scan::partial_prefix(data);
        let (before, partial) = cut(data, data.len() - kept);
        self.pass(before, sink);
        self.header.extend_from_slice(partial);
        &[]
    }

    /// The same where the previous piece ended in what may begin a start code: decided by the next byte.
    fn seek_across<'a>(&mut self, data: &'a [u8], sink: &mut impl PsSink) -> &'a [u8] {
        let Some((&byte, rest)) = data.split_first() else { return &[] };
        match (self.header.as_slice(), byte) {
            ([0, 0, 1], id) if id >= SYSTEM_LAYER => {
                self.header.push(byte);
                self.state = State::Header;
                return rest;
            }
            ([0], 0) | ([0, 0], 1) => {
                self.header.push(byte);
                return rest;
            }
            ([0, 0], 0) => {
                // A run of zeros: as many as come now go out, the last two stay.
                let (zeros, rest) = cut(data, data.iter().take_while(|byte| **byte == 0).count());
                self.pass(zeros, sink);
                return rest;
            }
            _ => {}
        }
        // No start code: what was kept belongs to what came before; the byte is looked at anew.
        let kept = std::mem::take(&mut self.header);
        self.pass(&kept, sink);
        self.reuse(kept);
        data
    }

    fn pass(&mut self, bytes: &[u8], sink: &mut impl PsSink) {
        if bytes.is_empty() {
            return;
        }
        match self.state {
            State::Open(track) => sink.data(track, bytes),
            _ => self.stats.lost_bytes += bytes.len() as u64,
        }
    }

    /// Collects a header until it is whole, then acts on it.
    fn collect<'a>(&mut self, data: &'a [u8], sink: &mut impl PsSink) -> &'a [u8] {
        // Fast path: the whole header lies in this piece.
        if self.header.is_empty() {
            match self.head(data, sink) {
                Head::Then(used, state) => {
                    self.state = state;
                    return data.get(used..).unwrap_or_default();
                }
                Head::Bad => return self.bad(data),
                Head::Need(_) => {
                    self.header.extend_from_slice(data);
                    return &[];
                }
            }
        }
        let mut header = std::mem::take(&mut self.header);
        let mut rest = data;
        let outcome = loop {
            match self.head(&header, sink) {
                Head::Need(total) if !rest.is_empty() => {
                    let (taken, left) = cut(rest, total.saturating_sub(header.len()).max(1));
                    header.extend_from_slice(taken);
                    rest = left;
                }
                outcome => break outcome,
            }
        };
        match outcome {
            Head::Need(_) => {
                self.header = header;
                return rest;
            }
            Head::Then(used, state) => {
                self.state = state;
                // Payload collected with the header (a displaced header); bounded by the header's length.
                self.push(header.get(used..).unwrap_or_default(), sink);
            }
            Head::Bad => {
                let tail = self.bad(&header);
                self.push(tail, sink);
            }
        }
        self.reuse(header);
        rest
    }

    /// Keeps the allocation of a header buffer that was taken out.
    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if self.header.capacity() == 0 {
            buffer.clear();
            self.header = buffer;
        }
    }

    /// A start code that begins no header: pass over its prefix and look on.
    fn bad<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        self.stats.bad_headers += 1;
        self.state = State::Search;
        data.get(3..).unwrap_or_default()
    }

    /// Reads a header at the beginning of `data`.
    fn head(&mut self, data: &[u8], sink: &mut impl PsSink) -> Head {
        let Some(&id) = data.get(3) else { return Head::Need(4) };
        match id {
            END => Head::Then(4, State::Search),
            PACK => self.pack(data, sink),
            SYSTEM | MAP => self.table(id, data, sink),
            0xC0..=0xDF => self.pes(Track::Audio, data, sink),
            0xE0..=0xEF => self.pes(Track::Video, data, sink),
            _ => {
                let Some(length) = declared(data) else { return Head::Need(6) };
                self.stats.skipped += 1;
                Head::Then(6, next_if_done(length, State::Skip, State::Search))
            }
        }
    }

    fn pack(&mut self, data: &[u8], sink: &mut impl PsSink) -> Head {
        let Some(&mark) = data.get(4) else { return Head::Need(5) };
        let length = if mark >> 6 == 0b01 {
            let Some(&stuffing) = data.get(13) else { return Head::Need(14) };
            14 + usize::from(stuffing & 7)
        } else if mark >> 4 == 0b0010 {
            12 // ISO/IEC 11172-1
        } else {
            return Head::Bad;
        };
        if data.len() < length {
            return Head::Need(length);
        }
        self.stats.packs += 1;
        sink.pack();
        Head::Then(length, State::Search)
    }

    /// System header or PSM. Ends early at a start code inside: its length was wrong then.
    fn table(&mut self, id: u8, data: &[u8], sink: &mut impl PsSink) -> Head {
        let Some(length) = declared(data) else { return Head::Need(6) };
        let body = data.get(6..).unwrap_or_default();
        let whole = body.get(..length.min(MAP_LIMIT));
        let body = whole.unwrap_or(body);
        let cut_short = scan::code(body, 0, SYSTEM_LAYER);
        if whole.is_none() && cut_short.is_none() {
            return Head::Need(6 + length.min(MAP_LIMIT));
        }
        let end = cut_short.unwrap_or(body.len());
        if id == SYSTEM {
            sink.system_header();
        } else if let Some(map) = read_map(body.get(..end).unwrap_or_default()) {
            self.stats.maps += 1;
            sink.map(&map);
        } else {
            self.stats.bad_headers += 1;
        }
        Head::Then(6 + end, State::Search)
    }

    fn pes(&mut self, track: Track, data: &[u8], sink: &mut impl PsSink) -> Head {
        let Some(length) = declared(data) else { return Head::Need(6) };
        let Some(&[mark, flags, extra]) = data.get(6..).and_then(<[u8]>::first_chunk::<3>) else {
            return Head::Need(9);
        };
        let mut start = 9 + usize::from(extra);
        if mark >> 6 != 0b10 {
            // No MPEG-2 PES header. Video is found by its own start codes, sound is not worth guessing.
            self.stats.bad_headers += 1;
            if track == Track::Audio {
                return Head::Then(6, next_if_done(length, State::Skip, State::Search));
            }
            start = 6;
        }
        // A header length that reaches into the payload is recognised by the picture's first start code inside it, of
        // which two bytes may lie behind.
        let seen = if track == Track::Video && (length == 0 || length >= start - 4) { start + 2 } else { start };
        let Some(optional) = data.get(6..seen) else { return Head::Need(seen) };
        if let Some(at) =
            (track == Track::Video).then(|| scan::prefix(optional, 3)).flatten().filter(|at| 6 + at < start)
        {
            self.stats.bad_headers += 1;
            start = 6 + at;
        }
        let (pts, dts) = times(flags, optional.get(3..).unwrap_or_default());
        self.stats.pes += 1;
        sink.pes(track, pts, dts);
        let state = match length.checked_sub(start - 6) {
            None | Some(0) if length != 0 => {
                sink.pes_end(track);
                if track == Track::Video { State::Open(track) } else { State::Search }
            }
            Some(left) if length != 0 => State::Payload(track, left),
            _ => State::Open(track),
        };
        Head::Then(start, state)
    }
}

fn next_if_done(left: usize, more: impl FnOnce(usize) -> State, done: State) -> State {
    if left > 0 { more(left) } else { done }
}

fn cut(data: &[u8], at: usize) -> (&[u8], &[u8]) {
    data.split_at_checked(at).unwrap_or((data, &[]))
}

/// The 16-bit length behind a start code.
fn declared(data: &[u8]) -> Option<usize> {
    match *data {
        [_, _, _, _, hi, lo, ..] => Some(usize::from(u16::from_be_bytes([hi, lo]))),
        _ => None,
    }
}

/// PTS and DTS behind the PES flags (ISO/IEC 13818-1 §2.4.3.7). Marker bits are not checked: cameras forget them.
fn times(flags: u8, data: &[u8]) -> (Option<u64>, Option<u64>) {
    let stamp = |field: Option<&[u8; 5]>| {
        field.map(|&[a, b, c, d, e]| {
            u64::from(a >> 1 & 7) << 30
                | u64::from(b) << 22
                | u64::from(c >> 1) << 15
                | u64::from(d) << 7
                | u64::from(e >> 1)
        })
    };
    match flags >> 6 {
        0b10 => (stamp(data.first_chunk()), None),
        0b11 => (stamp(data.first_chunk()), stamp(data.get(5..).and_then(<[u8]>::first_chunk))),
        _ => (None, None),
    }
}

/// Reads the body of a PSM (ISO/IEC 13818-1 §2.5.4). `None` when no stream can be read from it.
fn read_map(body: &[u8]) -> Option<StreamMap> {
    let info = usize::from(u16::from_be_bytes(*body.get(2..)?.first_chunk::<2>()?));
    let map_length = body.get(4 + info..)?.first_chunk::<2>()?;
    let declared = usize::from(u16::from_be_bytes(*map_length));
    let entries = body.get(6 + info..)?;
    // Entries cannot reach into the CRC, whatever the length says.
    let limit = entries.len().saturating_sub(4);
    let mut entries = entries.get(..declared.min(limit)).unwrap_or_default();
    let mut map = StreamMap::default();
    while let Some((&[stream_type, id, hi, lo], rest)) = entries.split_first_chunk::<4>() {
        let codec = Codec::from_stream_type(stream_type);
        match id {
            0xE0..=0xEF if codec.track() != Some(Track::Audio) => map.video = map.video.or(Some(codec)),
            0xC0..=0xDF if codec.track() != Some(Track::Video) => map.audio = map.audio.or(Some(codec)),
            _ => {}
        }
        // A wrong information length ends the map here; the streams read so far stand, the rest is probed.
        entries = rest.get(usize::from(u16::from_be_bytes([hi, lo]))..).unwrap_or_default();
    }
    (map != StreamMap::default()).then_some(map)
}
