//! Leases and sessions under a manual clock: nothing without a lease, nothing after it, alarms, silence, events.

mod common;

use common::*;
use gbmedia::accept::{Reason, Via};
use gbmedia::clock::{Clock, ManualClock};
use gbmedia::events::EventQueue;
use gbmedia::hub::ReadResult;
use gbmedia::rtp;
use gbmedia::session::Fate;
use gbmedia::sessions::{LeaseSpec, Registry, SessionError, SessionSpec, Transport};
use gbmedia::types::{Codec, Event, EventKind, Value};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;

const START: f64 = 1_700_000_000.0;
const GENUINE: &str = "192.0.2.10:5000";

struct Bench {
    clock: Arc<ManualClock>,
    events: EventQueue,
    registry: Arc<Registry>,
    ended: Arc<Mutex<Vec<(String, String)>>>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let events = EventQueue::new().unwrap();
        let ended: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let told = Arc::clone(&ended);
        let registry = Registry::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            events.clone(),
            Arc::new(|_| ()),
            Arc::new(move |lease, reason| told.lock().push((lease.key().to_string(), reason.to_owned()))),
            20.0,
        );
        Self { clock, events, registry, ended }
    }

    fn spec(session: &str, lease: &str, ssrc: u32, not_after: f64) -> SessionSpec {
        SessionSpec {
            key: session.into(),
            ssrc,
            transport: Transport::Udp,
            sources: vec!["192.0.2.10".parse().unwrap()],
            lease: LeaseSpec { key: lease.into(), not_after, audio: true },
            private_port: false,
        }
    }

    fn open(&self, session: &str, lease: &str, ssrc: u32, not_after: f64) -> Result<u16, SessionError> {
        self.registry.open(Self::spec(session, lease, ssrc, not_after))
    }

    fn send(&self, packets: &[Vec<u8>], from: &str) -> Vec<Fate> {
        let from: SocketAddr = from.parse().unwrap();
        let fate = |packet: &Vec<u8>| {
            let rtp = rtp::parse(packet).unwrap();
            let session = self.registry.by_ssrc(rtp.ssrc).unwrap();
            session.packet(&rtp, packet.len(), from, Via::SharedUdp, self.clock.now())
        };
        packets.iter().map(fate).collect()
    }

    fn events(&self) -> Vec<Event> {
        self.events.drain(usize::MAX)
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events().iter().map(|event| event.kind).collect()
    }

    fn not_after(&self, seconds: f64) -> f64 {
        self.clock.now().unix_us as f64 / 1e6 + seconds
    }
}

fn int(event: &Event, name: &str) -> i64 {
    match event.detail.iter().find(|entry| entry.0 == name) {
        Some((_, Value::Int(number))) => *number,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn first_packets_tell_source_tracks_and_frame() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    bench.clock.advance_ms(400);
    let camera = Camera::new(Codec::H264);
    let fates = bench.send(&camera.rtp(0..3, 0), GENUINE);
    assert!(fates.iter().all(|fate| *fate == Fate::Accepted { deadline_us: None }));
    let events = bench.events();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::SourceStarted, EventKind::Tracks, EventKind::Tracks, EventKind::FirstFrame]);
    assert_eq!((int(&events[0], "since_open_ms"), int(&events[0], "ssrc_as_agreed")), (400, 1));
    assert!(events.iter().all(|event| &*event.session == "str_a"));
    let stats = bench.registry.session_stats("str_a").unwrap();
    assert_eq!((stats.video_frames, stats.key_frames, stats.audio_frames), (3, 1, 3));
    assert_eq!((stats.video_codec, stats.audio_codec, stats.container), (Some("H264"), Some("G711A"), Some("PS")));
    assert!(stats.pinned);
}

#[test]
fn lease_end_silences_and_empties_the_hub_to_the_microsecond() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 10.0).unwrap();
    let camera = Camera::new(Codec::H264);
    bench.send(&camera.rtp(0..3, 0), GENUINE);
    let hub = bench.registry.hub("str_a").unwrap();
    let mut reader = hub.reader();
    assert!(hub.held().0 > 0);
    bench.clock.advance_ms(9_999);
    let seq = camera.rtp(0..3, 0).len() as u16;
    assert!(matches!(bench.send(&camera.rtp(3..4, seq), GENUINE)[0], Fate::Accepted { .. }));
    bench.clock.advance_ms(1);
    // The data path enforces it by itself, before any timer.
    assert_eq!(bench.send(&camera.rtp(4..5, seq + 1), GENUINE)[0], Fate::Unleased);
    assert!(bench.registry.viewable("lea_a").is_none());
    let before = reader.read(1_000, &mut Vec::new());
    assert!(matches!(before, ReadResult::Units(_)), "what was published under the lease: outputs ask the lease");
    bench.events();
    bench.registry.tick();
    assert_eq!(hub.held(), (0, 0));
    assert_eq!(bench.kinds(), [EventKind::LeaseExpired]);
    assert_eq!(*bench.ended.lock(), [("lea_a".to_owned(), "expired".to_owned())]);
    assert_eq!(bench.registry.session_stats("str_a").unwrap().unleased, 1);
    assert_eq!(bench.registry.renew("lea_a", bench.not_after(10.0), true), Err(SessionError::Unknown));
}

#[test]
fn renewed_leases_live_on_and_refused_renewals_change_nothing() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    for _ in 0..10 {
        bench.clock.advance_ms(25_000);
        assert_eq!(bench.registry.renew("lea_a", bench.not_after(31.0), true), Err(SessionError::LeaseTooLong));
        bench.registry.renew("lea_a", bench.not_after(30.0), true).unwrap();
        bench.registry.tick();
        assert!(bench.registry.viewable("lea_a").is_some());
    }
    // Python is dead: nobody renews, the engine's own timer ends it.
    bench.events();
    let next = bench.registry.tick();
    assert!(next <= bench.clock.now().mono_us + 1_000_000);
    bench.clock.advance_ms(30_000);
    bench.registry.tick();
    assert!(bench.kinds().contains(&EventKind::LeaseExpired));
}

#[test]
fn other_leases_keep_the_stream_when_one_is_revoked() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    bench.registry.grant("str_a", LeaseSpec { key: "lea_b".into(), not_after: START + 30.0, audio: true }).unwrap();
    let again = LeaseSpec { key: "lea_b".into(), not_after: START + 30.0, audio: true };
    assert_eq!(bench.registry.grant("str_a", again), Err(SessionError::Exists));
    let camera = Camera::new(Codec::H264);
    bench.send(&camera.rtp(0..2, 0), GENUINE);
    bench.registry.revoke("lea_a", "RIGHT_WITHDRAWN").unwrap();
    assert_eq!(*bench.ended.lock(), [("lea_a".to_owned(), "RIGHT_WITHDRAWN".to_owned())]);
    let hub = bench.registry.hub("str_a").unwrap();
    assert!(hub.held().0 > 0 && bench.registry.viewable("lea_b").is_some());
    bench.registry.revoke("lea_b", "RIGHT_WITHDRAWN").unwrap();
    assert_eq!(hub.held(), (0, 0), "nothing stays readable");
    assert_eq!(bench.registry.revoke("lea_b", "again"), Err(SessionError::Unknown));
    assert_eq!(bench.send(&camera.rtp(2..3, 4), GENUINE)[0], Fate::Unleased);
}

#[test]
fn a_released_lease_goes_on_receiving_until_its_end_and_lets_nothing_out() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 20.0).unwrap();
    let camera = Camera { gop: 4, ..Camera::new(Codec::H264) };
    let packets = camera.rtp(0..6, 0);
    let (first, later) = packets.split_at(8);
    bench.send(first, GENUINE);
    let hub = bench.registry.hub("str_a").unwrap();
    bench.registry.release("lea_a", "viewer_left").unwrap();
    bench.registry.release("lea_a", "again").unwrap();
    assert_eq!(*bench.ended.lock(), [("lea_a".to_owned(), "viewer_left".to_owned())], "its viewers go, once");
    assert!(bench.registry.viewable("lea_a").is_none(), "no ticket is worth anything");
    assert_eq!(bench.registry.renew("lea_a", bench.not_after(30.0), true), Err(SessionError::LeaseOver));
    assert_eq!(bench.registry.stats().leases, 0);
    assert!(bench.send(later, GENUINE).iter().all(|fate| matches!(fate, Fate::Accepted { .. })));
    // The next viewer has the newest group at once.
    bench.clock.advance_ms(19_000);
    bench.registry.tick();
    let next = LeaseSpec { key: "lea_b".into(), not_after: bench.not_after(5.0), audio: true };
    assert_eq!(bench.registry.grant("str_a", next), Ok(true), "a key picture is there");
    let mut units = Vec::new();
    assert!(matches!(hub.reader().read(1_000, &mut units), ReadResult::Units(_)));
    assert!(units[0].key && units[0].dts > 0);
    // The tail's end is no end for the living.
    bench.clock.advance_ms(1_000);
    bench.events();
    bench.registry.tick();
    assert!(!bench.kinds().contains(&EventKind::LeaseExpired), "it was told when it was released");
    assert!(hub.held().0 > 0);
    bench.registry.release("lea_b", "viewer_left").unwrap();
    bench.clock.advance_ms(4_000);
    assert_eq!(bench.send(&camera.rtp(6..7, packets.len() as u16), GENUINE)[0], Fate::Unleased, "its time is over");
    bench.registry.tick();
    assert_eq!(hub.held(), (0, 0));
    assert_eq!(bench.kinds(), []);
}

#[test]
fn a_cut_takes_back_what_released_leases_had_left() {
    let camera = Camera::new(Codec::H264);
    let packets = camera.rtp(0..3, 0);
    for cut in ["lea_a", "lea_b"] {
        let bench = Bench::new();
        bench.open("str_a", "lea_a", SSRC, START + 20.0).unwrap();
        let other = LeaseSpec { key: "lea_b".into(), not_after: START + 30.0, audio: true };
        bench.registry.grant("str_a", other).unwrap();
        bench.send(&packets[..4], GENUINE);
        let hub = bench.registry.hub("str_a").unwrap();
        bench.registry.release("lea_b", "viewer_left").unwrap();
        bench.registry.revoke(cut, "E_GRANT_REVOKED").unwrap();
        if cut == "lea_b" {
            // Cut itself, after its release: the living one goes on.
            assert!(hub.held().0 > 0 && bench.registry.viewable("lea_a").is_some());
            bench.registry.revoke("lea_a", "E_GRANT_REVOKED").unwrap();
        }
        assert_eq!(hub.held(), (0, 0), "silent at once");
        assert_eq!(bench.send(&packets[4..5], GENUINE)[0], Fate::Unleased);
        assert_eq!(bench.ended.lock().len(), 2, "every lease is told once");
        assert_eq!(bench.registry.revoke("lea_b", "again"), Err(SessionError::Unknown));
        assert_eq!(bench.registry.stats().leases, 0);
    }
}

#[test]
fn a_grant_after_the_end_finds_nothing_from_before_it() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 5.0).unwrap();
    bench.send(&Camera::new(Codec::H264).rtp(0..3, 0), GENUINE);
    let hub = bench.registry.hub("str_a").unwrap();
    bench.clock.advance_ms(5_000);
    assert!(hub.held().0 > 0, "the timer has not run yet");
    let next = LeaseSpec { key: "lea_b".into(), not_after: bench.not_after(30.0), audio: true };
    assert_eq!(bench.registry.grant("str_a", next), Ok(false), "a key picture is still to come");
    assert_eq!(hub.held(), (0, 0));
}

#[test]
fn closing_does_not_tell_released_leases_again() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 20.0).unwrap();
    bench.registry.release("lea_a", "viewer_left").unwrap();
    bench.registry.close("str_a", "grace_over").unwrap();
    bench.clock.advance_ms(30_000);
    bench.registry.tick();
    assert_eq!(*bench.ended.lock(), [("lea_a".to_owned(), "viewer_left".to_owned())]);
    assert_eq!(bench.kinds(), []);
}

#[test]
fn stream_goes_on_after_a_gap_in_permission_with_growing_times() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 5.0).unwrap();
    let camera = Camera { gop: 2, ..Camera::new(Codec::H264) };
    let packets = camera.rtp(0..8, 0);
    bench.send(&packets[..16], GENUINE);
    let hub = bench.registry.hub("str_a").unwrap();
    let mut units = Vec::new();
    hub.reader().read(1_000, &mut units);
    let last = units.last().unwrap().dts;
    bench.clock.advance_ms(6_000);
    bench.registry.tick();
    bench.send(&packets[16..17], GENUINE);
    bench
        .registry
        .grant("str_a", LeaseSpec { key: "lea_b".into(), not_after: bench.not_after(30.0), audio: true })
        .unwrap();
    let rest = camera.rtp(8..12, packets.len() as u16);
    bench.send(&rest, GENUINE);
    let mut units = Vec::new();
    assert!(matches!(hub.reader().read(1_000, &mut units), ReadResult::Units(_)));
    assert!(units[0].key && units[0].dts >= last + 6 * 90_000, "{} after {last}", units[0].dts);
    let stats = bench.registry.session_stats("str_a").unwrap();
    assert!(stats.video_frames >= 8 && stats.unleased == 1, "counts go on: {stats:?}");
}

#[test]
fn commands_are_refused_without_half_state() {
    let bench = Bench::new();
    let bad = bench.open("str_a", "lea_a", SSRC, START + 31.0);
    assert_eq!(bad, Err(SessionError::LeaseTooLong));
    assert_eq!(bench.open("str_a", "lea_a", SSRC, START - 1.0), Err(SessionError::LeaseOver));
    assert_eq!(bench.registry.stats().sessions, 0);
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    assert_eq!(bench.open("str_a", "lea_b", SSRC + 1, START + 30.0), Err(SessionError::Exists));
    assert_eq!(bench.open("str_b", "lea_a", SSRC + 1, START + 30.0), Err(SessionError::Exists));
    assert_eq!(bench.open("str_b", "lea_b", SSRC, START + 30.0), Err(SessionError::SsrcInUse));
    let mut many = Bench::spec("str_b", "lea_b", SSRC + 1, START + 30.0);
    many.sources = (0..17).map(|number| format!("10.0.0.{number}").parse().unwrap()).collect();
    assert_eq!(bench.registry.open(many), Err(SessionError::Exhausted("sources")));
    assert_eq!((bench.registry.stats().sessions, bench.registry.stats().leases), (1, 1));
    assert_eq!(bench.registry.set_ssrc("str_x", 1), Err(SessionError::Unknown));
    bench.open("str_b", "lea_b", SSRC + 1, START + 30.0).unwrap();
    assert_eq!(bench.registry.set_ssrc("str_b", SSRC), Err(SessionError::SsrcInUse));
    bench.registry.set_ssrc("str_b", SSRC + 2).unwrap();
    assert!(bench.registry.by_ssrc(SSRC + 1).is_none() && bench.registry.by_ssrc(SSRC + 2).is_some());
}

#[test]
fn close_ends_every_lease_and_frees_the_ssrc() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    bench.registry.grant("str_a", LeaseSpec { key: "lea_b".into(), not_after: START + 30.0, audio: true }).unwrap();
    let hub = bench.registry.hub("str_a").unwrap();
    let mut reader = hub.reader();
    bench.registry.close("str_a", "device_bye").unwrap();
    assert_eq!(reader.read(9, &mut Vec::new()), ReadResult::Ended("device_bye".into()));
    let mut ended = bench.ended.lock().clone();
    ended.sort();
    let expected = [("lea_a", "device_bye"), ("lea_b", "device_bye")];
    assert_eq!(ended, expected.map(|(lease, reason)| (lease.to_owned(), reason.to_owned())));
    assert_eq!((bench.registry.stats().sessions, bench.registry.stats().leases), (0, 0));
    bench.open("str_c", "lea_a", SSRC, START + 30.0).unwrap();
}

#[test]
fn second_source_with_the_same_ssrc_is_an_alarm_once_a_second() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    let camera = Camera::new(Codec::H264);
    bench.send(&camera.rtp(0..2, 0), GENUINE);
    bench.events();
    let foreign = camera.rtp(0..40, 900);
    for packet in &foreign {
        let fate = bench.send(std::slice::from_ref(packet), "192.0.2.10:6000");
        assert_eq!(fate, [Fate::Rejected(Reason::Conflict)]);
        bench.clock.advance_ms(10);
    }
    assert_eq!(bench.kinds(), [EventKind::SourceRejected], "told at once, then counted");
    bench.clock.advance_ms(1_000);
    bench.registry.tick();
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(int(&events[0], "count"), foreign.len() as i64 - 1);
    assert!(events[0].detail.contains(&("reason", Value::Text("second_source".to_owned()))));
    assert_eq!(bench.registry.session_stats("str_a").unwrap().rejected, foreign.len() as u64);
    assert_eq!(bench.registry.session_stats("str_a").unwrap().video_frames, 2, "no foreign picture");
}

#[test]
fn device_that_ignores_the_agreed_ssrc_is_named_to_its_session() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    let now = bench.clock.now();
    bench.registry.unknown_ssrc("198.51.100.7:1".parse().unwrap(), 7, now);
    assert!(bench.events().is_empty(), "a stranger is counted only");
    bench.clock.advance_ms(200);
    bench.registry.unknown_ssrc(GENUINE.parse().unwrap(), 7, bench.clock.now());
    let events = bench.events();
    assert_eq!((events.len(), events[0].kind), (1, EventKind::SourceRejected));
    assert!(events[0].detail.contains(&("reason", Value::Text("wrong_ssrc".to_owned()))));
    assert_eq!(bench.registry.stats().unknown_ssrc, 2);
}

#[test]
fn silent_source_is_told_once_and_again_after_it_was_heard() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    let camera = Camera::new(Codec::H264);
    let packets = camera.rtp(0..10, 0);
    bench.send(&packets[..4], GENUINE);
    bench.events();
    bench.clock.advance_ms(19_999);
    bench.registry.tick();
    assert!(bench.kinds().is_empty());
    bench.clock.advance_ms(1);
    bench.registry.tick();
    bench.registry.tick();
    let events = bench.events();
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::SourceLost]);
    assert_eq!((int(&events[0], "ever"), int(&events[0], "silent_ms")), (1, 20_000));
    bench.registry.renew("lea_a", bench.not_after(30.0), true).unwrap();
    bench.send(&packets[4..5], GENUINE);
    bench.clock.advance_ms(20_000);
    bench.registry.tick();
    assert_eq!(bench.kinds(), [EventKind::SourceLost]);
}

#[test]
fn timer_rests_while_nothing_is_due() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    let rests = |bench: &Bench| bench.registry.tick() >= bench.clock.now().mono_us + 1_000_000;
    assert!(rests(&bench));
    bench.clock.advance_ms(20_000);
    assert!(rests(&bench), "after the silent source was told");
    bench.clock.advance_ms(60_000);
    bench.registry.tick();
    assert!(rests(&bench), "without a lease nobody waits for a source");
    let rejected = Camera::new(Codec::H264).rtp(0..3, 0);
    bench
        .registry
        .grant("str_a", LeaseSpec { key: "lea_b".into(), not_after: bench.not_after(30.0), audio: true })
        .unwrap();
    bench.send(&rejected, "198.51.100.1:1");
    assert!(bench.registry.tick() <= bench.clock.now().mono_us + 1_000_000);
    bench.clock.advance_ms(1_000);
    bench.registry.tick();
    assert!(rests(&bench), "after the alarm was told");
}

#[test]
fn source_that_never_came_is_told_too() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    bench.clock.advance_ms(20_000);
    bench.registry.tick();
    let events = bench.events();
    assert_eq!((events.len(), int(&events[0], "ever")), (1, 0));
}

#[test]
fn new_ssrc_from_the_answer_pins_anew_and_times_go_on() {
    let bench = Bench::new();
    bench.open("str_a", "lea_a", SSRC, START + 30.0).unwrap();
    let camera = Camera::new(Codec::H264);
    bench.send(&camera.rtp(0..5, 0), GENUINE);
    let hub = bench.registry.hub("str_a").unwrap();
    let version = hub.tracks().version;
    bench.registry.set_ssrc("str_a", SSRC + 5).unwrap();
    bench.clock.advance_ms(500);
    let mut packets = camera.rtp(0..5, 777);
    packets.iter_mut().for_each(|packet| packet[8..12].copy_from_slice(&(SSRC + 5).to_be_bytes()));
    assert!(matches!(bench.send(&packets, "192.0.2.10:7000")[0], Fate::Accepted { .. }));
    let mut units = Vec::new();
    let mut reader = hub.reader();
    reader.read(1_000, &mut units);
    assert!(hub.tracks().version > version);
    let stats = bench.registry.session_stats("str_a").unwrap();
    assert_eq!(stats.video_frames, 10);
    let video: Vec<i64> = units.iter().filter(|u| u.codec == Codec::H264).map(|unit| unit.dts).collect();
    assert!(video.windows(2).all(|pair| pair[0] < pair[1]) && video[0] > 90_000 + 4 * 3_600);
}

#[test]
fn events_are_bounded_and_alarms_give_way_first() {
    let queue = EventQueue::new().unwrap();
    let event = |kind| Event { kind, session: "str_a".into(), lease: None, detail: Vec::new() };
    queue.send(event(EventKind::SourceRejected));
    for _ in 0..gbmedia::events::EVENT_LIMIT {
        queue.send(event(EventKind::FirstFrame));
    }
    assert_eq!(queue.lost(), 1);
    queue.send(event(EventKind::LeaseExpired));
    let events = queue.drain(usize::MAX);
    assert_eq!((events.len(), queue.lost()), (gbmedia::events::EVENT_LIMIT, 2));
    assert!(events.iter().all(|event| event.kind == EventKind::FirstFrame));
}
