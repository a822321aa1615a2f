//! Lost, reordered and duplicated packets, lying markers, and when pictures are released (MED-09, MED-10, MED-12).

mod common;

use common::*;
use gbmedia::frames::LossPolicy;
use gbmedia::framing::Framer;
use gbmedia::rtp;
use gbmedia::stream::Stream;
use gbmedia::types::{Codec, Track};
use std::ops::ControlFlow;

fn camera() -> Camera {
    Camera { key_size: 9_000, size: 3_000, ..Camera::new(Codec::H264) }
}

/// Every picture that came out is one that was sent, whole.
fn assert_whole(received: &Received, camera: &Camera) {
    for unit in received.of(Track::Video) {
        let number = number_of(&unit.data);
        assert!(unit.data[..] == camera.es(number)[..], "picture {number} is torn");
    }
    let video = received.of(Track::Video);
    assert!(video.windows(2).all(|pair| pair[0].dts < pair[1].dts));
}

#[test]
fn every_single_loss_costs_one_picture_or_the_group_if_it_was_the_key() {
    every_single_loss(&camera());
    // Several PES packets in a picture: what follows the loss looks like a beginning, but is none.
    every_single_loss(&Camera { pes_payload: 700, ..camera() });
    every_single_loss(&Camera { pes_payload: 700, slices: 4, size: 1_000, ..camera() });
    every_single_loss(&Camera { pes_length: Some(0), sound: 0, ..camera() });
}

fn every_single_loss(camera: &Camera) {
    let packets = camera.rtp(0..30, 0);
    for missing in 1..packets.len() {
        let mut received = Received::new(false);
        let mut sent = packets.clone();
        let time = rtp::parse(&sent.remove(missing)).unwrap().timestamp;
        received.feed(&sent);
        received.pass_ms(500);
        assert_whole(&received, camera);
        let torn = time / 3_600;
        let numbers = received.numbers();
        let expected: Vec<u32> = match (torn % camera.gop, torn) {
            // The last packet of the last picture: nothing comes behind it to show the gap.
            (_, 29) if missing + 1 == packets.len() => (0..29).collect(),
            (0, _) => (0..30).filter(|number| *number < torn || *number >= torn + camera.gop).collect(),
            _ => (0..30).filter(|number| *number != torn).collect(),
        };
        // A lost key picture can be told from an ordinary one unless its first packet was lost: then it goes on.
        let first_lost = packets[missing][12..16] == [0, 0, 1, 0xBA];
        let lenient: Vec<u32> = (0..30).filter(|number| *number != torn).collect();
        assert!(
            numbers == expected || (first_lost && numbers == lenient),
            "packet {missing}, picture {torn}: {numbers:?}"
        );
        if missing + 1 < packets.len() {
            assert_eq!(received.stream.reorder_stats().lost, 1);
            let after = received.of(Track::Video).into_iter().find(|unit| number_of(&unit.data) > torn);
            assert!(after.is_none_or(|unit| unit.discontinuity), "the break is flagged");
        }
    }
}

#[test]
fn five_percent_loss_and_reordering_by_three_recover_at_key_pictures() {
    let camera = Camera { key_size: 2_000, size: 600, ..Camera::new(Codec::H264) };
    let mut noise = Noise(42);
    let mut received = Received::new(false);
    let mut packets = camera.rtp(0..500, 65_000);
    let sent = packets.len();
    packets.retain(|_| noise.below(20) != 0);
    let lost = sent - packets.len();
    for at in 0..packets.len() - 3 {
        if noise.below(10) == 0 {
            let packet = packets.remove(at);
            packets.insert(at + 3, packet);
        }
    }
    received.feed(&packets);
    received.pass_ms(500);
    assert_whole(&received, &camera);
    let stats = received.stream.reorder_stats();
    assert!(stats.reordered > 20 && stats.lost.abs_diff(lost as u64) <= 3, "{stats:?} for {lost}");
    let count = received.numbers().len();
    assert!(count > 350, "only {count} of 500 pictures");
    let keys = received.of(Track::Video).iter().filter(|unit| unit.key).count();
    assert!(keys > 35, "only {keys} of 50 key pictures");
}

#[test]
fn reordering_alone_loses_nothing() {
    let camera = camera();
    let mut packets = camera.rtp(0..60, 65_400);
    let mut noise = Noise(7);
    for at in 1..packets.len() - 8 {
        if noise.below(4) == 0 {
            let packet = packets.remove(at);
            packets.insert(at + 1 + noise.below(7), packet);
        }
    }
    let mut received = Received::new(false);
    received.feed(&packets);
    received.pass_ms(500);
    assert_eq!(received.numbers(), (0..60).collect::<Vec<_>>());
    assert_whole(&received, &camera);
}

#[test]
fn duplicates_change_nothing() {
    let camera = camera();
    let packets: Vec<_> = camera.rtp(0..30, 0).into_iter().flat_map(|packet| [packet.clone(), packet]).collect();
    let mut received = Received::new(false);
    received.feed(&packets);
    assert_pictures(&received, &camera, 0..30);
}

#[test]
fn until_key_policy_waits_for_the_key() {
    let camera = camera();
    let mut packets = camera.rtp(0..30, 0);
    let torn = packets.iter().position(|packet| rtp::parse(packet).unwrap().timestamp == 13 * 3_600).unwrap();
    packets.remove(torn);
    let mut received = Received::new(false);
    received.stream = Stream::new(false, LossPolicy::UntilKey);
    received.feed(&packets);
    received.pass_ms(500);
    assert_eq!(received.numbers(), (0..13).chain(20..30).collect::<Vec<_>>());
}

#[test]
fn picture_leaves_with_its_marker_or_with_the_next_time_stamp() {
    for markers in [true, false] {
        let camera = Camera { markers, sound: 0, ..camera() };
        let packets = camera.rtp(0..12, 0);
        let mut received = Received::new(false);
        for packet in &packets {
            let rtp = rtp::parse(packet).unwrap();
            let number = rtp.timestamp / 3_600;
            received.feed(std::slice::from_ref(packet));
            let whole = if rtp.marker { number + 1 } else { number };
            assert_eq!(received.numbers().len(), whole as usize, "markers {markers}, picture {number}");
        }
    }
}

#[test]
fn markers_on_every_packet_are_found_out() {
    let camera = camera();
    let mut packets = camera.rtp(0..30, 0);
    packets.iter_mut().for_each(|packet| packet[1] |= 0x80);
    let mut received = Received::new(false);
    received.feed(&packets);
    assert_eq!(received.stream.frame_stats().false_markers, 0, "a bounded PES in progress is not ended by a marker");
    assert_pictures(&received, &camera, 0..30);
    let open = Camera { pes_length: Some(0), sound: 0, ..camera };
    let mut packets = open.rtp(0..30, 0);
    packets.iter_mut().for_each(|packet| packet[1] |= 0x80);
    let mut received = Received::new(false);
    received.feed(&packets);
    assert_eq!(received.stream.frame_stats().false_markers, 1);
    let numbers = received.numbers();
    assert!(numbers.ends_with(&(20..29).collect::<Vec<_>>()), "{numbers:?}");
}

#[test]
fn dead_time_stamps_leave_pts_and_packs() {
    // RTP time stamp constant: PTS, or the marker, or at last the pack header, divide the pictures.
    let constant = Camera { constant_rtp: true, sound: 0, ..camera() };
    let by_pts = Camera { markers: false, ..constant.clone() };
    assert_pictures(&receive(&by_pts, 40), &by_pts, 0..39);
    let by_marker = Camera { no_pts: true, ..constant.clone() };
    assert_pictures(&receive(&by_marker, 40), &by_marker, 0..40);
    let by_pack = Camera { no_pts: true, markers: false, ..constant };
    let numbers = receive(&by_pack, 60).numbers();
    assert!(numbers.ends_with(&(40..59).collect::<Vec<_>>()), "{numbers:?}");
}

#[test]
fn time_stamp_per_packet_is_found_out() {
    let camera = Camera { sound: 0, ..camera() };
    let mut packets = camera.rtp(0..40, 0);
    for (index, packet) in packets.iter_mut().enumerate() {
        packet[4..8].copy_from_slice(&(index as u32 * 1_200).to_be_bytes());
    }
    let mut received = Received::new(false);
    received.feed(&packets);
    assert_pictures(&received, &camera, 0..40);
}

#[test]
fn program_stream_cut_at_every_byte_and_into_single_bytes() {
    let camera = Camera { size: 150, key_size: 150, gop: 2, ..Camera::new(Codec::H264) };
    let whole: Vec<Vec<u8>> = (0..4).map(|number| camera.ps(number)).collect();
    let play = |cut: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
        let mut received = Received::new(true);
        let mut seq = 0_u16;
        for (number, ps) in (0..).zip(&whole) {
            let pieces = cut(ps);
            let count = pieces.len();
            for (index, piece) in pieces.iter().enumerate() {
                received.feed(&[rtp_packet(96, seq, number * 3_600, SSRC, index + 1 == count, piece)]);
                seq += 1;
            }
        }
        received
    };
    let longest = whole.iter().map(Vec::len).max().unwrap();
    let sound = |received: &Received| received.of(Track::Audio).iter().all(|unit| unit.data[..] == [0xD5; 320]);
    for at in 1..longest {
        let received = play(&|ps| {
            let (head, tail) = ps.split_at(at.min(ps.len() - 1));
            vec![head.to_vec(), tail.to_vec()]
        });
        assert_pictures(&received, &camera, 0..4);
        assert!(received.of(Track::Audio).len() == 4 && sound(&received), "cut at {at}");
    }
    for size in 1..40 {
        let received = play(&|ps| ps.chunks(size).map(<[u8]>::to_vec).collect());
        assert_pictures(&received, &camera, 0..4);
        assert!(received.of(Track::Audio).len() == 4 && sound(&received), "pieces of {size}");
    }
}

#[test]
fn tcp_in_single_bytes_gives_every_picture() {
    let camera = camera();
    let stream: Vec<u8> = camera
        .rtp(0..12, 0)
        .iter()
        .flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat())
        .collect();
    for size in [1, 2, 3, 1_400, 70_000] {
        let (mut framer, mut received) = (Framer::new(), Received::new(true));
        for piece in stream.chunks(size) {
            let outcome = framer.receive(piece, |framer, packet| {
                framer.bind(SSRC);
                received.feed(&[packet.to_vec()]);
                ControlFlow::Continue(())
            });
            outcome.unwrap();
        }
        assert_pictures(&received, &camera, 0..12);
    }
}

#[test]
fn corrupt_tcp_length_costs_pictures_but_not_the_connection() {
    let camera = camera();
    let packets = camera.rtp(0..60, 0);
    let mut stream: Vec<u8> =
        packets.iter().flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat()).collect();
    let at = packets[..20].iter().map(|packet| packet.len() + 2).sum::<usize>();
    stream[at] ^= 0x40;
    let (mut framer, mut received) = (Framer::new(), Received::new(true));
    for piece in stream.chunks(1_460) {
        let outcome = framer.receive(piece, |framer, packet| {
            framer.bind(SSRC);
            if framer.take_broken() {
                received.stream.broken();
            }
            received.feed(&[packet.to_vec()]);
            ControlFlow::Continue(())
        });
        outcome.unwrap();
    }
    assert_whole(&received, &camera);
    let numbers = received.numbers();
    assert!(numbers.ends_with(&(40..60).collect::<Vec<_>>()) && framer.resyncs() > 0, "{numbers:?}");
}
