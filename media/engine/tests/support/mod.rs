//! Shared by the output tests: units as the hub holds them, and a server whose hubs the test publishes into.
#![allow(dead_code)] // every test file uses its own part

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gbmedia::clock::{Clock, ManualClock, SystemClock};
use gbmedia::events::EventQueue;
use gbmedia::hub::{Hub, HubLimits};
use gbmedia::lease::Lease;
use gbmedia::outlet::{Admission, Outlet};
use gbmedia::server::{Bound, Server, ServerConfig};
use gbmedia::tickets::Output;
use gbmedia::types::{AccessUnit, AudioTrack, Codec, Event, EventKind, SessionId, Track, Tracks, VideoTrack};

/// x264, High, 1920×1080, level 4.0.
pub const SPS: [u8; 25] = [
    0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00,
    0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60,
];
/// The same at level 3.1, so that a change of the parameter sets shows.
pub const SPS_CHANGED: [u8; 25] = {
    let mut changed = SPS;
    changed[3] = 0x1f;
    changed
};
pub const PPS: [u8; 4] = [0x68, 0xeb, 0xe3, 0xcb];

pub fn annex_b(nals: &[&[u8]]) -> Bytes {
    let mut out = Vec::new();
    for nal in nals {
        out.extend([0, 0, 0, 1]);
        out.extend_from_slice(nal);
    }
    Bytes::from(out)
}

/// A picture whose slice is `fill` repeated; key pictures carry `sps`.
pub fn picture(index: i64, key: Option<&[u8]>, size: usize) -> AccessUnit {
    let mut slice = vec![if key.is_some() { 0x65 } else { 0x41 }];
    slice.resize(size.max(2), (index % 250) as u8 + 1);
    let data = match key {
        Some(sps) => annex_b(&[&[9, 0x10], sps, &PPS, &slice]),
        None => annex_b(&[&slice]),
    };
    let dts = 1_000_000 + index * 3600;
    AccessUnit {
        track: Track::Video,
        codec: Codec::H264,
        pts: dts,
        dts,
        key: key.is_some(),
        discontinuity: false,
        data,
        arrived_us: 1_000_000 + index as u64 * 40_000,
    }
}

/// 40 ms of G.711A, or one AAC frame (48 kHz, stereo).
pub fn sound(codec: Codec, index: i64) -> AccessUnit {
    let (data, step) = match codec {
        Codec::Aac => {
            let length = 7 + 3;
            let header = [0xff, 0xf1, 1 << 6 | 3 << 2, 2 << 6, (length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc];
            (Bytes::from([&header[..], &[1, 2, index as u8]].concat()), 1920)
        }
        _ => (Bytes::from(vec![0xd5; 320]), 3600),
    };
    let dts = 1_000_000 + index * step;
    AccessUnit {
        track: Track::Audio,
        codec,
        pts: dts,
        dts,
        key: true,
        discontinuity: false,
        data,
        arrived_us: 1_000_000 + index as u64 * 40_000,
    }
}

pub fn tracks(audio: Option<Codec>) -> Tracks {
    let config = Bytes::from_static(&[0x11, 0x90]);
    let audio = audio.map(|codec| AudioTrack {
        codec,
        sample_rate: if codec == Codec::Aac { 48_000 } else { 8_000 },
        channels: if codec == Codec::Aac { 2 } else { 1 },
        config: if codec == Codec::Aac { config } else { Bytes::new() },
    });
    let video = Some(VideoTrack { codec: Codec::H264, parameter_sets: Default::default() });
    Tracks { version: 1, video, audio, settled: true }
}

/// A server with two leases on one session `str_1`: `lea_1` with sound, `lea_2` without.
pub struct Stage {
    pub server: Server,
    pub outlet: Arc<Outlet>,
    pub hub: Arc<Hub>,
    pub events: EventQueue,
    pub clock: Arc<dyn Clock>,
    pub lease: Arc<Lease>,
    pub silent: Arc<Lease>,
    seen: Mutex<Vec<Event>>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(Arc::new(SystemClock::new()))
    }

    /// A server whose clock stands still.
    pub fn standing() -> Self {
        Self::with(Arc::new(ManualClock::new()))
    }

    fn with(clock: Arc<dyn Clock>) -> Self {
        let events = EventQueue::new().unwrap();
        let bound = Bound::new(ServerConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            allowed_origins: vec!["https://console.example".to_owned()],
            max_viewers: 16,
        })
        .unwrap();
        let outlet = Arc::clone(bound.outlet());
        let notified = Arc::clone(&outlet);
        let hub = Hub::new(SessionId(7), HubLimits::default(), Arc::new(move |id| notified.notify(id)));
        let now = clock.now();
        let made = |key: &str, audio| {
            let not_after = now.unix_us as f64 / 1e6 + 29.0;
            Lease::new(key.into(), hub.id(), "str_1".into(), not_after, audio, now).unwrap()
        };
        let (lease, silent) = (made("lea_1", true), made("lea_2", false));
        let leases = HashMap::from([&lease, &silent].map(|lease| (lease.key().to_string(), Arc::clone(lease))));
        let admitting = Arc::clone(&hub);
        let gate = move |key: &str| {
            let lease = Arc::clone(leases.get(key)?);
            Some(Admission { session: Arc::from("str_1"), hub: Arc::clone(&admitting), lease })
        };
        let server = bound.start(Arc::new(gate), Arc::clone(&clock), events.clone()).unwrap();
        Self { server, outlet, hub, events, clock, lease, silent, seen: Mutex::default() }
    }

    pub fn ticket(&self, output: Output) -> String {
        self.ticket_of(&self.lease, output)
    }

    pub fn ticket_of(&self, lease: &Lease, output: Output) -> String {
        let now_us = self.clock.now().mono_us;
        self.outlet.tickets.issue(Arc::clone(lease.key()), output, None, 30_000_000, now_us).unwrap()
    }

    /// Sends a GET with these extra header lines (each ending in CRLF).
    pub fn get(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.port()))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        stream
    }

    /// Opens an output; returns the stream behind the head of the answer.
    pub fn watch(&self, output: Output) -> TcpStream {
        self.watch_as(&self.lease, output)
    }

    pub fn watch_as(&self, lease: &Lease, output: Output) -> TcpStream {
        let path = output.path(&self.ticket_of(lease, output));
        let upgrade = if output == Output::WsFmp4 {
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        } else {
            ""
        };
        let mut stream = self.get(&path, upgrade);
        let head = read_head(&mut stream);
        let status = if output == Output::WsFmp4 { "HTTP/1.1 101 " } else { "HTTP/1.1 200 " };
        assert!(head.starts_with(status), "{head}");
        stream
    }

    /// Waits for an event of this kind; every event is handed out once.
    pub fn event(&self, kind: EventKind) -> Event {
        let mut seen = self.seen.lock().unwrap();
        for _ in 0..100 {
            seen.extend(self.events.drain(64));
            if let Some(at) = seen.iter().position(|event| event.kind == kind) {
                return seen.remove(at);
            }
            wait_readable(self.events.fd());
        }
        panic!("no {kind:?}");
    }
}

fn wait_readable(fd: i32) {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, and the descriptor belongs to a queue that outlives the call.
    unsafe { libc::poll(&mut poll, 1, 1000) };
}

pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

pub fn read_exact(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    stream.read_exact(&mut out).unwrap();
    out
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// One FLV tag with its trailing size checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    pub kind: u8,
    pub milliseconds: usize,
    pub data: Vec<u8>,
}

pub fn read_flv_header(stream: &mut impl Read) -> u8 {
    let header = read_exact(stream, 13);
    assert_eq!(&header[..4], b"FLV\x01");
    assert_eq!(&header[5..], [0, 0, 0, 9, 0, 0, 0, 0]);
    header[4]
}

pub fn read_tag(stream: &mut impl Read) -> Tag {
    let head = read_exact(stream, 11);
    let data = read_exact(stream, be(&head[1..4]));
    let milliseconds = usize::from(head[7]) << 24 | be(&head[4..7]);
    assert_eq!(be(&read_exact(stream, 4)), data.len() + 11, "previous tag size");
    Tag { kind: head[0], milliseconds, data }
}

/// One WebSocket message: opcode and payload.
pub fn read_message(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let head = read_exact(stream, 2);
    assert_eq!(head[1] & 0x80, 0, "server frames are not masked");
    let length = match head[1] {
        126 => be(&read_exact(stream, 2)),
        127 => be(&read_exact(stream, 8)),
        length => usize::from(length),
    };
    (head[0], read_exact(stream, length))
}

/// Top-level and nested boxes as (path, payload), in order.
pub fn boxes(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    walk(data, "", &mut out);
    out
}

fn walk(mut data: &[u8], path: &str, out: &mut Vec<(String, Vec<u8>)>) {
    while !data.is_empty() {
        let size = be(&data[..4]);
        assert!(size >= 8 && size <= data.len(), "box size {size} of {}", data.len());
        let kind = String::from_utf8_lossy(&data[4..8]).into_owned();
        let path = format!("{path}/{kind}");
        let payload = &data[8..size];
        out.push((path.clone(), payload.to_vec()));
        if ["moov", "trak", "mdia", "minf", "stbl", "mvex", "moof", "traf", "dinf"].contains(&&*kind) {
            walk(payload, &path, out);
        }
        data = &data[size..];
    }
}

pub fn find<'a>(boxes: &'a [(String, Vec<u8>)], path: &str) -> &'a [u8] {
    &boxes.iter().find(|(found, _)| found == path).unwrap_or_else(|| panic!("no {path}")).1
}

/// Decode time of a fragment, and its sample bytes.
pub fn fragment(data: &[u8]) -> (usize, Vec<u8>) {
    let boxes = boxes(data);
    let trun = find(&boxes, "/moof/traf/trun");
    let moof = 8 + find(&boxes, "/moof").len();
    assert_eq!(be(&trun[8..12]), moof + 8, "data offset points at the first byte of mdat");
    let body = find(&boxes, "/mdat").to_vec();
    assert_eq!(be(&trun[16..20]), body.len());
    (be(&find(&boxes, "/moof/traf/tfdt")[4..12]), body)
}
