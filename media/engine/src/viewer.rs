//! One viewer: a cursor into the samples of its session, and the few buffers being written to its socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::mux::{Config, Packager, Sample};
use crate::tickets::Output;
use crate::types::Track;
use crate::{flv, fmp4, websocket};

/// Samples taken from the ring at once: little, so that a revoked viewer has little under way.
const BATCH_PIECES: usize = 32;
const BATCH_BYTES: usize = 256 * 1024;
const IO_SLICES: usize = 96;
const REPLIES: usize = 8;

/// A head of the viewer's own, the shared body, and up to four bytes behind it.
struct Piece {
    head: Vec<u8>,
    body: Bytes,
    tail: Vec<u8>,
    picture: bool,
    arrived_us: Option<u64>,
}

impl Piece {
    fn own(head: Vec<u8>) -> Self {
        Self { head, body: Bytes::new(), tail: Vec::new(), picture: false, arrived_us: None }
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }
}

/// What a viewer was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub bytes: u64,
    /// Pictures written whole.
    pub frames: u64,
    /// Pictures skipped because the viewer was too slow.
    pub dropped: u64,
}

/// Outcome of [`Viewer::pump`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Everything there is was written.
    Idle,
    /// The socket takes no more now.
    Blocked,
    /// This container carries nothing of the stream.
    Unplayable,
}

pub struct Viewer {
    output: Output,
    pending: VecDeque<Piece>,
    /// Bytes of `pending[0]` already written.
    written: usize,
    cursor: Option<u64>,
    base: Option<i64>,
    hears: bool,
    /// What the header sent last was made of.
    shown: Option<Arc<Config>>,
    next_picture: Option<u64>,
    counters: Counters,
    stat: StatWindow,
    latency_us: Option<u64>,
}

#[derive(Default)]
struct StatWindow {
    since_us: u64,
    counters: Counters,
}

impl Viewer {
    /// `greeting`: the head of the HTTP answer, sent at once. `hears`: sound may be given out.
    pub fn new(output: Output, greeting: Vec<u8>, hears: bool, now_us: u64) -> Self {
        Self {
            output,
            pending: VecDeque::from([Piece::own(greeting)]),
            written: 0,
            cursor: None,
            base: None,
            hears,
            shown: None,
            next_picture: None,
            counters: Counters::default(),
            stat: StatWindow { since_us: now_us, counters: Counters::default() },
            latency_us: None,
        }
    }

    pub fn output(&self) -> Output {
        self.output
    }

    pub fn hears(&self) -> bool {
        self.hears
    }

    /// When sound was taken away, what of it waits here is thrown away. A Media Source that was promised an audio track
    /// would wait for it: such a viewer starts anew, at the newest key picture, with a header without sound.
    pub fn set_hears(&mut self, hears: bool) {
        if !std::mem::replace(&mut self.hears, hears) || hears {
            return;
        }
        let promised = self.shown.as_ref().is_some_and(|config| fmp4::audio(config, true).is_some());
        let anew = promised && self.output == Output::WsFmp4;
        let mut begun = self.written > 0;
        self.pending
            .retain(|piece| std::mem::take(&mut begun) || piece.arrived_us.is_none() || (piece.picture && !anew));
        if anew {
            (self.cursor, self.shown) = (None, None);
        }
    }

    /// Whether a header for this would tell the viewer nothing new.
    fn knows(&self, config: &Config) -> bool {
        let same = |shown: &Arc<Config>| shown.video == config.video && (!self.hears || shown.audio == config.audio);
        self.shown.as_ref().is_some_and(same)
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the socket is in the middle of a message.
    pub fn is_mid_message(&self) -> bool {
        self.written > 0
    }

    /// Throws away what was not begun, so that nothing but the rest of one message can follow.
    pub fn discard_unsent(&mut self) {
        self.pending.truncate(usize::from(self.written > 0));
    }

    /// Queues a whole message of the viewer's own (control frames, texts).
    pub fn queue(&mut self, message: Vec<u8>) {
        self.pending.push_back(Piece::own(message));
    }

    /// Queues a message nobody misses when the viewer is slow; at most [`REPLIES`] of them wait.
    pub fn queue_reply(&mut self, message: Vec<u8>) {
        let waiting = self.pending.iter().filter(|piece| piece.arrived_us.is_none()).count();
        if waiting < REPLIES {
            self.queue(message);
        }
    }

    /// Writes until the socket or the samples end. `now_us` is the engine's monotonic clock.
    pub fn pump(&mut self, sink: &mut impl Write, samples: Option<&Packager>, now_us: u64) -> io::Result<Pumped> {
        loop {
            if !self.write(sink, now_us)? {
                return Ok(Pumped::Blocked);
            }
            match samples.map(|samples| self.fill(samples)) {
                Some(Ok(true)) => {}
                Some(Err(Unplayable)) => return Ok(Pumped::Unplayable),
                Some(Ok(false)) | None => return Ok(Pumped::Idle),
            }
        }
    }

    /// `false` when the socket would block.
    fn write(&mut self, sink: &mut impl Write, now_us: u64) -> io::Result<bool> {
        while !self.pending.is_empty() {
            let mut slices = Vec::with_capacity(IO_SLICES);
            let mut skip = self.written;
            for piece in self.pending.iter().take(IO_SLICES / 3) {
                for part in [&piece.head[..], &piece.body[..], &piece.tail[..]] {
                    let rest = part.get(skip..).unwrap_or_default();
                    skip = skip.saturating_sub(part.len());
                    if !rest.is_empty() {
                        slices.push(IoSlice::new(rest));
                    }
                }
            }
            match sink.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.wrote(count, now_us),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn wrote(&mut self, count: usize, now_us: u64) {
        self.counters.bytes += count as u64;
        self.written += count;
        while let Some(piece) = self.pending.front() {
            if self.written < piece.len() {
                return;
            }
            self.written -= piece.len();
            self.counters.frames += u64::from(piece.picture);
            if let Some(arrived_us) = piece.arrived_us {
                self.latency_us = Some(now_us.saturating_sub(arrived_us));
            }
            self.pending.pop_front();
        }
    }

    /// Queues the next samples; `false` when there are none.
    fn fill(&mut self, samples: &Packager) -> Result<bool, Unplayable> {
        let mut cursor =
            match self.cursor.filter(|cursor| *cursor == samples.next_sequence() || samples.get(*cursor).is_some()) {
                Some(cursor) => cursor,
                None => match samples.last_entry() {
                    Some(entry) => entry,
                    None => {
                        // Fell out of the ring and no key picture is left in it: wait for the next one.
                        self.cursor = None;
                        return Ok(false);
                    }
                },
            };
        let mut bytes = 0;
        while let Some(sample) = samples.get(cursor) {
            if self.pending.len() >= BATCH_PIECES || bytes >= BATCH_BYTES {
                break;
            }
            cursor += 1;
            let waiting = self.pending.len();
            self.queue_sample(sample)?;
            if self.pending.len() > waiting {
                bytes += sample.body.len();
            }
        }
        self.cursor = Some(cursor);
        Ok(!self.pending.is_empty())
    }

    fn queue_sample(&mut self, sample: &Sample) -> Result<(), Unplayable> {
        let base = *self.base.get_or_insert(sample.dts);
        if sample.dts < base {
            return Ok(());
        }
        let milliseconds = ((sample.dts - base) / 90) as u32;
        if !self.knows(&sample.config) {
            self.queue_header(&sample.config, milliseconds)?;
        }
        if sample.track == Track::Audio && !self.hears {
            return if sample.config.video.is_some() { Ok(()) } else { Err(Unplayable) };
        }
        if sample.track == Track::Video {
            let expected = self.next_picture.unwrap_or(sample.pictures);
            self.counters.dropped += sample.pictures.saturating_sub(expected);
            self.next_picture = Some(sample.pictures + 1);
        }
        let mut head = Vec::with_capacity(128);
        let mut tail = Vec::new();
        match self.output {
            Output::HttpFlv => {
                if !flv::head(sample, milliseconds, &mut head) {
                    return Ok(());
                }
                tail.extend(flv::tail(head.len(), sample));
            }
            _ if sample.track == Track::Audio && fmp4::audio(&sample.config, true).is_none() => {
                return Ok(());
            }
            Output::HttpFmp4 => fmp4::head(sample, base, &mut head),
            Output::WsFmp4 => {
                websocket::binary(fmp4::head_len(sample) + sample.body.len(), &mut head);
                fmp4::head(sample, base, &mut head);
            }
        }
        self.pending.push_back(Piece {
            head,
            body: sample.body.clone(),
            tail,
            picture: sample.track == Track::Video,
            arrived_us: Some(sample.arrived_us),
        });
        Ok(())
    }

    fn queue_header(&mut self, config: &Arc<Config>, milliseconds: u32) -> Result<(), Unplayable> {
        let mut head = Vec::new();
        match self.output {
            Output::HttpFlv => {
                if !flv::playable(config, self.hears) {
                    return Err(Unplayable);
                }
                if self.shown.is_none() {
                    flv::file_header(config, self.hears, &mut head);
                }
                flv::sequence_headers(config, self.hears, milliseconds, &mut head);
                self.queue(head);
            }
            Output::HttpFmp4 | Output::WsFmp4 if !fmp4::playable(config, self.hears) => return Err(Unplayable),
            Output::HttpFmp4 => self.queue(fmp4::init(config, self.hears).to_vec()),
            Output::WsFmp4 => {
                let init = fmp4::init(config, self.hears);
                websocket::text(&init_message(config, self.hears), &mut head);
                websocket::binary(init.len(), &mut head);
                head.extend_from_slice(&init);
                self.queue(head);
            }
        }
        self.shown = Some(Arc::clone(config));
        Ok(())
    }

    /// Once a second for WebSocket viewers that have been given something: the text of a `stat` message.
    pub fn stat_message(&mut self, now_us: u64) -> Option<String> {
        let elapsed = now_us.saturating_sub(self.stat.since_us);
        if self.output != Output::WsFmp4 || elapsed < 1_000_000 {
            return None;
        }
        let latency_ms = self.latency_us? as f64 / 1000.0;
        let seconds = elapsed as f64 / 1e6;
        let bytes = self.counters.bytes - self.stat.counters.bytes;
        let frames = self.counters.frames - self.stat.counters.frames;
        self.stat = StatWindow { since_us: now_us, counters: self.counters };
        Some(format!(
            r#"{{"type":"stat","bitrate_kbps":{:.0},"fps":{:.1},"latency_ms":{latency_ms:.1},"dropped":{}}}"#,
            bytes as f64 * 8.0 / 1000.0 / seconds,
            frames as f64 / seconds,
            self.counters.dropped,
        ))
    }
}

/// The container carries nothing of this stream.
struct Unplayable;

/// Text of the `init` message. Every value is one of ours, so nothing needs escaping.
fn init_message(config: &Config, hears: bool) -> String {
    let mut message = format!(r#"{{"type":"init","codecs":"{}""#, fmp4::codecs(config, hears));
    if let Some(video) = &config.video {
        message.push_str(&format!(
            r#","video":"{}","width":{},"height":{}"#,
            video.codec.name(),
            video.width,
            video.height
        ));
    }
    if let Some(audio) = &config.audio {
        let name = audio.codec.name();
        message.push_str(&format!(r#","audio":"{name}""#));
        if hears && fmp4::audio(config, true).is_none() {
            message.push_str(&format!(r#","audio_omitted":"{name}""#));
        }
    }
    // Said whether or not the camera has sound: it may turn up later, and this viewer will not be told again.
    if !hears {
        message.push_str(r#","audio_omitted":"not_granted""#);
    }
    message.push('}');
    message
}
