//! The acceptance rule as a matrix: source × SSRC × before/after the pin × way in (row M3, MED-18).

use gbmedia::accept::{Acceptor, Reason, SOURCE_LIMIT, Verdict, Via};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const RIGHT: u32 = 100_000_001;
const GENUINE: &str = "192.0.2.10:5000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn acceptor(via: Via, pinned: bool) -> Acceptor {
    let tcp = matches!(via, Via::SharedTcp(_) | Via::PrivateTcp(_));
    let sources = ["192.0.2.10".parse().unwrap(), "192.0.2.11".parse().unwrap()];
    let mut acceptor = Acceptor::new(RIGHT, tcp, &sources);
    if pinned {
        assert_eq!(acceptor.check(address(GENUINE), RIGHT, via), Verdict::Pinned);
    }
    acceptor
}

/// What the rule demands, written down independently of the code.
fn demanded(from: &str, ssrc: u32, pinned: bool, via: Via) -> bool {
    let listed = from.starts_with("192.0.2.10:") || from.starts_with("192.0.2.11:");
    let private = matches!(via, Via::PrivateUdp | Via::PrivateTcp(_));
    let right = ssrc == RIGHT || (private && !pinned);
    listed && right && (!pinned || from == GENUINE)
}

#[test]
fn matrix() {
    let ways = [Via::SharedUdp, Via::PrivateUdp, Via::SharedTcp(7), Via::PrivateTcp(7)];
    let sources = [GENUINE, "192.0.2.10:5001", "192.0.2.11:5000", "198.51.100.1:5000", "[::ffff:192.0.2.10]:5000"];
    let mut cells = 0;
    for via in ways {
        for from in sources {
            for ssrc in [RIGHT, 0, RIGHT + 1] {
                for pinned in [false, true] {
                    let mut acceptor = acceptor(via, pinned);
                    let before = acceptor.pin();
                    let verdict = acceptor.check(address(from), ssrc, via);
                    let plain = from.replace("[::ffff:192.0.2.10]", "192.0.2.10");
                    let accepted = matches!(verdict, Verdict::Accept | Verdict::Pinned);
                    assert_eq!(accepted, demanded(&plain, ssrc, pinned, via), "{from} {ssrc} {pinned} {via:?}");
                    if pinned || !accepted {
                        assert_eq!(acceptor.pin(), before, "nothing is learnt: {from} {ssrc} {via:?}");
                    }
                    cells += 1;
                }
            }
        }
    }
    assert_eq!(cells, 120);
}

#[test]
fn reasons_are_named() {
    let mut rule = acceptor(Via::SharedUdp, true);
    let mut check = |from: &str, ssrc, via| rule.check(address(from), ssrc, via);
    assert_eq!(check("198.51.100.1:5000", RIGHT, Via::SharedUdp), Verdict::Reject(Reason::Source));
    assert_eq!(check(GENUINE, 0, Via::SharedUdp), Verdict::Reject(Reason::Ssrc));
    assert_eq!(check("192.0.2.11:5000", RIGHT, Via::SharedUdp), Verdict::Reject(Reason::Conflict));
    assert_eq!(check(GENUINE, RIGHT, Via::SharedTcp(1)), Verdict::Reject(Reason::Transport));
    let mut rule = acceptor(Via::PrivateUdp, true);
    assert_eq!(rule.check(address(GENUINE), 5, Via::PrivateUdp), Verdict::Reject(Reason::SsrcChanged));
    let mut rule = acceptor(Via::SharedTcp(1), true);
    assert_eq!(rule.check(address(GENUINE), RIGHT, Via::SharedTcp(2)), Verdict::Reject(Reason::Conflict));
}

#[test]
fn pin_moves_only_with_signalling() {
    let mut rule = acceptor(Via::SharedUdp, true);
    let moved = address("192.0.2.10:6000");
    assert!(!rule.set_ssrc(RIGHT), "the same SSRC is no new signalling");
    assert_eq!(rule.check(moved, RIGHT, Via::SharedUdp), Verdict::Reject(Reason::Conflict));
    assert!(rule.set_ssrc(RIGHT + 1));
    assert_eq!(rule.check(moved, RIGHT, Via::SharedUdp), Verdict::Reject(Reason::Ssrc));
    assert_eq!(rule.check(moved, RIGHT + 1, Via::SharedUdp), Verdict::Pinned);
}

#[test]
fn nothing_listed_means_nothing_accepted_and_the_list_is_bounded() {
    let mut rule = Acceptor::new(RIGHT, false, &[]);
    assert_eq!(rule.check(address(GENUINE), RIGHT, Via::PrivateUdp), Verdict::Reject(Reason::Source));
    let source = |number: usize| IpAddr::V4(Ipv4Addr::new(10, 0, 0, number as u8));
    assert!((0..SOURCE_LIMIT).all(|number| rule.add_source(source(number))));
    assert!(rule.add_source(source(0)), "again the same is no new one");
    assert!(!rule.add_source(source(99)));
}
