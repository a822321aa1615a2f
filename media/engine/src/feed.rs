//! One session being watched: its reader in the hub, its packager, and the viewers fed from it.

use std::sync::Arc;

use crate::hub::{Hub, ReadResult, Reader};
use crate::mux::Packager;
use crate::types::{AccessUnit, Codec, Tracks};

const BATCH: usize = 64;
/// The first picture waits this long for a sound that was announced: a player that is told of a track too late has to
/// start anew, and a camera whose microphone is off announces one all the same.
const SOUND_US: u64 = 400_000;

pub struct Feed {
    reader: Reader,
    packager: Packager,
    tracks: Arc<Tracks>,
    batch: Vec<Arc<AccessUnit>>,
    video_since_us: Option<u64>,
    /// Connection tokens.
    pub viewers: Vec<usize>,
}

impl Feed {
    pub fn new(hub: &Arc<Hub>) -> Self {
        Self {
            reader: hub.reader(),
            packager: Packager::new(),
            tracks: hub.tracks(),
            batch: Vec::new(),
            video_since_us: None,
            viewers: Vec::new(),
        }
    }

    pub fn samples(&self) -> &Packager {
        &self.packager
    }

    /// Takes everything new from the hub; the reason when the session is over. Without anybody who may hear
    /// (`is_heard`) no picture waits for sound.
    pub fn pull(&mut self, now_us: u64, is_heard: bool) -> Option<Arc<str>> {
        self.tracks = self.reader.hub().tracks();
        if !self.tracks.settled {
            self.tracks.video.as_ref()?;
            if is_heard && now_us < *self.video_since_us.get_or_insert(now_us) + SOUND_US {
                return None;
            }
        }
        loop {
            self.batch.clear();
            match self.reader.read(BATCH, &mut self.batch) {
                ReadResult::Units(_) => self.batch.iter().for_each(|unit| self.packager.push(unit, &self.tracks)),
                ReadResult::Lagged { .. } => {}
                ReadResult::Pending => return None,
                ReadResult::Ended(reason) => return Some(reason),
            }
        }
    }

    /// False once it is known that no output can carry what the stream has.
    pub fn playable(&self) -> bool {
        let tracks = &self.tracks;
        let video = tracks.video.as_ref().map(|video| matches!(video.codec, Codec::H264 | Codec::H265));
        let audio =
            || tracks.audio.as_ref().map(|audio| matches!(audio.codec, Codec::Aac | Codec::G711A | Codec::G711U));
        !tracks.settled || video.or_else(audio).unwrap_or(true)
    }
}
