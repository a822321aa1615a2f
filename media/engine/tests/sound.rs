//! Sound is a right of its own: who has it hears, who has it not gets the same pictures and not a byte of sound.

mod support;

use std::io::Read;

use gbmedia::tickets::Output;
use gbmedia::types::{Codec, EventKind, Tracks, Value};
use support::*;

fn publish(stage: &Stage, codec: Codec, indices: std::ops::Range<i64>) {
    for index in indices {
        stage.hub.publish(picture(index, (index % 4 == 0).then_some(&SPS[..]), 100));
        stage.hub.publish(sound(codec, index));
    }
}

fn text(stream: &mut impl Read) -> String {
    let (opcode, text) = read_message(stream);
    assert_eq!(opcode, 0x81);
    String::from_utf8(text).unwrap()
}

fn count(tree: &[(String, Vec<u8>)], path: &str) -> usize {
    tree.iter().filter(|(found, _)| found == path).count()
}

/// The track of a fragment: 1 video, 2 audio.
fn track(fragment: &[u8]) -> u8 {
    find(&boxes(fragment), "/moof/traf/tfhd")[7]
}

#[test]
fn flv_of_one_stream_sounds_for_one_viewer_and_not_for_the_other() {
    for codec in [Codec::G711A, Codec::Aac] {
        let stage = Stage::new();
        stage.hub.set_tracks(tracks(Some(codec)));
        publish(&stage, codec, 0..4);
        let mut hears = stage.watch(Output::HttpFlv);
        let mut silent = stage.watch_as(&stage.silent, Output::HttpFlv);
        assert_eq!((read_flv_header(&mut hears), read_flv_header(&mut silent)), (5, 1));
        publish(&stage, codec, 4..8);
        let kinds: Vec<u8> = (0..9).map(|_| read_tag(&mut silent).kind).collect();
        assert_eq!(kinds, [9; 9], "a header and eight pictures");
        let sounds = (0..17).map(|_| read_tag(&mut hears)).filter(|tag| tag.kind == 8).count();
        assert!(sounds >= 8, "{sounds}");
    }
}

#[test]
fn fmp4_of_one_stream_sounds_for_one_viewer_and_not_for_the_other() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(Some(Codec::Aac)));
    publish(&stage, Codec::Aac, 0..2);
    let mut hears = stage.watch(Output::WsFmp4);
    let mut silent = stage.watch_as(&stage.silent, Output::WsFmp4);
    assert_eq!(
        text(&mut hears),
        r#"{"type":"init","codecs":"avc1.640028,mp4a.40.2","video":"H264","width":1920,"height":1080,"audio":"AAC"}"#
    );
    assert_eq!(
        text(&mut silent),
        r#"{"type":"init","codecs":"avc1.640028","video":"H264","width":1920,"height":1080,"audio":"AAC","audio_omitted":"not_granted"}"#
    );
    let [two, one] = [&mut hears, &mut silent].map(|stream| boxes(&read_message(stream).1));
    assert_eq!((count(&two, "/moov/trak"), count(&two, "/moov/mvex/trex")), (2, 2));
    assert_eq!((count(&one, "/moov/trak"), count(&one, "/moov/mvex/trex")), (1, 1));
    publish(&stage, Codec::Aac, 2..4);
    let of = |stream: &mut std::net::TcpStream, messages| -> Vec<u8> {
        (0..messages).map(|_| track(&read_message(stream).1)).collect()
    };
    assert_eq!(of(&mut silent, 4), [1; 4]);
    assert_eq!(of(&mut hears, 8).iter().filter(|track| **track == 2).count(), 4);
}

#[test]
fn sound_that_is_taken_away_ends_and_the_picture_goes_on() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(Some(Codec::Aac)));
    publish(&stage, Codec::Aac, 0..1);
    let mut socket = stage.watch(Output::WsFmp4);
    let mut flv = stage.watch(Output::HttpFlv);
    assert!(text(&mut socket).contains("mp4a"));
    (0..3).for_each(|_| drop(read_message(&mut socket)));
    assert_eq!(read_flv_header(&mut flv), 5);
    (0..4).for_each(|_| drop(read_tag(&mut flv)));
    let now = stage.clock.now();
    stage.lease.renew(now.unix_us as f64 / 1e6 + 29.0, false, now).unwrap();
    publish(&stage, Codec::Aac, 1..3);
    let init = text(&mut socket);
    assert!(
        init.contains(r#""codecs":"avc1.640028","#) && init.ends_with(r#""audio_omitted":"not_granted"}"#),
        "{init}"
    );
    assert_eq!(count(&boxes(&read_message(&mut socket).1), "/moov/trak"), 1);
    // Its player starts anew: from the newest key picture on, pictures alone.
    let rest = [(); 3].map(|()| read_message(&mut socket).1);
    assert_eq!(rest.each_ref().map(|message| (track(message), fragment(message).0)), [(1, 0), (1, 3600), (1, 7200)]);
    // FLV promises nothing: there it just stays away.
    let tags: Vec<(u8, u8)> = (0..2).map(|_| read_tag(&mut flv)).map(|tag| (tag.kind, tag.data[0])).collect();
    assert_eq!(tags, [(9, 0x27), (9, 0x27)]);
}

#[test]
fn who_listens_to_a_stream_of_sound_alone_goes_when_it_is_taken_away() {
    let stage = Stage::new();
    stage.hub.set_tracks(Tracks { video: None, ..tracks(Some(Codec::G711A)) });
    stage.hub.publish(sound(Codec::G711A, 0));
    let mut flv = stage.watch(Output::HttpFlv);
    stage.hub.publish(sound(Codec::G711A, 1));
    assert_eq!(read_flv_header(&mut flv), 4);
    assert_eq!(read_tag(&mut flv).kind, 8);
    let now = stage.clock.now();
    stage.lease.renew(now.unix_us as f64 / 1e6 + 29.0, false, now).unwrap();
    stage.hub.publish(sound(Codec::G711A, 2));
    assert_eq!(flv.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn sound_that_turns_up_later_is_no_news_for_who_may_not_hear_it() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut silent = stage.watch_as(&stage.silent, Output::WsFmp4);
    assert!(text(&mut silent).ends_with(r#""audio_omitted":"not_granted"}"#));
    (0..2).for_each(|_| drop(read_message(&mut silent)));
    stage.hub.set_tracks(tracks(Some(Codec::Aac)));
    stage.hub.publish(picture(1, Some(&SPS), 50));
    assert_eq!(fragment(&read_message(&mut silent).1).0, 3600, "no new header: its player need not start anew");
}

#[test]
fn nobody_without_the_right_waits_for_sound() {
    // The clock of this stage stands still: whoever waits, waits for ever.
    let stage = Stage::standing();
    stage.hub.set_tracks(Tracks { settled: false, ..tracks(None) });
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut silent = stage.watch_as(&stage.silent, Output::HttpFlv);
    assert_eq!(read_flv_header(&mut silent), 1);
    read_tag(&mut silent);
    assert_eq!(read_tag(&mut silent).data[1], 1);
    drop(silent);
    stage.event(EventKind::ViewerClosed);
    // Negative control: who may hear does wait, until it is settled.
    let mut hears = stage.watch(Output::HttpFlv);
    assert!(stage.outlet.barrier(std::time::Duration::from_secs(5)));
    assert_eq!(stage.outlet.stats.frames.load(std::sync::atomic::Ordering::Relaxed), 1);
    stage.hub.set_tracks(tracks(Some(Codec::Aac)));
    assert_eq!(read_flv_header(&mut hears), 5);
}

#[test]
fn a_stream_of_sound_alone_is_nothing_for_who_may_not_hear_it() {
    let stage = Stage::new();
    stage.hub.set_tracks(Tracks { video: None, ..tracks(Some(Codec::G711A)) });
    stage.hub.publish(sound(Codec::G711A, 0));
    let mut hears = stage.watch(Output::HttpFlv);
    let mut silent = stage.watch_as(&stage.silent, Output::HttpFlv);
    stage.hub.publish(sound(Codec::G711A, 1));
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
    let closed = stage.event(EventKind::ViewerClosed);
    let reason = closed.detail.iter().find(|(name, _)| *name == "reason").map(|(_, value)| value.clone());
    assert_eq!(reason, Some(Value::Text("audio_not_granted".to_owned())));
    assert_eq!(read_flv_header(&mut hears), 4);
    assert_eq!(read_tag(&mut hears).kind, 8);
}
