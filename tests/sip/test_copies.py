"""Copies of datagrams: answered again without being parsed, for a while, within bounds."""

from __future__ import annotations

from sipserver.protocol.copies import Copies
from sipserver.protocol.endpoint import RequestReceived

from .harness import START, events_of, make_endpoint, only, udp_flow
from .test_codec import message


def test_a_copy_gets_the_same_answer_and_is_not_seen_again() -> None:
    endpoint = make_endpoint()
    data = message("REGISTER")
    endpoint.receive(data, udp_flow(), now=START)
    event = only(events_of(endpoint), RequestReceived)
    endpoint.receive(data, udp_flow(), now=START + 0.5)
    assert endpoint.datagrams_to_send(now=START) == [], "the answer is under way"
    endpoint.respond(event.transaction, 401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n"')], now=START)
    [(first, _)] = endpoint.datagrams_to_send(now=START)
    endpoint.receive(data, udp_flow(), now=START + 1.5)
    assert endpoint.datagrams_to_send(now=START) == [(first, udp_flow())]
    assert events_of(endpoint) == []
    assert endpoint.counters["retransmissions"] == 2


def test_another_sender_or_a_changed_octet_is_no_copy() -> None:
    endpoint = make_endpoint()
    data = message("REGISTER")
    stranger = udp_flow(("192.0.2.99", 5060))
    for given, flow in ((data, udp_flow()), (data, stranger), (data.replace(b"Max-Forwards: 70", b""), udp_flow())):
        endpoint.receive(given, flow, now=START)
    assert len(events_of(endpoint)) >= 2


def test_after_a_while_a_copy_is_left_to_its_transaction() -> None:
    copies = Copies()
    copies.keep(1, b"x", now=START)
    assert copies.answer(1, now=START + 7.9) == b"x"
    assert copies.answer(1, now=START + 8.0) is None


def test_bounded_in_number_and_size() -> None:
    copies = Copies(limit=100)
    for number in range(10_000):
        copies.keep(number, b"", now=START)
        copies.keep(number, b"x", now=START)
    assert len(copies) <= 200
    copies.keep(10_001, b"x" * 3_000, now=START)
    assert copies.answer(10_001, now=START) is None
    copies.keep(10_002, b"x", now=START + 60)
    assert len(copies) == 1
