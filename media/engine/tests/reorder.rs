//! Reorder window: in order without delay, every permutation inside the bounds, loss, duplicates, restarts (MED-09).

use gbmedia::reorder::{Ordered, Reorder, ReorderLimits, ReorderStats};
use gbmedia::rtp::Rtp;

const LIMITS: ReorderLimits =
    ReorderLimits { packets: 512, bytes: 1 << 20, first_wait_us: 100_000, most_wait_us: 200_000 };

struct Bench {
    window: Reorder,
    now: u64,
    out: Vec<(u16, u32)>,
}

impl Bench {
    fn new(reliable: bool) -> Self {
        Self { window: Reorder::new(LIMITS, reliable), now: 1_000_000, out: Vec::new() }
    }

    fn push(&mut self, seq: u16) {
        let payload = seq.to_be_bytes();
        let rtp = Rtp { marker: false, payload_type: 96, seq, timestamp: 0, ssrc: 1, payload: &payload };
        let out = &mut self.out;
        self.window.push(&rtp, self.now, &mut |packet: Ordered<'_>| {
            out.push((u16::from_be_bytes(packet.payload.try_into().unwrap()), packet.lost));
        });
    }

    fn pass(&mut self, micros: u64) {
        self.now += micros;
        let out = &mut self.out;
        self.window.flush(self.now, &mut |packet: Ordered<'_>| {
            out.push((u16::from_be_bytes(packet.payload.try_into().unwrap()), packet.lost));
        });
    }

    fn seqs(&self) -> Vec<u16> {
        self.out.iter().map(|entry| entry.0).collect()
    }
}

#[test]
fn in_order_packets_pass_at_once_through_the_wrap() {
    let mut bench = Bench::new(false);
    for step in 0..70_000_u32 {
        let seq = 65_000_u16.wrapping_add(step as u16);
        bench.push(seq);
        assert_eq!(bench.out.pop(), Some((seq, 0)));
        assert_eq!(bench.window.deadline_us(), None);
    }
    assert_eq!(bench.window.stats(), ReorderStats::default());
}

#[test]
fn every_permutation_of_six_comes_out_in_order() {
    let first = 65_533_u16; // across the wrap
    for number in 0..720_usize {
        let (mut left, mut rest, mut order) = ((1..=6).collect::<Vec<u16>>(), number, Vec::new());
        for size in (1..=6).rev() {
            order.push(left.remove(rest % size));
            rest /= size;
        }
        let mut bench = Bench::new(false);
        bench.push(first);
        order.iter().for_each(|offset| bench.push(first.wrapping_add(*offset)));
        let expected: Vec<(u16, u32)> = (0..=6).map(|offset| (first.wrapping_add(offset), 0)).collect();
        assert_eq!(bench.out, expected, "{order:?}");
        assert_eq!(bench.window.held_bytes(), 0);
    }
}

#[test]
fn gap_is_given_up_after_the_wait_and_counted() {
    let mut bench = Bench::new(false);
    [1, 2, 5, 6, 8].into_iter().for_each(|seq| bench.push(seq));
    assert_eq!(bench.seqs(), [1, 2]);
    assert_eq!(bench.window.deadline_us(), Some(bench.now + LIMITS.first_wait_us));
    bench.pass(LIMITS.first_wait_us - 1);
    assert_eq!(bench.seqs(), [1, 2]);
    bench.pass(1);
    assert_eq!(bench.out, [(1, 0), (2, 0), (5, 2), (6, 0), (8, 1)]);
    assert_eq!(bench.window.stats().lost, 3);
    assert_eq!(bench.window.deadline_us(), None);
}

#[test]
fn second_gap_has_a_wait_of_its_own() {
    let mut bench = Bench::new(false);
    [1, 3].into_iter().for_each(|seq| bench.push(seq));
    bench.pass(60_000);
    bench.push(5);
    bench.pass(40_000);
    assert_eq!(bench.seqs(), [1, 3]);
    assert_eq!(bench.window.deadline_us(), Some(bench.now + 60_000));
    bench.push(4);
    assert_eq!(bench.seqs(), [1, 3, 4, 5]);
}

#[test]
fn wait_grows_to_the_bound_when_packets_turn_up_late() {
    let mut bench = Bench::new(false);
    [1, 3].into_iter().for_each(|seq| bench.push(seq));
    bench.pass(100_000);
    bench.push(2);
    assert_eq!((bench.window.stats().late, bench.seqs()), (1, vec![1, 3]));
    [5, 6].into_iter().for_each(|seq| bench.push(seq));
    assert_eq!(bench.window.deadline_us(), Some(bench.now + LIMITS.most_wait_us));
}

#[test]
fn duplicates_are_dropped_wherever_they_are() {
    let mut bench = Bench::new(false);
    [1, 1, 3, 3, 2, 3, 4].into_iter().for_each(|seq| bench.push(seq));
    assert_eq!(bench.seqs(), [1, 2, 3, 4]);
    assert_eq!((bench.window.stats().duplicates, bench.window.stats().reordered), (3, 1));
}

#[test]
fn memory_is_bounded_by_packets_and_bytes() {
    let mut window = Reorder::new(ReorderLimits { bytes: 10_000, ..LIMITS }, false);
    let payload = [0_u8; 1_000];
    for seq in (0..400).step_by(2) {
        let rtp = Rtp { marker: false, payload_type: 96, seq, timestamp: 0, ssrc: 1, payload: &payload };
        window.push(&rtp, 0, &mut |_| ());
        assert!(window.held_bytes() <= 10_000);
    }
    let mut bench = Bench::new(false);
    (0..2_000_u16).filter(|seq| seq % 500 != 1).for_each(|seq| bench.push(seq));
    assert!(bench.window.held_bytes() <= 2 * (LIMITS.packets + 1));
}

#[test]
fn sender_that_begins_anew_is_followed_after_two_packets() {
    for restart in [20_000_u16, 40_000, 700, 200] {
        let mut bench = Bench::new(false);
        (0..1_000).for_each(|seq| bench.push(1_000 + seq));
        bench.out.clear();
        (0..100).for_each(|step| bench.push(restart + step));
        assert!(bench.seqs().ends_with(&[restart + 98, restart + 99]), "{restart}");
        assert!(bench.out[0].1 >= 1, "the break is marked");
        assert_eq!(bench.window.stats().restarts, 1);
    }
}

#[test]
fn sender_that_begins_anew_a_little_behind_is_followed() {
    let mut bench = Bench::new(false);
    (0..1_000).for_each(|seq| bench.push(seq));
    bench.out.clear();
    (0..400).for_each(|step| bench.push(600 + step));
    assert!(bench.out.len() > 300);
    assert_eq!(bench.seqs().last(), Some(&999));
}

#[test]
fn stray_packet_from_far_away_changes_nothing() {
    let mut bench = Bench::new(false);
    [1, 2, 30_000, 3, 4, 50_000, 5].into_iter().for_each(|seq| bench.push(seq));
    assert_eq!(bench.out, [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
}

#[test]
fn stream_transport_never_waits() {
    let mut bench = Bench::new(true);
    [1, 2, 5, 6, 30_000, 30_001].into_iter().for_each(|seq| bench.push(seq));
    assert_eq!(bench.out, [(1, 0), (2, 0), (5, 2), (6, 0), (30_000, 1), (30_001, 0)]);
    assert_eq!(bench.window.deadline_us(), None);
}
