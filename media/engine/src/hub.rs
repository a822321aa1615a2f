//! Where access units wait for viewers: one bounded ring per session, the GOP cache inside it, and readers with cursors.
//!
//! The ring is the GOP cache: a new reader starts at the last key picture. Publishing costs one lock and one push,
//! whatever the number of readers; nothing is muxed here. A reader that falls out of the ring is told so and resumes
//! at the newest key picture; it never slows another.
#![forbid(unsafe_code)]

use crate::types::{AccessUnit, SessionId, Track, Tracks};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Called after new units, new tracks or the end, while at least one reader is attached. Must not block and must not
/// call back into the hub.
pub type Notify = Arc<dyn Fn(SessionId) + Send + Sync>;

/// Bounds of the ring; whichever is reached first evicts the oldest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubLimits {
    pub bytes: usize,
    /// Video units (all units for a stream without video). Audio may add `AUDIO_FACTOR` times as many.
    pub units: usize,
}

const AUDIO_FACTOR: usize = 4;

impl Default for HubLimits {
    fn default() -> Self {
        Self { bytes: 8 << 20, units: 300 }
    }
}

/// Outcome of one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// This many units (≥ 1) were appended.
    Units(usize),
    /// The reader had fallen out of the ring: `dropped` units were skipped; the next read starts at a key picture,
    /// at once if `resume_at_key`, otherwise when the next one arrives.
    Lagged { dropped: u64, resume_at_key: bool },
    /// Nothing yet; the notify callback will be called.
    Pending,
    /// The session is over and everything readable was read.
    Ended(Arc<str>),
}

#[derive(Debug)]
struct Ring {
    units: VecDeque<Arc<AccessUnit>>,
    /// Sequence number of `units[0]`.
    base: u64,
    bytes: usize,
    video_units: usize,
    /// Sequence number of the newest key picture inside the ring.
    newest_key: Option<u64>,
    tracks: Arc<Tracks>,
    ended: Option<Arc<str>>,
}

impl Ring {
    fn next(&self) -> u64 {
        self.base + self.units.len() as u64
    }

    fn evict_front(&mut self) {
        if let Some(old) = self.units.pop_front() {
            self.bytes -= old.data.len();
            self.video_units -= usize::from(old.track == Track::Video);
            if self.newest_key == Some(self.base) {
                self.newest_key = None;
            }
            self.base += 1;
        }
    }

    fn clear(&mut self) {
        self.base = self.next();
        self.units.clear();
        (self.bytes, self.video_units, self.newest_key) = (0, 0, None);
    }

    fn over(&self, limits: &HubLimits) -> bool {
        let audio_units = self.units.len() - self.video_units;
        let audio_limit = if self.tracks.video.is_some() { limits.units * AUDIO_FACTOR } else { limits.units };
        self.bytes > limits.bytes || self.video_units > limits.units || audio_units > audio_limit
    }

    /// Where a reader starts: the newest key picture, or the next unit if the stream has no picture.
    fn entry(&self) -> Option<u64> {
        if self.newest_key.is_some() {
            return self.newest_key;
        }
        let has_video = self.tracks.video.is_some() || self.video_units > 0;
        (!has_video).then(|| self.next())
    }
}

/// The units of one session.
pub struct Hub {
    id: SessionId,
    limits: HubLimits,
    ring: Mutex<Ring>,
    readers: AtomicUsize,
    notify: Notify,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("id", &self.id).field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl Hub {
    #[must_use]
    pub fn new(id: SessionId, limits: HubLimits, notify: Notify) -> Arc<Self> {
        let ring = Ring {
            units: VecDeque::new(),
            base: 0,
            bytes: 0,
            video_units: 0,
            newest_key: None,
            tracks: Arc::new(Tracks::default()),
            ended: None,
        };
        Arc::new(Self { id, limits, ring: Mutex::new(ring), readers: AtomicUsize::new(0), notify })
    }

    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Attached readers.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn tracks(&self) -> Arc<Tracks> {
        Arc::clone(&self.ring.lock().tracks)
    }

    /// Whether a new reader has a key picture at once.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.ring.lock().newest_key.is_some()
    }

    /// (units, bytes) now held.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let ring = self.ring.lock();
        (ring.units.len(), ring.bytes)
    }

    /// Replaces what the stream carries (receiver side).
    pub fn set_tracks(&self, tracks: Tracks) {
        self.ring.lock().tracks = Arc::new(tracks);
        self.wake();
    }

    /// Adds one unit (receiver side). After the end it is ignored.
    pub fn publish(&self, unit: AccessUnit) {
        {
            let mut ring = self.ring.lock();
            if ring.ended.is_some() {
                return;
            }
            let video = unit.track == Track::Video;
            if video && unit.key {
                ring.newest_key = Some(ring.next());
            }
            ring.bytes += unit.data.len();
            ring.video_units += usize::from(video);
            ring.units.push_back(Arc::new(unit));
            while ring.over(&self.limits) {
                ring.evict_front();
            }
        }
        self.wake();
    }

    /// Forgets every unit held, so that nothing recorded before a gap in permission can be read after it.
    pub fn clear(&self) {
        self.ring.lock().clear();
    }

    /// Ends the session; readers get `Ended`. The cached units are dropped at once.
    pub fn end(&self, reason: &str) {
        {
            let mut ring = self.ring.lock();
            ring.clear();
            ring.ended.get_or_insert_with(|| Arc::from(reason));
        }
        self.wake();
    }

    /// Attaches a reader that starts at the newest key picture (or the next one).
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Reader {
        self.readers.fetch_add(1, Ordering::Relaxed);
        let ring = self.ring.lock();
        let cursor = ring.entry().map_or(Cursor::AwaitKey(ring.next()), Cursor::At);
        drop(ring);
        Reader { hub: Arc::clone(self), cursor }
    }

    fn wake(&self) {
        if self.readers() > 0 {
            (self.notify)(self.id);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// Next sequence number to read.
    At(u64),
    /// Waiting for a key picture at or after this sequence number.
    AwaitKey(u64),
}

/// One viewer's place in a hub. Dropping it detaches the viewer.
#[derive(Debug)]
pub struct Reader {
    hub: Arc<Hub>,
    cursor: Cursor,
}

impl Reader {
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Appends up to `limit` units to `into`.
    pub fn read(&mut self, limit: usize, into: &mut Vec<Arc<AccessUnit>>) -> ReadResult {
        let ring = self.hub.ring.lock();
        let start = match self.cursor {
            Cursor::AwaitKey(from) => match ring.entry().filter(|key| *key >= from) {
                Some(key) => key,
                None => {
                    return ring.ended.clone().map_or(ReadResult::Pending, ReadResult::Ended);
                }
            },
            Cursor::At(next) => next,
        };
        if start < ring.base && ring.ended.is_none() {
            let target = ring.entry().filter(|key| *key > start);
            let resume = target.unwrap_or_else(|| ring.next());
            self.cursor = if target.is_some() { Cursor::At(resume) } else { Cursor::AwaitKey(resume) };
            return ReadResult::Lagged { dropped: resume - start, resume_at_key: target.is_some() };
        }
        let skip = usize::try_from(start.saturating_sub(ring.base)).unwrap_or(usize::MAX);
        let before = into.len();
        into.extend(ring.units.iter().skip(skip).take(limit).cloned());
        let count = into.len() - before;
        self.cursor = Cursor::At(start + count as u64);
        match (count, &ring.ended) {
            (0, Some(reason)) => ReadResult::Ended(Arc::clone(reason)),
            (0, None) => ReadResult::Pending,
            _ => ReadResult::Units(count),
        }
    }

    /// Units waiting between the cursor and the newest; what a slow viewer is behind.
    #[must_use]
    pub fn behind(&self) -> u64 {
        match self.cursor {
            Cursor::At(next) => self.hub.ring.lock().next().saturating_sub(next),
            Cursor::AwaitKey(_) => 0,
        }
    }

    /// A slow viewer gives up what is waiting: jumps to the newest key picture ahead of the cursor, or waits for the
    /// next one. Returns how many units were skipped.
    pub fn skip_to_key(&mut self) -> u64 {
        let ring = self.hub.ring.lock();
        let Cursor::At(next) = self.cursor else {
            return 0;
        };
        if let Some(key) = ring.entry().filter(|key| *key > next) {
            self.cursor = Cursor::At(key);
            return key - next;
        }
        let resume = ring.next();
        self.cursor = Cursor::AwaitKey(resume);
        resume.saturating_sub(next)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.hub.readers.fetch_sub(1, Ordering::Relaxed);
    }
}
