//! A camera on the `gb28181-rs` device library: plays an H.264 file (with access unit delimiters) at 25 frames a second.
//!
//! usage: gb28181-device CONFIG.toml STREAM.h264 [once|loop]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, Instant};

use gb28181_rs::frame::{AccessUnit, FrameSource, FrameSubscription, Nalu};
use gb28181_rs::{Gb28181Config, Gb28181Server};

const FRAME: Duration = Duration::from_millis(40);

/// Plays the whole file from its first frame to each subscriber at its own pace.
struct FilePlayer {
    units: Arc<Vec<Vec<Nalu>>>,
    repeat: bool,
    next: AtomicU64,
    active: Arc<Mutex<HashSet<u64>>>,
}

impl FrameSource for FilePlayer {
    fn subscribe_with_capacity(&self, capacity: usize) -> FrameSubscription {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::sync_channel(capacity);
        self.active.lock().expect("no thread panics").insert(id);
        let (units, repeat, active) = (self.units.clone(), self.repeat, self.active.clone());
        std::thread::spawn(move || {
            let begin = Instant::now();
            for (number, nalus) in (0_u32..).zip(units.iter().cycle()) {
                let done = !repeat && number as usize >= units.len();
                if !active.lock().expect("no thread panics").contains(&id) {
                    return;
                }
                if done {
                    // stay subscribed and silent, as a camera whose picture froze does
                    std::thread::park_timeout(FRAME);
                    continue;
                }
                let due = begin + FRAME * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let unit = AccessUnit {
                    nalus: nalus.clone(),
                    timestamp: due,
                    is_key_frame: nalus.iter().any(|n| n.is_idr),
                };
                if sender.send(unit).is_err() {
                    return;
                }
            }
        });
        FrameSubscription { id, receiver }
    }

    fn unsubscribe(&self, id: u64) {
        self.active.lock().expect("no thread panics").remove(&id);
    }
}

/// Split an Annex-B stream at its access unit delimiters; the delimiters themselves are dropped.
fn access_units(stream: &[u8]) -> Vec<Vec<Nalu>> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= stream.len() {
        if stream[at..at + 3] == [0, 0, 1] {
            starts.push(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    let mut units: Vec<Vec<Nalu>> = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        let mut end = starts.get(index + 1).map_or(stream.len(), |next| next - 3);
        while end > start && stream[end - 1] == 0 {
            end -= 1;
        }
        let data = stream[start..end].to_vec();
        let Some(first) = data.first() else { continue };
        let kind = first & 0x1f;
        if kind == 9 {
            units.push(Vec::new());
            continue;
        }
        if let Some(unit) = units.last_mut() {
            unit.push(Nalu {
                nalu_type: kind,
                data,
                is_idr: kind == 5,
                is_sps: kind == 7,
                is_pps: kind == 8,
                is_aud: false,
            });
        }
    }
    units
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().collect();
    let config: Gb28181Config = toml::from_str(&std::fs::read_to_string(&arguments[1])?)?;
    let units = access_units(&std::fs::read(&arguments[2])?);
    anyhow::ensure!(!units.is_empty(), "the stream has no access unit delimiters");
    let player = FilePlayer {
        units: Arc::new(units),
        repeat: arguments.get(3).is_some_and(|mode| mode == "loop"),
        next: AtomicU64::new(1),
        active: Arc::default(),
    };
    let mut server = Gb28181Server::start(config, Arc::new(player), None).await?;
    println!("started");
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    stop.recv().await;
    server.shutdown_with_deregister().await
}
