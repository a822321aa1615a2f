//! Hub: GOP cache, cursors, lag, bounds, wake-ups, end.

use bytes::Bytes;
use gbmedia::hub::{Hub, HubLimits, ReadResult, Reader};
use gbmedia::types::{AccessUnit, Codec, SessionId, Track, Tracks, VideoTrack};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn unit(number: i64, key: bool, size: usize) -> AccessUnit {
    AccessUnit {
        track: Track::Video,
        codec: Codec::H264,
        pts: number,
        dts: number,
        key,
        discontinuity: false,
        data: Bytes::from(vec![0; size]),
        arrived_us: 0,
    }
}

fn sound(number: i64) -> AccessUnit {
    AccessUnit { track: Track::Audio, codec: Codec::G711A, ..unit(number, true, 320) }
}

fn hub(bytes: usize, units: usize) -> (Arc<Hub>, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let notify = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (Hub::new(SessionId(1), HubLimits { bytes, units }, notify), wakes)
}

fn read(reader: &mut Reader) -> (ReadResult, Vec<i64>) {
    let mut units = Vec::new();
    let result = reader.read(1_000, &mut units);
    (result, units.iter().map(|unit| unit.dts).collect())
}

#[test]
fn reader_starts_at_the_newest_key_and_follows() {
    let (hub, _) = hub(1 << 20, 300);
    (0..25).for_each(|number| hub.publish(unit(number, number % 10 == 0, 100)));
    let mut reader = hub.reader();
    assert_eq!(read(&mut reader), (ReadResult::Units(5), (20..25).collect()));
    assert_eq!(read(&mut reader).0, ReadResult::Pending);
    hub.publish(unit(25, false, 100));
    assert_eq!(read(&mut reader).1, [25]);
}

#[test]
fn reader_before_any_key_waits_for_one() {
    let (hub, _) = hub(1 << 20, 300);
    hub.publish(sound(0));
    hub.publish(unit(1, false, 100));
    let mut reader = hub.reader();
    assert_eq!(read(&mut reader).0, ReadResult::Pending);
    hub.publish(unit(2, false, 100));
    assert_eq!(read(&mut reader).0, ReadResult::Pending);
    hub.publish(unit(3, true, 100));
    hub.publish(sound(4));
    assert_eq!(read(&mut reader).1, [3, 4]);
}

#[test]
fn stream_of_sound_alone_needs_no_key() {
    let (hub, _) = hub(1 << 20, 300);
    hub.publish(sound(0));
    let mut reader = hub.reader();
    hub.publish(sound(1));
    assert_eq!(read(&mut reader).1, [1]);
}

#[test]
fn ring_is_bounded_by_bytes_and_units() {
    let (hub, _) = hub(10_000, 50);
    for number in 0..500 {
        hub.publish(unit(number, number % 40 == 0, 900));
        assert!(hub.held().1 <= 10_000 && hub.held().0 <= 50);
    }
    let (hub, _) = self::hub(1 << 20, 50);
    for number in 0..500 {
        hub.publish(unit(number, number % 40 == 0, 9));
        hub.publish(sound(number));
        hub.publish(sound(number));
        assert!(hub.held().0 <= 150);
    }
    hub.publish(unit(500, true, 2 << 20));
    assert_eq!(hub.held(), (0, 0), "a unit beyond the bound is not kept");
}

#[test]
fn slow_reader_is_told_and_resumes_at_the_newest_key() {
    let (hub, _) = hub(1 << 20, 30);
    hub.publish(unit(0, true, 10));
    let (mut slow, mut fast) = (hub.reader(), hub.reader());
    let mut seen = Vec::new();
    for number in 1..100 {
        hub.publish(unit(number, number % 10 == 0, 10));
        seen.extend(read(&mut fast).1);
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>(), "a slow reader does not slow a fast one");
    assert_eq!(slow.behind(), 100);
    assert_eq!(read(&mut slow).0, ReadResult::Lagged { dropped: 90, resume_at_key: true });
    assert_eq!(read(&mut slow).1, (90..100).collect::<Vec<_>>());
}

#[test]
fn lag_beyond_a_group_longer_than_the_ring_waits_for_the_next_key() {
    let (hub, _) = hub(1 << 20, 30);
    hub.publish(unit(0, true, 10));
    let mut slow = hub.reader();
    (1..100).for_each(|number| hub.publish(unit(number, false, 10)));
    assert_eq!(read(&mut slow).0, ReadResult::Lagged { dropped: 100, resume_at_key: false });
    assert_eq!(read(&mut slow).0, ReadResult::Pending);
    assert_eq!(read(&mut hub.reader()).0, ReadResult::Pending, "a new reader too");
    hub.publish(unit(100, true, 10));
    assert_eq!(read(&mut slow).1, [100]);
}

#[test]
fn reader_may_skip_to_the_newest_key_by_itself() {
    let (hub, _) = hub(1 << 20, 300);
    (0..25).for_each(|number| hub.publish(unit(number, number % 10 == 0, 10)));
    let mut reader = hub.reader();
    reader.read(1, &mut Vec::new());
    assert_eq!(reader.skip_to_key(), 4, "no newer key: waits for the next");
    hub.publish(unit(25, false, 10));
    assert_eq!(read(&mut reader).0, ReadResult::Pending);
    (30..35).for_each(|number| hub.publish(unit(number, number == 30, 10)));
    assert_eq!(read(&mut reader).1, (30..35).collect::<Vec<_>>());
    (40..45).for_each(|number| hub.publish(unit(number, number == 43, 10)));
    assert_eq!(reader.skip_to_key(), 3);
    assert_eq!(read(&mut reader).1, [43, 44]);
}

#[test]
fn nobody_is_woken_without_readers() {
    let (hub, wakes) = hub(1 << 20, 300);
    (0..10).for_each(|number| hub.publish(unit(number, true, 10)));
    assert_eq!((wakes.load(Ordering::Relaxed), hub.readers()), (0, 0));
    let reader = hub.reader();
    hub.publish(unit(10, true, 10));
    hub.set_tracks(Tracks { version: 1, ..Tracks::default() });
    assert_eq!((wakes.load(Ordering::Relaxed), hub.readers()), (2, 1));
    drop(reader);
    hub.publish(unit(11, true, 10));
    assert_eq!((wakes.load(Ordering::Relaxed), hub.readers()), (2, 0));
}

#[test]
fn clear_leaves_nothing_readable_and_readers_go_on_at_the_next_key() {
    let (hub, _) = hub(1 << 20, 300);
    let video = Some(VideoTrack { codec: Codec::H264, parameter_sets: Default::default() });
    hub.set_tracks(Tracks { version: 1, video, ..Tracks::default() });
    (0..5).for_each(|number| hub.publish(unit(number, number == 0, 10)));
    let mut old = hub.reader();
    hub.clear();
    assert_eq!(hub.held(), (0, 0));
    assert_eq!(read(&mut hub.reader()).0, ReadResult::Pending);
    hub.publish(unit(5, false, 10));
    assert_eq!(read(&mut old).0, ReadResult::Lagged { dropped: 6, resume_at_key: false });
    hub.publish(unit(6, true, 10));
    assert_eq!(read(&mut old).1, [6]);
}

#[test]
fn end_is_final_and_drops_the_cache() {
    let (hub, wakes) = hub(1 << 20, 300);
    hub.publish(unit(0, true, 10));
    let mut reader = hub.reader();
    hub.end("device_bye");
    hub.end("again");
    assert_eq!(hub.held(), (0, 0));
    assert!(wakes.load(Ordering::Relaxed) > 0);
    assert_eq!(read(&mut reader).0, ReadResult::Ended("device_bye".into()));
    hub.publish(unit(1, true, 10));
    assert_eq!(read(&mut hub.reader()).0, ReadResult::Ended("device_bye".into()));
}

#[test]
fn thousand_readers_share_the_units() {
    let (hub, _) = hub(1 << 20, 300);
    let mut readers: Vec<Reader> = (0..1_000).map(|_| hub.reader()).collect();
    hub.publish(unit(0, true, 1_000));
    let mut units = Vec::new();
    for reader in &mut readers {
        assert_eq!(reader.read(10, &mut units), ReadResult::Units(1));
    }
    assert!(units.iter().all(|unit| Arc::ptr_eq(unit, &units[0])), "one copy for all");
}
