"""The endpoint outside dialogs: answers, copies of requests, flows, limits, clients."""

from __future__ import annotations

import pytest

from sipserver.protocol.codec import parse_datagram
from sipserver.protocol.endpoint import (
    Flow,
    InviteCancelled,
    Limits,
    ProtocolFault,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.message import Response, Uri

from .harness import (
    CAMERA,
    PLATFORM,
    START,
    Wire,
    events_of,
    make_endpoint,
    only,
    responses_in,
    sent_by,
    tcp_flow,
    udp_flow,
)
from .test_codec import CASES, message

TARGET = Uri(user=CAMERA.value, host="192.0.2.10", port=5060)


def answers_to(data: bytes, flow: Flow | None = None) -> list[Response]:
    endpoint = make_endpoint()
    endpoint.receive(data, flow or udp_flow(), now=START)
    return responses_in(sent_by(endpoint))


@pytest.mark.parametrize("flow", [udp_flow(), tcp_flow()], ids=["udp", "tcp"])
def test_answers_go_back_where_the_request_came_from(flow: Flow) -> None:
    endpoint = make_endpoint()
    endpoint.receive(message(), flow, now=START)
    event = only(events_of(endpoint), RequestReceived)
    assert event.flow == flow
    endpoint.respond(event.transaction, 200, now=START)
    [(data, to)] = endpoint.datagrams_to_send(now=START)
    assert to == flow, "never to what Via says"
    response = parse_datagram(data)
    assert response.via_top.param("received") == flow.remote[0]
    assert response.via_top.param("rport") == str(flow.remote[1])
    assert response.to.tag
    assert (response.call_id, response.cseq) == ("c-z9hG4bK1", (20, "MESSAGE"))
    assert response.body == b""


@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_a_repeated_request_is_executed_once_and_answered_again(stream: bool) -> None:
    endpoint = make_endpoint()
    flow = tcp_flow() if stream else udp_flow()
    endpoint.receive(message(), flow, now=START)
    endpoint.receive(message(), flow, now=START + 0.5)
    event = only(events_of(endpoint), RequestReceived)
    assert endpoint.datagrams_to_send(now=START) == [], "not answered yet, so nothing to repeat"
    endpoint.respond(event.transaction, 200, now=START + 1)
    first = endpoint.datagrams_to_send(now=START + 1)
    for later in (1.5, 4, 30):
        endpoint.receive(message(), flow, now=START + later)
        assert endpoint.datagrams_to_send(now=START + later) == first
    assert events_of(endpoint) == []
    endpoint.handle_timeout(now=START + 34)
    assert endpoint.load()["server_transactions"] == 0


def test_repeated_request_on_a_new_connection_is_answered_there() -> None:
    endpoint = make_endpoint()
    endpoint.receive(message(), tcp_flow(1), now=START)
    event = only(events_of(endpoint), RequestReceived)
    endpoint.connection_lost(tcp_flow(1), now=START)
    endpoint.respond(event.transaction, 200, now=START)
    endpoint.datagrams_to_send(now=START)
    other = Flow("tcp", ("192.0.2.10", 41000), ("192.0.2.1", 5060), 2)
    endpoint.receive(message(), other, now=START + 1)
    assert [flow for _, flow in endpoint.datagrams_to_send(now=START + 1)] == [other]
    assert events_of(endpoint) == []


def test_constant_branch_does_not_hide_new_requests() -> None:
    endpoint = make_endpoint()
    first = message()
    second = first.replace(b"CSeq: 20", b"CSeq: 21")
    third = first.replace(b"c-z9hG4bK1", b"c-other")
    for data in (first, second, third, first):
        endpoint.receive(data, udp_flow(), now=START)
    assert len(events_of(endpoint)) == 3


def test_requests_without_branch_are_recognised_by_call_id_and_cseq() -> None:
    endpoint = make_endpoint()
    old = message().replace(b";branch=z9hG4bK1", b"").replace(b";tag=1", b"")
    endpoint.receive(old, udp_flow(), now=START)
    endpoint.receive(old, udp_flow(), now=START + 1)
    only(events_of(endpoint), RequestReceived)
    endpoint.receive(old, udp_flow(("192.0.2.99", 5060)), now=START + 1)
    only(events_of(endpoint), RequestReceived)


def test_401_leaves_nothing_behind() -> None:
    endpoint = make_endpoint()
    for attempt in range(3):
        endpoint.receive(message("REGISTER"), udp_flow(), now=START + 10 * attempt)
        event = only(events_of(endpoint), RequestReceived)
        endpoint.respond(
            event.transaction, 401, headers=[("WWW-Authenticate", 'Digest realm="r", nonce="n"')], now=START
        )
        [response] = responses_in(sent_by(endpoint))
        assert response.headers.get("WWW-Authenticate") == 'Digest realm="r", nonce="n"'
        assert endpoint.load()["server_transactions"] == 0
        assert endpoint.next_timeout() is None


def test_401_is_not_much_longer_than_the_request() -> None:
    request = message("REGISTER", extra="Contact: <sip:34020000001320000001@192.0.2.10:5060>\r\nExpires: 3600\r\n")
    endpoint = make_endpoint()
    endpoint.receive(request, udp_flow(), now=START)
    event = only(events_of(endpoint), RequestReceived)
    challenge = f'Digest realm="3402000000", nonce="{"0" * 54}", algorithm=MD5'
    endpoint.respond(event.transaction, 401, headers=[("WWW-Authenticate", challenge)], now=START)
    [(data, _)] = endpoint.datagrams_to_send(now=START)
    assert len(data) <= 1.2 * len(request), "or we are an amplifier for spoofed packets"


@pytest.mark.parametrize(
    ("method", "extra", "status", "header"),
    [
        ("OPTIONS", "", 200, "Allow"),
        ("OPTIONS", "Require: x\r\nRequire: y\r\n", 420, "Unsupported"),
        ("MESSAGE", "Require: 100rel\r\n", 420, "Unsupported"),
        ("PUBLISH", "", 405, "Allow"),
        ("FROBNICATE", "", 501, "Allow"),
    ],
)
def test_what_the_core_answers_by_itself(method: str, extra: str, status: int, header: str) -> None:
    endpoint = make_endpoint()
    endpoint.receive(message(method, extra=extra), udp_flow(), now=START)
    [response] = responses_in(sent_by(endpoint))
    assert response.status == status
    assert response.headers.get(header)
    assert not any(isinstance(event, RequestReceived) for event in events_of(endpoint))
    assert endpoint.load()["server_transactions"] == 0
    if header == "Allow":
        allowed = {part.strip() for part in (response.headers.get("Allow") or "").split(",")}
        assert {"INVITE", "ACK", "INFO", "CANCEL", "BYE", "OPTIONS", "MESSAGE"} <= allowed


def test_foreign_scheme_is_416() -> None:
    data = message("OPTIONS").replace(b"sip:34020000002000000001@3402000000 ", b"soap.beep://192.0.2.103:3002 ", 1)
    assert [response.status for response in answers_to(data)] == [416]


@pytest.mark.parametrize(("data", "reason", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_malformed_requests_get_their_answer_and_a_fault(data: bytes, reason: str, status: int | None) -> None:
    endpoint = make_endpoint()
    endpoint.receive(data, udp_flow(), now=START)
    sent = endpoint.datagrams_to_send(now=START)
    events = events_of(endpoint)
    if data.strip():
        fault = only(events, ProtocolFault)
        assert fault.error.reason == reason
        answered = status is not None and b"\r\nVia:" in data
        assert fault.status_sent == (status if answered else None)
        assert len(sent) == answered
        assert all(answer.startswith(b"SIP/2.0 %d " % (status or 0)) for answer, _ in sent)
    else:
        assert (events, sent) == ([], []), "keep-alives are no fault"
    assert endpoint.load()["server_transactions"] == 0


def test_malformed_acks_and_responses_are_never_answered() -> None:
    assert answers_to(message("ACK").replace(b"From:", b"X:")) == []
    assert answers_to(b"SIP/2.0 200 OK\r\n" + message().partition(b"\r\n")[2].replace(b"From:", b"X:")) == []
    assert answers_to(message("ACK")) == []


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\x00", b"\x00\x00\x00\x00", b"  \r\n"])
def test_keepalives_are_silent(data: bytes) -> None:
    endpoint = make_endpoint()
    for flow in (udp_flow(), tcp_flow()):
        endpoint.receive(data, flow, now=START)
    assert endpoint.datagrams_to_send(now=START) == []
    if b" " not in data:
        assert events_of(endpoint) == []


def test_stray_responses_are_counted_and_dropped() -> None:
    endpoint = make_endpoint()
    endpoint.receive(b"SIP/2.0 200 OK\r\n" + message().partition(b"\r\n")[2], udp_flow(), now=START)
    assert events_of(endpoint) == []
    assert endpoint.counters["responses_unmatched"] == 1


def test_bye_cancel_and_info_for_nothing_get_481() -> None:
    for method in ("BYE", "CANCEL", "INFO"):
        data = message(method).replace(b"@3402000000>\r\nCall", b"@3402000000>;tag=x\r\nCall")
        assert [response.status for response in answers_to(data)] == [481]


def test_cancel_of_an_unanswered_invite() -> None:
    endpoint = make_endpoint()
    endpoint.receive(message("INVITE"), udp_flow(), now=START)
    endpoint.receive(message("CANCEL"), udp_flow(), now=START)
    received, cancelled = events_of(endpoint)
    assert isinstance(received, RequestReceived)
    assert cancelled == InviteCancelled(dialog=received.dialog or "")
    assert [(response.status, response.cseq[1]) for response in responses_in(sent_by(endpoint))] == [
        (100, "INVITE"),
        (200, "CANCEL"),
        (487, "INVITE"),
    ]


def test_unanswered_request_is_told_and_forgotten() -> None:
    endpoint = make_endpoint()
    endpoint.receive(message(), udp_flow(), now=START)
    event = only(events_of(endpoint), RequestReceived)
    endpoint.handle_timeout(now=START + 32)
    assert only(events_of(endpoint), TransactionTimedOut).transaction == event.transaction
    with pytest.raises(LocalProtocolError, match="transaction_unknown"):
        endpoint.respond(event.transaction, 200, now=START + 32)


def test_answering_twice_is_refused() -> None:
    endpoint = make_endpoint()
    endpoint.receive(message(), udp_flow(), now=START)
    event = only(events_of(endpoint), RequestReceived)
    endpoint.respond(event.transaction, 200, now=START)
    with pytest.raises(LocalProtocolError):
        endpoint.respond(event.transaction, 403, now=START)
    assert len(endpoint.datagrams_to_send(now=START)) == 1


# limits


def test_requests_over_the_bound_get_503_without_state() -> None:
    endpoint = make_endpoint(limits=Limits(server_transactions=3, retry_after=7))
    for number in range(5):
        endpoint.receive(message(branch=f"z9hG4bK{number}"), udp_flow(), now=START)
    assert len(events_of(endpoint)) == 3
    refused = responses_in(sent_by(endpoint))
    assert [(response.status, response.headers.get("Retry-After")) for response in refused] == [(503, "7")] * 2
    endpoint.handle_timeout(now=START + 33)
    events_of(endpoint)
    endpoint.receive(message(branch="z9hG4bKagain"), udp_flow(), now=START + 33)
    only(events_of(endpoint), RequestReceived)


def test_one_host_cannot_take_all_the_room() -> None:
    endpoint = make_endpoint(limits=Limits(server_transactions=100, server_transactions_per_host=2))
    for number in range(4):
        endpoint.receive(message(branch=f"z9hG4bK{number}"), udp_flow(), now=START)
    assert len(events_of(endpoint)) == 2
    endpoint.receive(message(branch="z9hG4bKother"), udp_flow(("198.51.100.1", 5060)), now=START)
    only(events_of(endpoint), RequestReceived)


def test_dialogs_and_client_transactions_are_bounded() -> None:
    endpoint = make_endpoint(limits=Limits(dialogs=1, client_transactions=2))
    flow = udp_flow()
    endpoint.invite(target=TARGET, to=CAMERA, flow=flow, sdp=b"x", subject="s", now=START)
    with pytest.raises(LocalProtocolError, match="dialogs_full"):
        endpoint.invite(target=TARGET, to=CAMERA, flow=flow, sdp=b"x", subject="s", now=START)
    endpoint.receive(message("INVITE"), flow, now=START)
    assert [response.status for response in responses_in(sent_by(endpoint))] == [503]
    endpoint.send_request(endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA), flow, now=START)
    with pytest.raises(LocalProtocolError, match="client_transactions_full"):
        endpoint.send_request(endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA), flow, now=START)


def test_events_and_connections_are_bounded() -> None:
    endpoint = make_endpoint(limits=Limits(events=2, connections=1))
    for number in range(4):
        endpoint.receive(message(branch=f"z9hG4bK{number}"), tcp_flow(1), now=START)
    assert [response.status for response in responses_in(sent_by(endpoint))] == [503, 503]
    assert len(events_of(endpoint)) == 2
    endpoint.receive(message(branch="z9hG4bKx"), tcp_flow(2), now=START)
    assert only(events_of(endpoint), ProtocolFault).fatal


def test_what_nobody_sends_away_is_bounded() -> None:
    endpoint = make_endpoint(limits=Limits(outgoing=3))
    for number in range(5):
        endpoint.receive(message("OPTIONS", branch=f"z9hG4bK{number}"), udp_flow(), now=START)
    assert len(endpoint.datagrams_to_send(now=START)) == 3


# as a client


@pytest.fixture(params=[False, True], ids=["udp", "tcp"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return Wire(stream=request.param)


def test_request_and_answer(wire: Wire) -> None:
    request = wire.platform.new_request(
        "MESSAGE",
        target=TARGET,
        to=CAMERA,
        headers=(("Content-Type", "Application/MANSCDP+xml"),),
        body=b"<Query/>",
    )
    name = wire.platform.send_request(request, wire.to_device, now=wire.now)
    wire.deliver()
    event = only(events_of(wire.device), RequestReceived)
    got = event.request
    assert (got.from_.uri.user, got.from_.uri.host) == (PLATFORM.value, "3402000000")
    assert (got.to.uri.user, got.uri.user) == (CAMERA.value, CAMERA.value)
    assert got.headers.get("Max-Forwards") == "70"
    assert got.via_top.transport == ("TCP" if wire.stream else "UDP")
    assert "rport" in str(got.via_top)
    assert got.contact is not None
    assert got.contact.uri.host == "192.0.2.1"
    assert got.body == b"<Query/>"
    wire.device.respond(event.transaction, 200, now=wire.now)
    wire.deliver()
    answer = only(events_of(wire.platform), ResponseReceived)
    assert (answer.transaction, answer.response.status, answer.dialog) == (name, 200, None)
    wire.advance(40)
    assert wire.seen("device", "MESSAGE") == 1
    assert wire.platform.load()["client_transactions"] == 0


def test_lost_requests_are_repeated_and_lost_answers_too() -> None:
    wire = Wire()
    losses = iter([True, True, False, True, False, False])
    wire.drop = lambda data, to: next(losses, False)
    wire.platform.send_request(
        wire.platform.new_request("MESSAGE", target=TARGET, to=CAMERA), wire.to_device, now=wire.now
    )
    wire.deliver()
    wire.advance(2)
    event = only(events_of(wire.device), RequestReceived)
    wire.device.respond(event.transaction, 200, now=wire.now)
    wire.deliver()
    wire.advance(5)
    only(events_of(wire.platform), ResponseReceived)


def test_silence_ends_in_a_timeout_after_eleven_copies() -> None:
    wire = Wire()
    wire.drop = lambda data, to: True
    name = wire.platform.send_request(
        wire.platform.new_request("MESSAGE", target=TARGET, to=CAMERA), wire.to_device, now=wire.now
    )
    wire.advance(33)
    assert wire.seen("device", "MESSAGE") == 11
    assert only(events_of(wire.platform), TransactionTimedOut) == TransactionTimedOut(transaction=name, dialog=None)


def test_lost_connection_fails_what_runs_on_it_and_nothing_else() -> None:
    endpoint = make_endpoint()
    names = [
        endpoint.send_request(endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA), flow, now=START)
        for flow in (tcp_flow(1), tcp_flow(2))
    ]
    endpoint.connection_lost(tcp_flow(1), now=START)
    assert only(events_of(endpoint), TransportFailed) == TransportFailed(transaction=names[0], dialog=None)
    assert endpoint.load()["client_transactions"] == 1


def test_response_without_via_is_matched_by_call_id() -> None:
    endpoint = make_endpoint()
    request = endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA)
    name = endpoint.send_request(request, udp_flow(), now=START)
    lines = [
        "SIP/2.0 200 OK",
        f"From: {request.headers.get('From')}",
        f"To: {request.headers.get('To')};tag=9",
        f"Call-ID: {request.call_id}",
        "CSeq: 1 MESSAGE",
        "Content-Length: 0",
        "\r\n",
    ]
    endpoint.receive("\r\n".join(lines).encode(), udp_flow(), now=START)
    assert only(events_of(endpoint), ResponseReceived).transaction == name


def test_own_headers_replace_the_standard_ones() -> None:
    endpoint = make_endpoint(CAMERA)
    request = endpoint.new_request(
        "REGISTER",
        target=Uri(user=PLATFORM.value, host="3402000000"),
        to=CAMERA,
        headers=(("Call-ID", "same"), ("CSeq", "7 REGISTER"), ("Contact", "<sip:x@y>"), ("Expires", "3600")),
    )
    endpoint.send_request(request, udp_flow(), now=START)
    [sent] = sent_by(endpoint)
    assert (sent.call_id, sent.cseq, sent.headers.all("Contact")) == ("same", (7, "REGISTER"), ("<sip:x@y>",))
    assert len(sent.headers.all("From")) == 1


def test_invites_and_acks_have_their_own_commands() -> None:
    endpoint = make_endpoint()
    for method in ("INVITE", "ACK", "CANCEL"):
        with pytest.raises(LocalProtocolError):
            endpoint.send_request(endpoint.new_request(method, target=TARGET, to=CAMERA), udp_flow(), now=START)
