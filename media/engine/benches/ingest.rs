//! Cost of the ingest path per RTP packet, without the network: header, lookup, lease, acceptance, reorder, PS, hub.
//! Run: `cargo bench -p gbmedia --bench ingest`.

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use gbmedia::accept::Via;
use gbmedia::clock::{Clock, SystemClock};
use gbmedia::events::EventQueue;
use gbmedia::receiver::{Ingest, IngestConfig};
use gbmedia::rtp;
use gbmedia::sessions::{LeaseSpec, Registry, SessionSpec, Transport};
use gbmedia::types::Codec;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// 25 pictures a second of 4 Mbit/s: key pictures of 100 KB every 50, others of 18 KB, with 40 ms of sound each.
fn camera(codec: Codec) -> Camera {
    Camera { key_size: 100_000, size: 18_000, gop: 50, ..Camera::new(codec) }
}

/// Processor time of this thread in nanoseconds: the machine may be busy with other things.
fn spent() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that lives through the call; this clock exists on every Linux.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The same through the shared UDP port: processor time of the receiving thread per packet, and packets lost by the
/// kernel. The sender waits for the engine every few packets, as a network card paces it.
fn over_loopback(sessions: u32) {
    let clock = Arc::new(SystemClock::new());
    let config = IngestConfig {
        bind: "127.0.0.1".parse().unwrap(),
        udp_port: 0,
        tcp_port: 0,
        private_ports: (20_000, 20_100),
        source_timeout: 20.0,
        workers: 1,
    };
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let ingest =
        Ingest::start(config, time, EventQueue::new().unwrap(), Arc::new(|_| ()), Arc::new(|_, _| ())).unwrap();
    let registry = ingest.registry();
    for number in 0..sessions {
        registry.open(spec(number, "127.0.0.1".parse().unwrap(), clock.now().unix_us)).unwrap();
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", ingest.ports().0)).unwrap();
    let mut sent = 0_u64;
    // The worker names itself when it starts; once it has counted a packet, it has.
    socket.send(&[0; 20]).unwrap();
    while registry.stats().malformed == 0 {
        std::thread::yield_now();
    }
    let before = thread_time("media-in-0");
    for packet in &mut camera(Codec::H264).rtp(0..100, 0) {
        for number in 0..sessions {
            packet[8..12].copy_from_slice(&number.to_be_bytes());
            socket.send(packet).unwrap();
            sent += 1;
            while sent.is_multiple_of(64) && registry.stats().packets + 1_000 < sent {
                std::thread::yield_now();
            }
        }
    }
    while registry.stats().packets < sent && clock.now().mono_us < 60_000_000 {
        std::thread::yield_now();
    }
    let spent = (thread_time("media-in-0") - before) as f64;
    let lost = sent - registry.stats().packets;
    println!(
        "UDP loopback, {sessions} sessions: {:.0} ns/packet with system calls, {lost} of {sent} lost",
        spent / sent as f64
    );
}

/// Nanoseconds the thread of this name has run (proc(5), schedstat).
fn thread_time(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named =
        |path: &std::path::PathBuf| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let path = tasks.into_iter().find(named).expect("the worker runs");
    let line = std::fs::read_to_string(path.join("schedstat")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

fn spec(number: u32, source: IpAddr, unix_us: u64) -> SessionSpec {
    SessionSpec {
        key: format!("str_{number}").into(),
        ssrc: number,
        transport: Transport::Udp,
        sources: vec![source],
        lease: LeaseSpec { key: format!("lea_{number}").into(), not_after: unix_us as f64 / 1e6 + 29.0, audio: true },
        private_port: false,
    }
}

fn main() {
    over_loopback(100);
    let clock = Arc::new(SystemClock::new());
    for (codec, sessions, length, lost) in [
        (Codec::H264, 1_u32, None, false),
        (Codec::H264, 1_000, None, false),
        (Codec::H265, 1_000, Some(0), false),
        (Codec::H264, 1_000, None, true),
    ] {
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let registry = Registry::new(time, EventQueue::new().unwrap(), Arc::new(|_| ()), Arc::new(|_, _| ()), 20.0);
        let from: SocketAddr = "192.0.2.10:5000".parse().unwrap();
        for number in 0..sessions {
            registry.open(spec(number, from.ip(), clock.now().unix_us)).unwrap();
        }
        let pictures = if sessions == 1 { 3_000 } else { 100 };
        let mut packets = Camera { pes_length: length, ..camera(codec) }.rtp(0..pictures, 0);
        if lost {
            let mut noise = Noise(9);
            packets.retain(|_| noise.below(20) != 0);
        }
        let start = spent();
        let mut bytes = 0_u64;
        for packet in &mut packets {
            for number in 0..sessions {
                packet[8..12].copy_from_slice(&number.to_be_bytes());
                let now = clock.now();
                let parsed = rtp::parse(packet).unwrap();
                let session = registry.by_ssrc(parsed.ssrc).unwrap();
                session.packet(&parsed, packet.len(), from, Via::SharedUdp, now);
                bytes += packet.len() as u64;
            }
        }
        let spent = (spent() - start).max(1) as f64;
        let count = packets.len() as f64 * f64::from(sessions);
        println!(
            "{} {sessions:>5} sessions, PES length {}, loss {}: {:.0} ns/packet, {:.2} Gbit/s",
            codec.name(),
            length.map_or("true", |_| "0"),
            if lost { "5 %" } else { "0" },
            spent / count,
            bytes as f64 * 8.0 / spent,
        );
    }
}
