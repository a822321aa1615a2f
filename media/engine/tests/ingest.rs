//! The ingest side over real sockets on the loopback: every way in, hijack attempts, bounds, expiry by its own timer.

mod common;

use common::*;
use gbmedia::clock::{Clock, SystemClock};
use gbmedia::events::EventQueue;
use gbmedia::hub::{Hub, ReadResult, Reader};
use gbmedia::receiver::{Ingest, IngestConfig, StartError};
use gbmedia::sessions::{LeaseSpec, SessionError, SessionSpec, Transport};
use gbmedia::types::{AccessUnit, Codec, Event, EventKind, Track, Value};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const LISTED: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

struct Bench {
    ingest: Ingest,
    clock: Arc<SystemClock>,
    events: EventQueue,
    poll: Poll,
    seen: VecDeque<Event>,
    wakes: Receiver<()>,
}

impl Bench {
    fn new(workers: usize) -> Self {
        Self::with(config(workers))
    }

    fn with(config: IngestConfig) -> Self {
        let clock = Arc::new(SystemClock::new());
        let events = EventQueue::new().unwrap();
        let (sender, wakes) = channel();
        let sender = Mutex::new(sender);
        let notify = Arc::new(move |_| {
            let _nobody_waits = sender.lock().unwrap().send(());
        });
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let ingest = Ingest::start(config, time, events.clone(), notify, Arc::new(|_, _| ())).unwrap();
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut SourceFd(&events.fd()), Token(0), Interest::READABLE).unwrap();
        Self { ingest, clock, events, poll, seen: VecDeque::new(), wakes }
    }

    fn lease(&self, key: &str, seconds: f64) -> LeaseSpec {
        LeaseSpec { key: key.into(), not_after: self.clock.now().unix_us as f64 / 1e6 + seconds, audio: true }
    }

    fn open(&self, name: &str, ssrc: u32, transport: Transport, private_port: bool) -> Result<u16, SessionError> {
        self.ingest.registry().open(SessionSpec {
            key: format!("str_{name}").into(),
            ssrc,
            transport,
            sources: vec![LISTED.parse().unwrap()],
            lease: self.lease(&format!("lea_{name}"), 25.0),
            private_port,
        })
    }

    /// Waits for an event of this kind for this session; others before it are dropped.
    fn wait(&mut self, kind: EventKind, session: &str) -> Event {
        let mut ready = Events::with_capacity(4);
        loop {
            self.seen.extend(self.events.drain(usize::MAX));
            while let Some(event) = self.seen.pop_front() {
                if event.kind == kind && &*event.session == session {
                    return event;
                }
            }
            self.poll.poll(&mut ready, Some(PATIENCE)).unwrap();
            assert!(!ready.is_empty(), "no {kind:?} for {session}");
        }
    }

    fn hub(&self, session: &str) -> Arc<Hub> {
        self.ingest.registry().hub(session).unwrap()
    }

    /// Reads until `count` pictures came.
    fn pictures(&self, reader: &mut Reader, count: usize) -> Vec<Arc<AccessUnit>> {
        let (mut units, mut video) = (Vec::new(), Vec::new());
        while video.len() < count {
            units.clear();
            match reader.read(100, &mut units) {
                ReadResult::Pending => self.wakes.recv_timeout(PATIENCE).unwrap(),
                ReadResult::Units(_) => video.extend(units.iter().filter(|unit| unit.track == Track::Video).cloned()),
                other => panic!("{other:?}"),
            }
        }
        video
    }
}

fn config(workers: usize) -> IngestConfig {
    IngestConfig {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        udp_port: 0,
        tcp_port: 0,
        private_ports: (20_000, 20_999),
        source_timeout: 20.0,
        workers,
    }
}

fn anywhere(workers: usize) -> IngestConfig {
    IngestConfig { bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ..config(workers) }
}

fn udp(ip: &str) -> UdpSocket {
    UdpSocket::bind((ip, 0)).unwrap()
}

fn tcp(from: &str, port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

fn framed(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat()).collect()
}

fn with_ssrc(packets: &[Vec<u8>], ssrc: u32) -> Vec<Vec<u8>> {
    let mut packets = packets.to_vec();
    packets.iter_mut().for_each(|packet| packet[8..12].copy_from_slice(&ssrc.to_be_bytes()));
    packets
}

fn assert_closed(stream: &mut TcpStream) {
    // A reset is a close too: unread bytes make the system send one.
    let outcome = stream.read(&mut [0; 16]);
    assert!(
        outcome.as_ref().map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |n| *n == 0),
        "{outcome:?}"
    );
}

#[test]
fn shared_udp_private_udp_and_both_tcp_give_every_picture() {
    for workers in [1, 3] {
        let mut bench = Bench::new(workers);
        let camera = Camera { key_size: 20_000, ..Camera::new(Codec::H264) };
        for (name, transport, private) in [
            ("a", Transport::Udp, false),
            ("b", Transport::Udp, true),
            ("c", Transport::TcpPassive, false),
            ("d", Transport::TcpPassive, true),
        ] {
            // On ports of their own devices may send whatever SSRC they like.
            let ssrc = if private { 0 } else { 200 + u32::from(name.as_bytes()[0]) };
            let port = bench.open(name, 200 + u32::from(name.as_bytes()[0]), transport, private).unwrap();
            let session = format!("str_{name}");
            let mut reader = bench.hub(&session).reader();
            let packets = with_ssrc(&camera.rtp(0..20, 65_500), ssrc);
            let mut connection = None;
            if transport == Transport::Udp {
                let socket = udp(LISTED);
                packets.iter().for_each(|packet| assert!(socket.send_to(packet, (LISTED, port)).is_ok()));
            } else {
                let mut stream = tcp(LISTED, port);
                for piece in framed(&packets).chunks(777) {
                    stream.write_all(piece).unwrap();
                }
                connection = Some(stream);
            }
            let video = bench.pictures(&mut reader, 20);
            for (number, unit) in (0..).zip(&video) {
                assert!(unit.data[..] == camera.es(number)[..], "{session} picture {number}");
            }
            bench.wait(EventKind::FirstFrame, &session);
            if let Some(stream) = connection {
                drop(stream);
                bench.wait(EventKind::SourceTcpClosed, &session);
            }
            bench.ingest.registry().close(&session, "done").unwrap();
        }
        assert_eq!(bench.ingest.registry().stats().rejected, 0);
    }
}

/// Sends what an attacker would and then what the genuine source does, over the same kind of socket; the genuine
/// pictures must come out untouched, and nothing else.
fn hijack(transport: Transport, private: bool, from: &str, ssrc: u32, pinned: bool, cell: u32) {
    let mut bench = Bench::with(anywhere(1));
    let session = format!("str_{cell}");
    let port = bench.open(&cell.to_string(), SSRC, transport, private).unwrap();
    let sentinel_port = bench.open("sentinel", 9_999, Transport::Udp, false).unwrap();
    let genuine = Camera { sound: 0, ..Camera::new(Codec::H264) };
    let evil = with_ssrc(&Camera { sound: 0, ..Camera::new(Codec::H265) }.rtp(0..4, 30_000), ssrc);
    let good = genuine.rtp(0..10, 0);
    let split = if pinned { good.len() / 2 } else { 0 };
    let mut reader = bench.hub(&session).reader();
    if transport == Transport::Udp {
        let (honest, attacker) = (udp(LISTED), udp(from));
        let send = |socket: &UdpSocket, packets: &[Vec<u8>]| {
            packets.iter().for_each(|packet| assert!(socket.send_to(packet, (LISTED, port)).is_ok()));
        };
        send(&honest, &good[..split]);
        send(&attacker, &evil);
        send(&honest, &good[split..]);
        // An attacker gets not one byte back.
        attacker.set_nonblocking(true).unwrap();
        assert!(attacker.recv(&mut [0; 16]).is_err());
    } else {
        let mut honest = tcp(LISTED, port);
        if pinned {
            honest.write_all(&framed(&good[..split])).unwrap();
            bench.wait(EventKind::SourceStarted, &session);
        }
        let mut attacker = tcp(from, port);
        let _closed_while_writing = attacker.write_all(&framed(&evil));
        assert_closed(&mut attacker);
        honest.write_all(&framed(&good[split..])).unwrap();
        let video = bench.pictures(&mut reader, 10);
        assert!(video.iter().zip(0..).all(|(unit, number)| unit.data[..] == genuine.es(number)[..]));
        return;
    }
    let video = bench.pictures(&mut reader, 10);
    assert!(video.iter().zip(0..).all(|(unit, number)| unit.data[..] == genuine.es(number)[..]));
    // Everything sent before this was judged.
    udp(LISTED).send_to(&with_ssrc(&good[..1], 9_999)[0], (LISTED, sentinel_port)).unwrap();
    bench.wait(EventKind::SourceStarted, "str_sentinel");
    let (all, one) = (bench.ingest.registry().stats(), bench.ingest.registry().session_stats(&session).unwrap());
    assert_eq!(one.packets, good.len() as u64);
    if !private {
        assert_eq!(all.rejected + all.unknown_ssrc, evil.len() as u64, "every foreign packet is counted");
    }
}

#[test]
fn hijack_matrix() {
    let mut cell = 0;
    for (transport, private) in
        [(Transport::Udp, false), (Transport::Udp, true), (Transport::TcpPassive, false), (Transport::TcpPassive, true)]
    {
        for from in [LISTED, STRANGER] {
            for ssrc in [SSRC, 0, SSRC + 1] {
                for pinned in [false, true] {
                    // Before the pin, a listed address with an acceptable SSRC *is* the source.
                    let legitimate = from == LISTED && !pinned && (ssrc == SSRC || private);
                    if !legitimate {
                        hijack(transport, private, from, ssrc, pinned, cell);
                    }
                    cell += 1;
                }
            }
        }
    }
    assert_eq!(cell, 48);
}

#[test]
fn expired_lease_silences_by_the_engines_own_timer() {
    let mut bench = Bench::new(1);
    let registry = Arc::clone(bench.ingest.registry());
    let spec = SessionSpec {
        key: "str_a".into(),
        ssrc: SSRC,
        transport: Transport::Udp,
        sources: vec![LISTED.parse().unwrap()],
        lease: bench.lease("lea_a", 1.0),
        private_port: false,
    };
    let port = registry.open(spec).unwrap();
    let camera = Camera::new(Codec::H264);
    let packets = camera.rtp(0..4, 0);
    let socket = udp(LISTED);
    packets.iter().for_each(|packet| assert!(socket.send_to(packet, (LISTED, port)).is_ok()));
    bench.wait(EventKind::FirstFrame, "str_a");
    let hub = bench.hub("str_a");
    let event = bench.wait(EventKind::LeaseExpired, "str_a");
    assert_eq!(event.lease.as_deref(), Some("lea_a"));
    assert_eq!(hub.held(), (0, 0));
    let wall = bench.clock.now().unix_us;
    assert!(registry.viewable("lea_a").is_none() && wall > 0);
    socket.send_to(&packets[0], (LISTED, port)).unwrap();
    // A second session on the same socket shows that the packet before was judged.
    bench.open("b", 77, Transport::Udp, false).unwrap();
    socket.send_to(&with_ssrc(&packets, 77)[0], (LISTED, port)).unwrap();
    bench.wait(EventKind::SourceStarted, "str_b");
    assert_eq!(registry.session_stats("str_a").unwrap().unleased, 1);
    assert_eq!(hub.held(), (0, 0));
}

#[test]
fn reorder_gap_is_given_up_without_further_packets() {
    let mut bench = Bench::new(1);
    let port = bench.open("a", SSRC, Transport::Udp, false).unwrap();
    let camera = Camera { sound: 0, ..Camera::new(Codec::H264) };
    let mut packets = camera.rtp(0..3, 0);
    packets.remove(4); // picture 1, a single packet
    let mut reader = bench.hub("str_a").reader();
    let socket = udp(LISTED);
    packets.iter().for_each(|packet| assert!(socket.send_to(packet, (LISTED, port)).is_ok()));
    // Picture 2 waits behind the gap; only the worker's timer can release it.
    let video = bench.pictures(&mut reader, 2);
    assert_eq!(number_of(&video[1].data), 2);
    assert!(video[1].discontinuity);
    bench.wait(EventKind::FirstFrame, "str_a");
}

#[test]
fn silent_source_is_told_by_the_timer() {
    let mut bench = Bench::with(IngestConfig { source_timeout: 0.2, ..config(1) });
    bench.open("a", SSRC, Transport::Udp, false).unwrap();
    let event = bench.wait(EventKind::SourceLost, "str_a");
    assert!(event.detail.contains(&("ever", Value::Int(0))));
}

#[test]
fn ports_that_are_taken_are_named() {
    let bench = Bench::new(1);
    let (udp_port, tcp_port) = bench.ingest.ports();
    for (udp_port, tcp_port, taken, name) in [(udp_port, 0, udp_port, "udp"), (0, tcp_port, tcp_port, "tcp")] {
        for workers in [1, 2] {
            let config = IngestConfig { udp_port, tcp_port, ..config(workers) };
            let clock = Arc::new(SystemClock::new());
            let events = EventQueue::new().unwrap();
            let error = Ingest::start(config, clock, events, Arc::new(|_| ()), Arc::new(|_, _| ())).unwrap_err();
            let StartError::PortTaken { port, protocol } = error else { panic!("{error:?}") };
            assert_eq!((port, protocol), (taken, name));
        }
    }
}

#[test]
fn private_ports_are_even_used_in_turn_and_run_out() {
    let bench = Bench::with(IngestConfig { private_ports: (21_001, 21_006), ..config(1) });
    let open = |name: &str| bench.open(name, SSRC, Transport::Udp, true);
    assert_eq!((open("a"), open("b"), open("c")), (Ok(21_002), Ok(21_004), Ok(21_006)));
    assert_eq!(open("d"), Err(SessionError::Exhausted("private ports")));
    assert_eq!(bench.ingest.registry().stats().sessions, 3, "nothing is left of the refused one");
}

#[test]
fn connections_without_media_are_bounded() {
    let mut bench = Bench::new(1);
    let port = bench.ingest.ports().1;
    let mut noise = tcp(LISTED, port);
    noise.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_closed(&mut noise);
    let mut idle: Vec<TcpStream> = (0..32).map(|_| tcp(LISTED, port)).collect();
    let mut one_too_many = tcp(LISTED, port);
    assert_closed(&mut one_too_many);
    assert_eq!(bench.ingest.registry().stats().tcp_refused, 1);
    // Another address is not affected, and a place becomes free with every connection that proves itself.
    bench.open("a", SSRC, Transport::TcpPassive, false).unwrap();
    idle[0].write_all(&framed(&Camera::new(Codec::H264).rtp(0..1, 0))).unwrap();
    bench.wait(EventKind::FirstFrame, "str_a");
    let mut unknown = tcp(LISTED, port);
    unknown.write_all(&framed(&with_ssrc(&Camera::new(Codec::H264).rtp(0..1, 0), 5))).unwrap();
    assert_closed(&mut unknown);
    assert_eq!(bench.ingest.registry().stats().unknown_ssrc, 1);
}

#[test]
fn flood_from_a_stranger_costs_the_genuine_source_nothing() {
    let bench = Bench::with(anywhere(1));
    let port = bench.open("a", SSRC, Transport::Udp, false).unwrap();
    let camera = Camera { sound: 0, key_size: 20_000, ..Camera::new(Codec::H264) };
    let (honest, attacker) = (udp(LISTED), udp(STRANGER));
    let mut reader = bench.hub("str_a").reader();
    let mut noise = Noise(3);
    for number in 0..50_u32 {
        let seq = (0..number).map(|n| camera.ps(n).len().div_ceil(camera.mtu) as u16).sum();
        for packet in camera.rtp(number..number + 1, seq) {
            honest.send_to(&packet, (LISTED, port)).unwrap();
            for _ in 0..8 {
                let size = noise.below(1_400);
                let mut junk = noise.bytes(size);
                junk.splice(..junk.len().min(12), packet[..12.min(size)].iter().copied());
                attacker.send_to(&junk, (LISTED, port)).unwrap();
            }
        }
        // The picture is out before the next is sent: the kernel's queue, not the engine, would lose packets otherwise.
        let video = bench.pictures(&mut reader, 1);
        assert!(video[0].data[..] == camera.es(number)[..]);
    }
    assert!(bench.ingest.registry().session_stats("str_a").unwrap().rejected > 500);
}

#[test]
fn stop_ends_sessions_and_threads() {
    let mut bench = Bench::new(2);
    bench.open("a", SSRC, Transport::Udp, false).unwrap();
    let hub = bench.hub("str_a");
    let ports = bench.ingest.ports();
    let mut reader = hub.reader();
    bench.ingest.stop();
    assert_eq!(reader.read(1, &mut Vec::new()), ReadResult::Ended("engine_stopped".into()));
    let again = IngestConfig { udp_port: ports.0, tcp_port: ports.1, ..config(1) };
    assert_eq!(Bench::with(again).ingest.ports(), ports, "the ports are free again");
}
