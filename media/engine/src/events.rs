//! Events on their way to Python: a bounded queue and a file descriptor that becomes readable when it is not empty.
#![forbid(unsafe_code)]

use crate::types::{Event, EventKind};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most events waiting for Python. At the bound rejected-source alarms give way first, then the newest event is lost;
/// both are counted.
pub const EVENT_LIMIT: usize = 8_192;

#[derive(Debug)]
struct Shared {
    queue: Mutex<VecDeque<Event>>,
    lost: AtomicU64,
    wake: UnixStream,
    woken: UnixStream,
}

/// Both ends of the queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct EventQueue(Arc<Shared>);

impl EventQueue {
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let queue = Mutex::new(VecDeque::new());
        Ok(Self(Arc::new(Shared { queue, lost: AtomicU64::new(0), wake, woken })))
    }

    /// Adds one event; wakes Python when the queue was empty. Never blocks.
    pub fn send(&self, event: Event) {
        let mut queue = self.0.queue.lock();
        if queue.len() >= EVENT_LIMIT {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            let Some(at) = queue.iter().position(|waiting| waiting.kind == EventKind::SourceRejected) else {
                return;
            };
            queue.remove(at);
        }
        queue.push_back(event);
        if queue.len() == 1 {
            // A full pipe means that a wake-up is already waiting there.
            let _already_waiting = (&self.0.wake).write(&[1]);
        }
    }

    /// Takes up to `limit` events, oldest first; clears the file descriptor when the queue becomes empty.
    #[must_use]
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        let mut queue = self.0.queue.lock();
        let count = queue.len().min(limit);
        let batch = queue.drain(..count).collect();
        if queue.is_empty() {
            let mut sink = [0_u8; 64];
            while matches!((&self.0.woken).read(&mut sink), Ok(count) if count > 0) {}
        }
        batch
    }

    /// Readable while events wait; for `loop.add_reader`. Owned by the queue: do not close it.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.woken.as_raw_fd()
    }

    /// Events lost at the bound since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}
