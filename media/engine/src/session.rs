//! One session's data path: lease, acceptance rule, stream, hub; and the counters of all that.
#![forbid(unsafe_code)]

use crate::accept::{Acceptor, Reason, Verdict, Via};
use crate::clock::Now;
use crate::events::EventQueue;
use crate::frames::{FrameStats, LossPolicy, Output};
use crate::hub::Hub;
use crate::lease::Lease;
use crate::reorder::ReorderStats;
use crate::rtp::Rtp;
use crate::stream::Stream;
use crate::types::{AccessUnit, Event, EventKind, SessionId, TIMEBASE, Track, Tracks, Value};
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most leases on one session.
pub const LEASES_PER_SESSION: usize = 10_000;
/// Alarms about refused packets are told at most this often; the packets between are counted.
const ALARM_US: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    TcpPassive,
}

/// Counters of one session since it was opened; rates over the last full second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionStats {
    /// Accepted packets and their bytes.
    pub packets: u64,
    pub bytes: u64,
    /// RTP sequence numbers that never came.
    pub lost: u64,
    pub reordered: u64,
    pub duplicates: u64,
    /// Packets refused by the acceptance rule.
    pub rejected: u64,
    /// Packets discarded because no lease let them in.
    pub unleased: u64,
    pub video_frames: u64,
    pub key_frames: u64,
    pub audio_frames: u64,
    /// Units left out because packets of them were missing.
    pub damaged: u64,
    /// Whole pictures left out while waiting for a key picture.
    pub waited: u64,
    /// Whole units in which nothing could be recognised.
    pub malformed: u64,
    pub bitrate_bps: f64,
    pub fps: f64,
    pub video_codec: Option<&'static str>,
    pub audio_codec: Option<&'static str>,
    /// "PS", "ES", "undecided", or the name of an unsupported container.
    pub container: Option<&'static str>,
    pub viewers: u64,
    /// Whether a source is pinned.
    pub pinned: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Taken; `deadline_us`: when `flush` must be called, if it must.
    Accepted {
        deadline_us: Option<u64>,
    },
    Rejected(Reason),
    Unleased,
}

#[derive(Debug, Default)]
struct Rate {
    since_us: u64,
    bytes: u64,
    frames: u64,
    bitrate_bps: f64,
    fps: f64,
}

impl Rate {
    #[allow(clippy::cast_precision_loss)] // a display value
    fn count(&mut self, bytes: usize, frames: u64, now_us: u64) {
        let elapsed = now_us.saturating_sub(self.since_us);
        if elapsed >= 1_000_000 {
            let seconds = elapsed as f64 / 1e6;
            self.bitrate_bps = self.bytes as f64 * 8.0 / seconds;
            self.fps = self.frames as f64 / seconds;
            (self.since_us, self.bytes, self.frames) = (now_us, 0, 0);
        }
        self.bytes += bytes as u64;
        self.frames += frames;
    }

    /// (bits a second, pictures a second); nothing once the source is silent.
    fn read(&self, now_us: u64) -> (f64, f64) {
        if now_us.saturating_sub(self.since_us) > 2_500_000 { (0.0, 0.0) } else { (self.bitrate_bps, self.fps) }
    }
}

#[derive(Debug, Default)]
struct Alarm {
    told_us: Option<u64>,
    waiting: u64,
    last: Option<(Reason, IpAddr, u32)>,
}

/// Everything the receiving thread changes.
#[derive(Debug)]
struct Feed {
    acceptor: Acceptor,
    /// The lease that let the last packet in.
    lease: Option<Arc<Lease>>,
    /// The living, and the released that still let packets in.
    leases: Vec<Arc<Lease>>,
    stream: Option<Stream>,
    closed: bool,
    policy: LossPolicy,
    counts: SessionStats,
    rate: Rate,
    alarm: Alarm,
    tracks_version: u64,
    /// Added to the stream's times, so that they go on across a change of source.
    shift: Option<i64>,
    last_out: Option<(i64, u64)>,
    first_frame_told: bool,
    /// Engine microseconds of the last accepted packet, or of the beginning of the wait for it.
    heard_us: u64,
    lost_told: bool,
}

/// One open session.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    key: Arc<str>,
    transport: Transport,
    private: bool,
    opened_us: u64,
    ssrc: AtomicU64,
    hub: Arc<Hub>,
    events: EventQueue,
    feed: Mutex<Feed>,
}

/// What the registry knows when it makes a session.
#[derive(Debug)]
pub struct SessionSetup {
    pub id: SessionId,
    pub key: Arc<str>,
    pub ssrc: u32,
    pub transport: Transport,
    pub private: bool,
    pub sources: Vec<IpAddr>,
    pub policy: LossPolicy,
}

impl Session {
    #[must_use]
    pub fn new(setup: SessionSetup, hub: Arc<Hub>, events: EventQueue, now: Now) -> Arc<Self> {
        let tcp = setup.transport == Transport::TcpPassive;
        Arc::new(Self {
            id: setup.id,
            key: setup.key,
            transport: setup.transport,
            private: setup.private,
            opened_us: now.mono_us,
            ssrc: AtomicU64::new(u64::from(setup.ssrc)),
            hub,
            events,
            feed: Mutex::new(Feed {
                acceptor: Acceptor::new(setup.ssrc, tcp, &setup.sources),
                lease: None,
                leases: Vec::new(),
                stream: None,
                closed: false,
                policy: setup.policy,
                counts: SessionStats::default(),
                rate: Rate::default(),
                alarm: Alarm::default(),
                tracks_version: 0,
                shift: None,
                last_out: None,
                first_frame_told: false,
                heard_us: now.mono_us,
                lost_told: false,
            }),
        })
    }

    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    #[must_use]
    pub fn private(&self) -> bool {
        self.private
    }

    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The expected SSRC.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        u32::try_from(self.ssrc.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Takes one valid RTP packet of `size` bytes from the network.
    pub fn packet(&self, rtp: &Rtp<'_>, size: usize, from: SocketAddr, via: Via, now: Now) -> Fate {
        let mut guard = self.feed.lock();
        let feed = &mut *guard;
        if !feed.leased(now) {
            feed.counts.unleased += 1;
            return Fate::Unleased;
        }
        match feed.acceptor.check(from, rtp.ssrc, via) {
            Verdict::Reject(reason) => {
                feed.counts.rejected += 1;
                feed.alarm.waiting += 1;
                feed.alarm.last = Some((reason, from.ip().to_canonical(), rtp.ssrc));
                self.alarm(feed, now);
                return Fate::Rejected(reason);
            }
            Verdict::Pinned => self.tell(EventKind::SourceStarted, None, self.started(feed, from, rtp.ssrc, now)),
            Verdict::Accept => {}
        }
        feed.heard_us = now.mono_us;
        feed.lost_told = false;
        feed.counts.packets += 1;
        feed.counts.bytes += size as u64;
        feed.rate.count(size, 0, now.mono_us);
        let (reliable, policy) = (self.transport == Transport::TcpPassive, feed.policy);
        let stream = feed.stream.get_or_insert_with(|| Stream::new(reliable, policy));
        stream.push(rtp, now.mono_us);
        let deadline_us = stream.deadline_us();
        if stream.has_output() {
            self.publish(feed, now);
        }
        Fate::Accepted { deadline_us }
    }

    /// Bytes of the pinned connection were lost before the next packet.
    pub fn broken(&self) {
        if let Some(stream) = self.feed.lock().stream.as_mut() {
            stream.broken();
        }
    }

    /// Gives up reorder gaps that were waited for long enough; returns the next time to call this.
    pub fn flush(&self, now: Now) -> Option<u64> {
        let mut guard = self.feed.lock();
        let feed = &mut *guard;
        if !feed.leased(now) {
            return None;
        }
        let stream = feed.stream.as_mut()?;
        stream.flush(now.mono_us);
        let deadline_us = stream.deadline_us();
        if stream.has_output() {
            self.publish(feed, now);
        }
        deadline_us
    }

    fn publish(&self, feed: &mut Feed, now: Now) {
        let Some(mut stream) = feed.stream.take() else { return };
        for output in stream.drain() {
            match output {
                Output::Tracks(tracks) => self.publish_tracks(feed, tracks),
                Output::Unit(unit) => self.publish_unit(feed, unit, now),
            }
        }
        feed.stream = Some(stream);
    }

    fn publish_tracks(&self, feed: &mut Feed, mut tracks: Tracks) {
        feed.tracks_version += 1;
        tracks.version = feed.tracks_version;
        let mut detail = vec![("settled", Value::Int(i64::from(tracks.settled)))];
        if let Some(video) = &tracks.video {
            feed.counts.video_codec = Some(video.codec.name());
            detail.push(("video", Value::Text(video.codec.name().to_owned())));
        }
        if let Some(audio) = &tracks.audio {
            feed.counts.audio_codec = Some(audio.codec.name());
            detail.push(("audio", Value::Text(audio.codec.name().to_owned())));
            detail.push(("sample_rate", Value::Int(i64::from(audio.sample_rate))));
        }
        self.hub.set_tracks(tracks);
        self.tell(EventKind::Tracks, None, detail);
    }

    fn publish_unit(&self, feed: &mut Feed, mut unit: AccessUnit, now: Now) {
        let shift = *feed.shift.get_or_insert_with(|| match feed.last_out {
            Some((dts, at_us)) => dts + elapsed_ticks(at_us, now.mono_us).max(TIMEBASE / 25) - unit.dts,
            None => 0,
        });
        unit.pts += shift;
        unit.dts += shift;
        feed.last_out = Some((feed.last_out.map_or(unit.dts, |(dts, _)| dts.max(unit.dts)), now.mono_us));
        if unit.track == Track::Video {
            feed.rate.count(0, 1, now.mono_us);
            if !std::mem::replace(&mut feed.first_frame_told, true) {
                let wait_ms = now.mono_us.saturating_sub(self.opened_us) / 1_000;
                let detail = vec![
                    ("codec", Value::Text(unit.codec.name().to_owned())),
                    ("since_open_ms", Value::Int(i64::try_from(wait_ms).unwrap_or(i64::MAX))),
                ];
                self.tell(EventKind::FirstFrame, None, detail);
            }
        }
        self.hub.publish(unit);
    }

    fn started(&self, feed: &mut Feed, from: SocketAddr, ssrc: u32, now: Now) -> Vec<(&'static str, Value)> {
        feed.retire();
        feed.rate.since_us = now.mono_us;
        let wait_ms = now.mono_us.saturating_sub(self.opened_us) / 1_000;
        vec![
            ("source", Value::Text(from.ip().to_canonical().to_string())),
            ("port", Value::Int(i64::from(from.port()))),
            ("ssrc", Value::Int(i64::from(ssrc))),
            ("ssrc_as_agreed", Value::Int(i64::from(ssrc == self.ssrc()))),
            ("since_open_ms", Value::Int(i64::try_from(wait_ms).unwrap_or(i64::MAX))),
        ]
    }

    /// Tells about refused packets, at most once a second.
    fn alarm(&self, feed: &mut Feed, now: Now) {
        let alarm = &mut feed.alarm;
        if alarm.told_us.is_some_and(|told| now.mono_us < told + ALARM_US) {
            return;
        }
        let Some((reason, source, ssrc)) = alarm.last.filter(|_| alarm.waiting > 0) else { return };
        alarm.told_us = Some(now.mono_us);
        let count = std::mem::take(&mut alarm.waiting);
        let detail = vec![
            ("reason", Value::Text(reason.name().to_owned())),
            ("source", Value::Text(source.to_string())),
            ("ssrc", Value::Int(i64::from(ssrc))),
            ("count", Value::Int(i64::try_from(count).unwrap_or(i64::MAX))),
        ];
        self.tell(EventKind::SourceRejected, None, detail);
    }

    /// A packet on a shared port had an unknown SSRC but came from this session's listed source.
    pub fn unknown_ssrc(&self, from: SocketAddr, ssrc: u32, now: Now) {
        let mut feed = self.feed.lock();
        feed.counts.rejected += 1;
        feed.alarm.waiting += 1;
        feed.alarm.last = Some((Reason::Ssrc, from.ip().to_canonical(), ssrc));
        self.alarm(&mut feed, now);
    }

    /// Whether this session waits for a source and lists this address.
    #[must_use]
    pub fn awaits(&self, source: IpAddr) -> bool {
        let feed = self.feed.lock();
        feed.acceptor.pin().is_none() && feed.acceptor.sources().contains(&source.to_canonical())
    }

    /// Whether `via` is the pinned way in.
    #[must_use]
    pub fn pinned_by(&self, via: Via) -> bool {
        self.feed.lock().acceptor.pin().is_some_and(|pin| pin.via == via)
    }

    pub fn set_ssrc(&self, ssrc: u32, now: Now) {
        let mut feed = self.feed.lock();
        if feed.acceptor.set_ssrc(ssrc) {
            self.ssrc.store(u64::from(ssrc), Ordering::Relaxed);
            feed.heard_us = now.mono_us;
            feed.lost_told = false;
        }
    }

    /// False at the bound.
    #[must_use]
    pub fn add_source(&self, source: IpAddr) -> bool {
        self.feed.lock().acceptor.add_source(source)
    }

    /// False at the bound.
    #[must_use]
    pub fn add_lease(&self, lease: &Arc<Lease>, now: Now) -> bool {
        let mut feed = self.feed.lock();
        if feed.closed || feed.leases.len() >= LEASES_PER_SESSION {
            return false;
        }
        if !feed.leased(now) {
            feed.heard_us = now.mono_us;
            self.silence(&mut feed);
        }
        feed.leases.push(Arc::clone(lease));
        true
    }

    /// Takes a lease away that is over; without any other that lets packets in the hub falls silent and empty.
    pub fn remove_lease(&self, lease: &Arc<Lease>, now: Now) {
        let mut feed = self.feed.lock();
        feed.leases.retain(|held| !Arc::ptr_eq(held, lease));
        if !feed.leased(now) {
            self.silence(&mut feed);
        }
    }

    /// A lease was cut: it goes, and with it what released leases had left. Returns those.
    pub fn cut_lease(&self, lease: &Arc<Lease>, now: Now) -> Vec<Arc<Lease>> {
        let mut feed = self.feed.lock();
        let (tails, kept) = std::mem::take(&mut feed.leases).into_iter().partition(|held| held.is_released());
        feed.leases = kept;
        for tail in &tails {
            tail.end();
        }
        drop(feed);
        self.remove_lease(lease, now);
        tails
    }

    /// Nothing recorded before a gap in permission may be read after it.
    fn silence(&self, feed: &mut Feed) {
        feed.retire();
        self.hub.clear();
    }

    /// Ends the session; returns its leases.
    pub fn close(&self, reason: &str) -> Vec<Arc<Lease>> {
        let mut feed = self.feed.lock();
        feed.closed = true;
        feed.lease = None;
        feed.stream = None;
        let leases = std::mem::take(&mut feed.leases);
        self.hub.end(reason);
        leases
    }

    /// Tells what is due: a silent source, refused packets counted since the last alarm. Returns when to look again.
    pub fn tick(&self, now: Now, source_timeout_us: u64) -> u64 {
        let mut guard = self.feed.lock();
        let feed = &mut *guard;
        self.alarm(feed, now);
        let due_us = feed.heard_us.saturating_add(source_timeout_us);
        let waits = !feed.lost_told && feed.leased(now);
        if waits && now.mono_us >= due_us {
            feed.lost_told = true;
            let ever = feed.acceptor.pin().is_some();
            let silent_ms = now.mono_us.saturating_sub(feed.heard_us) / 1_000;
            let detail = vec![
                ("ever", Value::Int(i64::from(ever))),
                ("silent_ms", Value::Int(i64::try_from(silent_ms).unwrap_or(i64::MAX))),
            ];
            self.tell(EventKind::SourceLost, None, detail);
        }
        let alarm_us = match feed.alarm.told_us {
            Some(told) if feed.alarm.waiting > 0 => told + ALARM_US,
            _ => u64::MAX,
        };
        if waits && !feed.lost_told { alarm_us.min(due_us) } else { alarm_us }
    }

    /// The pinned TCP connection is gone.
    pub fn tcp_closed(&self, via: Via, why: &str) {
        if self.pinned_by(via) {
            self.tell(EventKind::SourceTcpClosed, None, vec![("reason", Value::Text(why.to_owned()))]);
        }
    }

    fn tell(&self, kind: EventKind, lease: Option<Arc<str>>, detail: Vec<(&'static str, Value)>) {
        self.events.send(Event { kind, session: Arc::clone(&self.key), lease, detail });
    }

    #[must_use]
    pub fn stats(&self, now: Now) -> SessionStats {
        let feed = self.feed.lock();
        let mut stats = feed.counts.clone();
        if let Some(stream) = &feed.stream {
            add(&mut stats, &stream.frame_stats(), &stream.reorder_stats());
            stats.container = Some(stream.container().name());
        }
        (stats.bitrate_bps, stats.fps) = feed.rate.read(now.mono_us);
        stats.viewers = self.hub.readers() as u64;
        stats.pinned = feed.acceptor.pin().is_some();
        stats
    }
}

impl Feed {
    /// Whether any lease lets packets in; remembers which.
    fn leased(&mut self, now: Now) -> bool {
        if self.lease.as_ref().is_some_and(|lease| lease.receives(now)) {
            return true;
        }
        self.lease = self.leases.iter().find(|lease| lease.receives(now)).cloned();
        self.lease.is_some()
    }

    /// Gives the stream up, keeping its counts; the next one's times go on where it ended.
    fn retire(&mut self) {
        if let Some(stream) = self.stream.take() {
            add(&mut self.counts, &stream.frame_stats(), &stream.reorder_stats());
            self.counts.container = Some(stream.container().name());
            self.shift = None;
        }
    }
}

fn add(stats: &mut SessionStats, frames: &FrameStats, reorder: &ReorderStats) {
    stats.lost += reorder.lost;
    stats.reordered += reorder.reordered;
    stats.duplicates += reorder.duplicates;
    stats.video_frames += frames.video;
    stats.key_frames += frames.keys;
    stats.audio_frames += frames.audio;
    stats.damaged += frames.damaged;
    stats.waited += frames.waited;
    stats.malformed += frames.malformed + frames.oversize;
}

fn elapsed_ticks(from_us: u64, to_us: u64) -> i64 {
    i64::try_from(to_us.saturating_sub(from_us)).unwrap_or(0).saturating_mul(9) / 100
}
