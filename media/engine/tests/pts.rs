//! Timeline: wraps, jumps, zeros, steps back, foreign clocks; monotone output and sound within 200 ms (MED-07).

use gbmedia::pts::{Stamps, Timeline};

const SYNC_LIMIT: i64 = 18_000;

/// Plays `seconds` of 25 pictures and 50 audio units of 20 ms a second. `video` and `audio` make the raw PTS out of
/// the true time in 90 kHz ticks; `rtp` the RTP time stamp. Checks that both tracks increase strictly, and gives the
/// largest distance of a picture from true time and of sound from the picture's idea of the same time.
fn play(
    seconds: i64,
    video: impl Fn(i64) -> Option<u64>,
    audio: impl Fn(i64) -> Option<u64>,
    rtp: impl Fn(i64) -> u32,
) -> (i64, i64) {
    let mut timeline = Timeline::new();
    let (mut last_video, mut last_audio) = (i64::MIN, i64::MIN);
    let (mut drift, mut apart, mut origin) = (0_i64, 0_i64, None);
    for step in 0..seconds * 50 {
        let time = step * 1_800;
        let arrived_us = 5_000_000 + step as u64 * 20_000;
        let stamps = |pts| Stamps { pts, dts: None, rtp: rtp(time), arrived_us };
        if step % 2 == 0 {
            let (pts, dts) = timeline.video(&stamps(video(time)));
            assert!(dts > last_video && pts == dts, "video {last_video} then {dts} at {time}");
            last_video = dts;
            drift = drift.max((dts - time - *origin.get_or_insert(dts - time)).abs());
        }
        let pts = timeline.audio(&stamps(audio(time)), Some(1_800));
        assert!(pts > last_audio, "audio {last_audio} then {pts} at {time}");
        last_audio = pts;
        apart = apart.max((pts - time - (last_video - time / 3_600 * 3_600)).abs());
    }
    (drift, apart)
}

fn rtp90(time: i64) -> u32 {
    (time + 0xFFFF_0000) as u32
}

#[test]
fn good_stamps_are_kept_exactly() {
    assert_eq!(play(20, |time| Some(time as u64), |time| Some(time as u64), rtp90), (0, 0));
}

#[test]
fn wraps_at_33_and_32_bits_are_unnoticed() {
    for bits in [33, 32] {
        let raw = |time: i64| Some((time as u64).wrapping_sub(200_000) & ((1 << bits) - 1));
        assert_eq!(play(20, raw, raw, rtp90), (0, 0), "{bits} bits");
    }
}

#[test]
fn jumps_of_the_camera_clock_are_bridged() {
    for jump in [50_000_000_i64, -50_000_000, 4_000_000_000] {
        let raw = |time: i64| Some(((time + if time > 450_000 { jump } else { 0 }) as u64) & ((1 << 33) - 1));
        let (drift, apart) = play(20, raw, raw, rtp90);
        assert!(drift <= 3_600 && apart <= 3_600, "jump {jump}: {drift} {apart}");
    }
}

#[test]
fn many_jumps_do_not_add_up() {
    let raw = |time: i64| Some((time + time / 90_000 * 77_000_000) as u64 & ((1 << 33) - 1));
    let (drift, apart) = play(60, raw, raw, rtp90);
    assert!(drift <= 3_600 && apart <= SYNC_LIMIT, "{drift} {apart}");
}

#[test]
fn constant_or_missing_stamps_are_replaced_by_rtp() {
    for raw in [Some(0_u64), Some(1_234), None] {
        let (drift, apart) = play(20, |_| raw, |_| raw, rtp90);
        assert!(drift == 0 && apart <= SYNC_LIMIT, "{raw:?}: {drift} {apart}");
    }
}

#[test]
fn without_any_stamps_the_arrival_clock_rules() {
    let (drift, apart) = play(20, |_| Some(0), |_| None, |_| 0);
    assert!(drift <= 3_600 && apart <= SYNC_LIMIT, "{drift} {apart}");
}

#[test]
fn rtp_in_milliseconds_is_recognised() {
    let (drift, apart) = play(20, |_| None, |_| None, |time| (time / 90) as u32);
    assert!(drift <= 3_600 && apart <= SYNC_LIMIT, "{drift} {apart}");
}

#[test]
fn sound_in_8_khz_units_or_on_a_base_of_its_own_stays_with_the_picture() {
    for (base, scale) in [(0, 8), (0, 90), (3_000_000_000, 90), (7_000_000, 8)] {
        let audio = |time: i64| Some((time * scale / 90 + base) as u64);
        let (drift, apart) = play(60, |time| Some(time as u64), audio, rtp90);
        assert!(drift == 0 && apart <= SYNC_LIMIT, "base {base} scale {scale}: {drift} {apart}");
    }
}

#[test]
fn steps_back_stand_still_and_catch_up() {
    let raw = |time: i64| Some((time + 1_000_000 - if time % 90_000 == 0 { 9_000 } else { 0 }) as u64);
    let (drift, _) = play(20, raw, |time| Some((time + 1_000_000) as u64), rtp90);
    assert!(drift <= 9_000 + 3_600, "{drift}");
}

#[test]
fn pause_of_the_source_is_kept_but_a_leap_is_not() {
    let mut timeline = Timeline::new();
    let mut at = |pts: u64, millis: u64| {
        timeline.video(&Stamps { pts: Some(pts), dts: None, rtp: pts as u32, arrived_us: millis * 1_000 }).1
    };
    let start = at(0, 0);
    assert_eq!(at(450_000, 5_000) - start, 450_000, "5 s without pictures are 5 s");
    let before = at(453_600, 5_040);
    assert!(at(453_600 + 540_000, 5_080) - before <= 3_600 * 2, "6 s ahead within 40 ms is a jump");
}

#[test]
fn b_pictures_keep_their_distance() {
    let mut timeline = Timeline::new();
    let stamps = |pts, dts| Stamps { pts: Some(pts), dts: Some(dts), rtp: dts as u32, arrived_us: dts * 100 / 9 };
    let (pts, dts) = timeline.video(&stamps(10_800, 3_600));
    assert_eq!(pts - dts, 7_200);
    let (second_pts, second_dts) = timeline.video(&stamps(7_200, 7_200));
    assert_eq!((second_pts - dts, second_dts - dts), (3_600, 3_600));
}
