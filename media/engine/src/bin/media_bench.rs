//! Load on the whole engine in one process: RTP/PS over loopback UDP in, HTTP-FLV out; CPU of the engine's threads alone.
//!
//! `media_bench STREAMS VIEWERS_PER_STREAM SECONDS` prints one JSON line a figure: {"name","value","unit"}.
//! A camera sends 2 Mbit/s H.264, 25 pictures a second, a key picture every 2 s. Latency runs from the moment before
//! the first packet of a picture is sent until the viewer has read its tag whole.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gbmedia::clock::{Clock, SystemClock};
use gbmedia::engine::{Engine, EngineConfig};
use gbmedia::receiver::IngestConfig;
use gbmedia::server::ServerConfig;
use gbmedia::sessions::{LeaseSpec, SessionSpec, Transport};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PICTURE_US: u64 = 40_000;
const GROUP: u64 = 50;
const KEY_BYTES: usize = 60_000;
const DELTA_BYTES: usize = 8_980;
const PAYLOAD: usize = 1_400;
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00,
    0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60,
];
const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb];
const START: &[u8] = &[0, 0, 0, 1];
/// Marks the time of sending inside the slice; hexadecimal digits behind it.
const STAMP: &[u8] = b"STAMP:";

fn main() -> Outcome<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (streams, viewers, seconds) = (next(20)?, next(1)?, next(10)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = Engine::start(
        EngineConfig {
            ingest: IngestConfig {
                bind: LOCAL,
                udp_port: 0,
                tcp_port: 0,
                private_ports: (45_000, 45_099),
                source_timeout: 20.0,
                workers: 0,
            },
            server: ServerConfig { bind: LOCAL, port: 0, allowed_origins: Vec::new(), max_viewers: 65_536 },
        },
        Arc::clone(&clock),
    )?;
    let engine_threads = threads()?;
    let mut watching = Vec::new();
    for stream in 0..streams {
        open(&engine, clock.as_ref(), stream)?;
        for _ in 0..viewers {
            watching.push(watch(&engine, stream)?);
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (udp, ..) = engine.ports();
    let sender = {
        let (clock, stop) = (Arc::clone(&clock), Arc::clone(&stop));
        std::thread::spawn(move || send_all(udp, streams, clock.as_ref(), &stop))
    };
    let reader = {
        let (clock, stop) = (Arc::clone(&clock), Arc::clone(&stop));
        std::thread::spawn(move || read_all(watching, clock.as_ref(), &stop))
    };
    // The first two seconds warm up: pages, buffers, the first groups.
    wait_until(clock.as_ref(), clock.now().mono_us + 2_000_000);
    let (cpu_before, started) = (cpu_ns(&engine_threads)?, clock.now().mono_us);
    let mut renewed = started;
    while clock.now().mono_us < started + seconds * 1_000_000 {
        wait_until(clock.as_ref(), (renewed + 5_000_000).min(started + seconds * 1_000_000));
        renewed = clock.now().mono_us;
        for stream in 0..streams {
            engine.renew(&format!("lea_{stream}"), lease_end(clock.as_ref()), true)?;
        }
    }
    let elapsed_us = clock.now().mono_us - started;
    let cpu = cpu_ns(&engine_threads)? - cpu_before;
    stop.store(true, Ordering::SeqCst);
    let sent = sender.join().map_err(|_| "the sender panicked")??;
    let mut latencies = reader.join().map_err(|_| "the reader panicked")??;
    let (_, output) = engine.stats();
    latencies.sort_unstable();
    let at =
        |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0) as f64 / 1000.0;
    let stream_seconds = streams as f64 * elapsed_us as f64 / 1e6;
    let figures = [
        ("cpu_per_stream_second", cpu as f64 / 1e6 / stream_seconds, "ms"),
        ("cpu_per_viewer_second", cpu as f64 / 1e6 / (stream_seconds * viewers.max(1) as f64), "ms"),
        ("cpu_of_one_core", cpu as f64 / 1e3 / elapsed_us as f64 * 100.0, "%"),
        ("latency_p50", at(0.5), "ms"),
        ("latency_p99", at(0.99), "ms"),
        ("latency_max", at(1.0 - 1e-12), "ms"),
        ("pictures_sent", sent as f64, "pictures"),
        ("pictures_seen", latencies.len() as f64, "pictures"),
        ("pictures_dropped", output.dropped as f64, "pictures"),
    ];
    let mut out = std::io::stdout().lock();
    for (name, value, unit) in figures {
        writeln!(out, r#"{{"name":"{name}","value":{value:.3},"unit":"{unit}"}}"#)?;
    }
    Ok(())
}

fn lease_end(clock: &dyn Clock) -> f64 {
    clock.now().unix_us as f64 / 1e6 + 25.0
}

fn open(engine: &Engine, clock: &dyn Clock, stream: u64) -> Outcome<()> {
    engine.open_session(SessionSpec {
        key: Arc::from(format!("str_{stream}")),
        ssrc: 1 + stream as u32,
        transport: Transport::Udp,
        sources: vec![LOCAL],
        lease: LeaseSpec { key: Arc::from(format!("lea_{stream}")), not_after: lease_end(clock), audio: true },
        private_port: false,
    })?;
    Ok(())
}

fn watch(engine: &Engine, stream: u64) -> Outcome<TcpStream> {
    let path = engine.ticket(&format!("lea_{stream}"), "flv", None, 30.0)?;
    let mut socket = TcpStream::connect(SocketAddr::new(LOCAL, engine.ports().2))?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Blocks on a socket pair nobody writes to: the workspace allows no sleeping.
fn wait_until(clock: &dyn Clock, deadline_us: u64) {
    while let Some(left) = deadline_us.checked_sub(clock.now().mono_us).filter(|left| *left > 0) {
        std::thread::park_timeout(Duration::from_micros(left));
    }
}

fn send_all(port: u16, streams: u64, clock: &dyn Clock, stop: &AtomicBool) -> Outcome<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    let mut sequences = vec![0u16; streams as usize];
    let started = clock.now().mono_us;
    let mut sent = 0;
    for turn in 0.. {
        for (stream, sequence) in sequences.iter_mut().enumerate() {
            // Cameras are not in step with each other, and neither are their groups.
            let due = started + turn * PICTURE_US + stream as u64 * PICTURE_US / streams;
            wait_until(clock, due);
            if stop.load(Ordering::SeqCst) {
                return Ok(sent);
            }
            let place = turn + stream as u64 * GROUP / streams;
            let key = turn == 0 || place.is_multiple_of(GROUP);
            let pack = pack(turn * 3600, key, clock.now().mono_us);
            for (index, chunk) in pack.chunks(PAYLOAD).enumerate() {
                let last = (index + 1) * PAYLOAD >= pack.len();
                let mut packet = vec![0x80, if last { 0xe0 } else { 0x60 }];
                packet.extend(sequence.to_be_bytes());
                packet.extend(((turn * 3600) as u32).to_be_bytes());
                packet.extend((1 + stream as u32).to_be_bytes());
                packet.extend_from_slice(chunk);
                *sequence = sequence.wrapping_add(1);
                socket.send(&packet)?;
            }
            sent += 1;
        }
    }
    Ok(sent)
}

/// One PS pack as GB/T 28181 annex C.1 wants it.
fn pack(ticks: u64, key: bool, now_us: u64) -> Vec<u8> {
    let mut slice = vec![if key { 0x65 } else { 0x41 }];
    slice.extend_from_slice(STAMP);
    slice.extend_from_slice(format!("{now_us:016x}").as_bytes());
    slice.resize(if key { KEY_BYTES } else { DELTA_BYTES }, 0x55);
    let mut picture = Vec::new();
    for nal in [SPS, PPS].into_iter().take(if key { 2 } else { 0 }).chain([&slice[..]]) {
        picture.extend_from_slice(START);
        picture.extend_from_slice(nal);
    }
    let mut out = vec![0, 0, 1, 0xba, 0x44, 0, 4, 0, 4, 1, 0x00, 0x00, 0x03, 0xf8];
    if key {
        out.extend([0, 0, 1, 0xbb, 0, 9, 0x80, 0, 1, 4, 0xe1, 0x7f, 0xe0, 0xe0, 0x80]);
        out.extend([0, 0, 1, 0xbc, 0, 14, 0xe1, 0xff, 0, 0, 0, 4, 0x1b, 0xe0, 0, 0]);
        out.extend([0, 0, 0, 0]);
    }
    for (index, part) in picture.chunks(65_000).enumerate() {
        let stamped = index == 0;
        let head = if stamped { 8 } else { 3 };
        out.extend([0, 0, 1, 0xe0]);
        out.extend(((part.len() + head) as u16).to_be_bytes());
        out.extend([0x80, if stamped { 0x80 } else { 0 }, if stamped { 5 } else { 0 }]);
        if stamped {
            let (high, middle, low) = (ticks >> 29 & 0xe, ticks >> 14 & 0xfffe, ticks << 1 & 0xfffe);
            out.push(0x21 | high as u8);
            out.extend((middle as u16 | 1).to_be_bytes());
            out.extend((low as u16 | 1).to_be_bytes());
        }
        out.extend_from_slice(part);
    }
    out
}

/// Reads every viewer; returns the latency of every picture in microseconds.
fn read_all(mut sockets: Vec<TcpStream>, clock: &dyn Clock, stop: &AtomicBool) -> Outcome<Vec<u64>> {
    let mut poll = mio::Poll::new()?;
    let mut events = mio::Events::with_capacity(1024);
    let mut viewers = Vec::new();
    for (index, socket) in sockets.drain(..).enumerate() {
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, mio::Token(index), mio::Interest::READABLE)?;
        viewers.push((socket, Vec::new()));
    }
    let mut latencies = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    while !stop.load(Ordering::SeqCst) {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let Some((socket, buffer)) = viewers.get_mut(event.token().0) else {
                continue;
            };
            loop {
                match socket.read(&mut chunk) {
                    Ok(0) => return Err("a viewer was cut".into()),
                    Ok(count) => buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            take_stamps(buffer, clock.now().mono_us, &mut latencies);
        }
    }
    Ok(latencies)
}

/// Finds the stamps of whole tags in `buffer` and drops what was looked at.
fn take_stamps(buffer: &mut Vec<u8>, now_us: u64, latencies: &mut Vec<u64>) {
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(buffer.get(from..).unwrap_or_default(), STAMP) {
        let digits = from + found + STAMP.len();
        let size =
            if from + found > 0 && buffer.get(from + found - 1) == Some(&0x65) { KEY_BYTES } else { DELTA_BYTES };
        // The slice header byte lies before the stamp; four bytes of tag size follow the slice.
        let end = from + found - 1 + size + 4;
        if buffer.len() < end {
            break;
        }
        let text = buffer.get(digits..digits + 16).and_then(|text| std::str::from_utf8(text).ok());
        if let Some(sent) = text.and_then(|text| u64::from_str_radix(text, 16).ok()) {
            latencies.push(now_us.saturating_sub(sent));
        }
        from = end;
    }
    // What lies before a stamp not found yet may be its beginning.
    buffer.drain(..from);
}

fn threads() -> Outcome<Vec<String>> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != own {
            found.push(name);
        }
    }
    Ok(found)
}

/// Time these threads have spent on a processor, in nanoseconds.
fn cpu_ns(threads: &[String]) -> Outcome<u64> {
    let mut total = 0;
    for thread in threads {
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
        total += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(total)
}
