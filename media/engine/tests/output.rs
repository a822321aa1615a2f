//! The output side over real sockets: what players get, when, and what they do not get.

mod support;

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use gbmedia::tickets::Output;
use gbmedia::types::{Codec, EventKind, Value};
use support::*;

fn detail(event: &gbmedia::types::Event, name: &str) -> Value {
    event.detail.iter().find(|(found, _)| *found == name).map(|(_, value)| value.clone()).unwrap()
}

fn avc_nal(tag: &Tag) -> &[u8] {
    &tag.data[9..]
}

#[test]
fn flv_starts_at_the_key_picture_at_zero() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(Some(Codec::G711A)));
    for index in 0..5 {
        stage.hub.publish(picture(index, (index % 3 == 0).then_some(&SPS[..]), 100));
        stage.hub.publish(sound(Codec::G711A, index));
    }
    let mut stream = stage.watch(Output::HttpFlv);
    assert_eq!(read_flv_header(&mut stream), 5, "audio and video");
    let header = read_tag(&mut stream);
    assert_eq!((header.kind, &header.data[..5]), (9, &[0x17, 0, 0, 0, 0][..]));
    assert_eq!(&header.data[5..9], &[1, 100, 0, 40]);
    // Published: key 0, 1, 2, key 3, 4; a late viewer starts at 3.
    let expected = [(9, 0, 0x17), (8, 0, 0x72), (9, 40, 0x27), (8, 40, 0x72)];
    for (kind, milliseconds, first) in expected {
        let tag = read_tag(&mut stream);
        assert_eq!((tag.kind, tag.milliseconds, tag.data[0]), (kind, milliseconds, first));
        if kind == 9 {
            assert_eq!(avc_nal(&tag).len(), 100, "the slice alone: no parameter sets, no delimiter");
        }
    }
    stage.hub.publish(picture(5, None, 70_000));
    let tag = read_tag(&mut stream);
    assert_eq!((tag.milliseconds, avc_nal(&tag).len()), (80, 70_000));
}

#[test]
fn changed_parameter_sets_bring_a_new_header() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut flv = stage.watch(Output::HttpFlv);
    let mut socket = stage.watch(Output::WsFmp4);
    assert_eq!(read_flv_header(&mut flv), 1, "video alone");
    assert_eq!(read_tag(&mut flv).data[8], 40);
    assert_eq!(read_tag(&mut flv).data[0], 0x17);
    assert!(String::from_utf8(read_message(&mut socket).1).unwrap().contains("avc1.640028"));
    read_message(&mut socket);
    assert_eq!(fragment(&read_message(&mut socket).1).0, 0);
    stage.hub.publish(picture(1, Some(&SPS_CHANGED), 50));
    let header = read_tag(&mut flv);
    assert_eq!((header.data[1], header.data[8], header.milliseconds), (0, 31, 40));
    assert_eq!(read_tag(&mut flv).data[1], 1);
    let (opcode, text) = read_message(&mut socket);
    assert_eq!(opcode, 0x81);
    assert!(String::from_utf8(text).unwrap().contains("avc1.64001f"));
    assert_eq!(&read_message(&mut socket).1[4..8], b"ftyp");
    assert_eq!(fragment(&read_message(&mut socket).1).0, 3600);
}

#[test]
fn websocket_fmp4_says_what_it_leaves_out() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(Some(Codec::G711A)));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    stage.hub.publish(sound(Codec::G711A, 0));
    stage.hub.publish(picture(1, None, 300));
    let mut stream = stage.watch(Output::WsFmp4);
    let (opcode, text) = read_message(&mut stream);
    assert_eq!(opcode, 0x81);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        r#"{"type":"init","codecs":"avc1.640028","video":"H264","width":1920,"height":1080,"audio":"G711A","audio_omitted":"G711A"}"#
    );
    let (opcode, init) = read_message(&mut stream);
    assert_eq!(opcode, 0x82);
    let tree = boxes(&init);
    assert_eq!(tree.iter().filter(|(path, _)| path == "/moov/trak").count(), 1);
    let (_, entry) = tree.iter().find(|(path, _)| path == "/moov/trak/mdia/minf/stbl/stsd").unwrap();
    assert_eq!(&entry[12..16], b"avc1");
    let (time, body) = fragment(&read_message(&mut stream).1);
    assert_eq!((time, body.len()), (0, 54));
    assert_eq!(&body[..5], &[0, 0, 0, 50, 0x65]);
    assert_eq!(fragment(&read_message(&mut stream).1), (3600, [&[0, 0, 1, 44, 0x41][..], &[2; 299]].concat()));
}

#[test]
fn aac_is_carried_in_both_containers() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(Some(Codec::Aac)));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    for index in 0..3 {
        stage.hub.publish(sound(Codec::Aac, index));
    }
    let mut flv = stage.watch(Output::HttpFlv);
    assert_eq!(read_flv_header(&mut flv), 5);
    read_tag(&mut flv);
    assert_eq!(read_tag(&mut flv).data, [0xaf, 0, 0x11, 0x90]);
    read_tag(&mut flv);
    let audio: Vec<_> = (0..3).map(|_| read_tag(&mut flv)).collect();
    assert_eq!(audio.iter().map(|tag| tag.milliseconds).collect::<Vec<_>>(), [0, 21, 42]);
    assert_eq!(audio[2].data, [0xaf, 1, 1, 2, 2]);
    let mut fmp4 = stage.watch(Output::HttpFmp4);
    let mut next = move || {
        let mut data = Vec::new();
        loop {
            let head = read_exact(&mut fmp4, 8);
            let size = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            data.extend_from_slice(&head);
            data.extend(read_exact(&mut fmp4, size - 8));
            if [&b"moov"[..], b"mdat"].contains(&&head[4..]) {
                return data;
            }
        }
    };
    let tree = boxes(&next());
    assert_eq!(tree.iter().filter(|(path, _)| path == "/moov/trak").count(), 2);
    assert_eq!(fragment(&next()).0, 0);
    assert_eq!((0..3).map(|_| fragment(&next()).0).collect::<Vec<_>>(), [0, 1024, 2048]);
}

#[test]
fn the_viewer_waits_for_the_first_picture() {
    let stage = Stage::new();
    let mut stream = stage.watch(Output::HttpFlv);
    assert_eq!(detail(&stage.event(EventKind::ViewerOpened), "output"), Value::Text("flv".to_owned()));
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, None, 50));
    stage.hub.publish(picture(1, Some(&SPS), 50));
    read_flv_header(&mut stream);
    assert_eq!(read_tag(&mut stream).data[1], 0);
    let first = read_tag(&mut stream);
    assert_eq!((first.milliseconds, first.data[0]), (0, 0x17));
}

#[test]
fn tickets_and_origins_are_refused_alike() {
    let stage = Stage::new();
    let refused = |path: &str, headers: &str| {
        let mut answer = Vec::new();
        stage.get(path, headers).read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    };
    let path = Output::HttpFlv.path(&stage.ticket(Output::HttpFlv));
    let foreign = refused(&path, "Origin: https://evil.example\r\n");
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    // A foreign page has not spent it.
    let head = read_head(&mut stage.get(&path, "Origin: https://console.example\r\n"));
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: https://console.example\r\n"), "{head}");
    assert_eq!(refused(&path, ""), foreign, "used");
    assert_eq!(refused(&Output::HttpFlv.path(&"a".repeat(32)), ""), foreign, "unknown");
    assert_eq!(refused("/live/short.flv", ""), foreign, "malformed");
    let other = stage.ticket(Output::WsFmp4);
    assert_eq!(refused(&Output::HttpFlv.path(&other), ""), foreign, "other output");
    let dead = Output::HttpFlv.path(&stage.ticket(Output::HttpFlv));
    stage.lease.end();
    assert_eq!(refused(&dead, ""), foreign, "lease over");
    assert_eq!(stage.outlet.stats.refused.load(Ordering::Relaxed), 6);
}

#[test]
fn a_cut_lease_ends_its_viewers_with_a_reason() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut socket = stage.watch(Output::WsFmp4);
    for _ in 0..3 {
        read_message(&mut socket);
    }
    let mut flv = stage.watch(Output::HttpFlv);
    read_flv_header(&mut flv);
    read_tag(&mut flv);
    read_tag(&mut flv);
    stage.outlet.cut(&"lea_1".into(), "revoked");
    assert!(stage.outlet.barrier(Duration::from_secs(5)));
    stage.hub.publish(picture(1, None, 50));
    assert_eq!(read_message(&mut socket), (0x88, [&[3, 240][..], b"revoked"].concat()));
    assert_eq!(flv.read(&mut [0; 16]).unwrap(), 0, "nothing after the cut");
    for _ in 0..2 {
        let closed = stage.event(EventKind::ViewerClosed);
        assert_eq!(detail(&closed, "reason"), Value::Text("revoked".to_owned()));
        assert_eq!(detail(&closed, "frames"), Value::Int(1));
    }
    let totals = stage.outlet.take_totals("lea_1");
    assert_eq!((totals.viewers, totals.counters.frames), (2, 2));
    assert_eq!(stage.hub.readers(), 0, "nobody reads, nothing is packaged");
}

#[test]
fn an_expired_lease_is_noticed_without_being_told() {
    let stage = Stage::new();
    let mut flv = stage.watch(Output::HttpFlv);
    stage.lease.end();
    assert_eq!(flv.read(&mut [0; 16]).unwrap(), 0);
    assert_eq!(detail(&stage.event(EventKind::ViewerClosed), "reason"), Value::Text("lease_expired".to_owned()));
}

#[test]
fn a_slow_reader_is_moved_to_a_key_picture_and_a_fast_one_loses_nothing() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut slow = stage.watch(Output::HttpFlv);
    let mut fast = stage.watch(Output::HttpFlv);
    read_flv_header(&mut fast);
    read_tag(&mut fast);
    read_tag(&mut fast);
    // Far more than the sockets and the ring hold; a key picture every 10.
    for index in 1..400 {
        let key = (index % 10 == 0).then_some(&SPS[..]);
        stage.hub.publish(picture(index, key, 100_000));
        let tag = read_tag(&mut fast);
        assert_eq!(tag.milliseconds as i64, index * 40);
    }
    read_flv_header(&mut slow);
    assert_eq!(read_tag(&mut slow).data[1], 0);
    let (mut last, mut got, mut jumps) = (0, 1, 0);
    assert_eq!(read_tag(&mut slow).milliseconds, 0);
    while last < 399 * 40 {
        let tag = read_tag(&mut slow);
        if tag.milliseconds != last + 40 {
            assert_eq!(tag.data[0], 0x17, "after a gap comes a key picture");
            jumps += 1;
        }
        last = tag.milliseconds;
        got += 1;
    }
    assert!(jumps >= 1 && got < 400, "{jumps} jumps, {got} pictures");
    assert_eq!(stage.outlet.stats.dropped.load(Ordering::Relaxed), 400 - got);
}

#[test]
fn pings_are_answered_and_a_close_is_returned() {
    let stage = Stage::new();
    let mut socket = stage.watch(Output::WsFmp4);
    socket.write_all(&[0x89, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).unwrap();
    assert_eq!(read_message(&mut socket), (0x8a, b"hi".to_vec()));
    socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(read_message(&mut socket), (0x88, [&[3, 232][..], b"viewer_left"].concat()));
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    let mut unmasked = stage.watch(Output::WsFmp4);
    unmasked.write_all(&[0x89, 0]).unwrap();
    assert_eq!(read_message(&mut unmasked).1[..2], [3, 234], "protocol error");
}

#[test]
fn the_end_of_the_stream_closes_the_viewer() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut socket = stage.watch(Output::WsFmp4);
    for _ in 0..3 {
        read_message(&mut socket);
    }
    stage.hub.end("source_bye");
    assert_eq!(read_message(&mut socket).1, [&[3, 233][..], b"source_bye"].concat());
}

#[test]
fn whoever_talks_too_much_is_cut_and_the_others_go_on() {
    let stage = Stage::new();
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    let mut calm = stage.watch(Output::HttpFlv);
    read_flv_header(&mut calm);
    read_tag(&mut calm);
    read_tag(&mut calm);
    let mut flood = stage.watch(Output::HttpFlv);
    let mut socket = stage.watch(Output::WsFmp4);
    let noise = vec![b'x'; 1 << 20];
    // Written until the server hangs up.
    while flood.write_all(&noise).is_ok() {}
    while socket.write_all(&noise).is_ok() {}
    for _ in 0..2 {
        assert_eq!(detail(&stage.event(EventKind::ViewerClosed), "reason"), Value::Text("protocol_error".to_owned()));
    }
    stage.hub.publish(picture(1, None, 50));
    assert_eq!(read_tag(&mut calm).milliseconds, 40);
}

#[test]
fn an_unfinished_request_gives_way_to_others() {
    let stage = Stage::new();
    let mut first = std::net::TcpStream::connect(("127.0.0.1", stage.server.port())).unwrap();
    first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    first.write_all(b"GET /live/").unwrap();
    // As many again as may wait: the first is pushed out long before its five seconds are over.
    let others: Vec<_> =
        (0..1024).map(|_| std::net::TcpStream::connect(("127.0.0.1", stage.server.port())).unwrap()).collect();
    assert_eq!(first.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut flv = stage.watch(Output::HttpFlv);
    stage.hub.set_tracks(tracks(None));
    stage.hub.publish(picture(0, Some(&SPS), 50));
    read_flv_header(&mut flv);
    drop(others);
}

#[test]
fn announced_sound_that_never_comes_holds_the_picture_for_a_moment_only() {
    let stage = Stage::new();
    let mut flv = stage.watch(Output::HttpFlv);
    stage.hub.set_tracks(gbmedia::types::Tracks { settled: false, ..tracks(None) });
    stage.hub.publish(picture(0, Some(&SPS), 50));
    assert_eq!(read_flv_header(&mut flv), 1);
    read_tag(&mut flv);
    assert_eq!(read_tag(&mut flv).data[1], 1);
    // It comes after all: the next key picture brings its header.
    stage.hub.set_tracks(tracks(Some(Codec::Aac)));
    stage.hub.publish(sound(Codec::Aac, 1));
    stage.hub.publish(picture(1, Some(&SPS), 50));
    stage.hub.publish(sound(Codec::Aac, 2));
    let kinds: Vec<_> = (0..4).map(|_| read_tag(&mut flv)).map(|tag| (tag.kind, tag.data[1])).collect();
    assert_eq!(kinds, [(9, 0), (8, 0), (9, 1), (8, 1)]);
}
