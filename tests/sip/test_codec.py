"""Bytes to messages and back: whatever the split, whatever the bytes."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipserver.protocol import codec
from sipserver.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from sipserver.protocol.events import Limits, ProtocolFault
from sipserver.protocol.message import Headers, Request, Response, Uri

from .harness import START, events_of, make_endpoint, tcp_flow, udp_flow

LIMITS = Limits()
BODY = "<?xml version='1.0'?><Notify>大门</Notify>".encode("gb18030")


def message(method: str = "MESSAGE", body: bytes = b"", *, branch: str = "z9hG4bK1", extra: str = "") -> bytes:
    head = (
        f"{method} sip:34020000002000000001@3402000000 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch={branch}\r\n"
        "From: <sip:34020000001320000001@3402000000>;tag=1\r\n"
        "To: <sip:34020000002000000001@3402000000>\r\n"
        f"Call-ID: c-{branch}\r\nCSeq: 20 {method}\r\nMax-Forwards: 70\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_round_trip() -> None:
    parsed = codec.parse_datagram(message(body=BODY))
    assert isinstance(parsed, Request)
    assert parsed.body == BODY
    assert codec.parse_datagram(codec.encode(parsed)) == codec.parse_datagram(message(body=BODY))
    assert codec.encode(codec.parse_datagram(codec.encode(parsed))) == codec.encode(parsed)


def test_bytes_of_any_charset_come_back_unchanged() -> None:
    raw = message(extra="Subject: ").replace(b"Subject: ", b"Subject: \xb4\xf3\xc3\xc5\xff\r\n")
    parsed = codec.parse_datagram(raw)
    assert b"Subject: \xb4\xf3\xc3\xc5\xff\r\n" in codec.encode(parsed)


def test_compact_folded_and_oddly_spaced_headers() -> None:
    parsed = codec.parse_datagram(
        b"\r\nMESSAGE sip:a@3402000000 SIP/2.0\r\n"
        b"v:  SIP / 2.0\r\n  /UDP   192.0.2.2 ;\r\n\tbranch=z9hG4bK9 ; rport\r\n"
        b'f : "A \\" B"  <sip:c@d>\r\n ;tag = 7\r\nt: sip:a@b\r\ni: x\r\ncSEQ: 0009  MESSAGE\r\n'
        b"c: application/manscdp+XML\r\nl: 2\r\n\r\nokIGNORED"
    )
    assert isinstance(parsed, Request)
    assert (parsed.via_top.branch, parsed.from_.tag, parsed.cseq) == ("z9hG4bK9", "7", (9, "MESSAGE"))
    assert (parsed.body, parsed.content_type) == (b"ok", "application/manscdp+xml")


def test_body_without_content_length_is_the_rest_of_the_datagram() -> None:
    raw = message(body=BODY).replace(b"Content-Length: %d\r\n" % len(BODY), b"")
    parsed = codec.parse_datagram(raw)
    assert parsed.body == BODY


CASES = [
    ("no start line", b"\r\n\r\n", "head_unfinished", 400),
    ("two spaces", message().replace(b"MESSAGE sip", b"MESSAGE  sip", 1), "request_line_malformed", 400),
    ("space at the end", message().replace(b"SIP/2.0\r\n", b"SIP/2.0 \r\n", 1), "request_line_malformed", 400),
    (
        "space in the URI",
        message().replace(b"@3402000000 SIP", b"@3402000000; lr SIP", 1),
        "request_line_malformed",
        400,
    ),
    ("brackets", message().replace(b"sip:34020000002000000001@3402000000 ", b"<sip:a@b> ", 1), "uri_malformed", 400),
    ("version 7", message().replace(b"3402000000 SIP/2.0", b"3402000000 SIP/7.0", 1), "version_not_supported", 505),
    (
        "escaped headers",
        message().replace(b"3402000000 SIP", b"3402000000?Route=x SIP", 1),
        "request_uri_with_headers",
        400,
    ),
    ("no Via", message().replace(b"Via:", b"X-Via:"), "via_missing", 400),
    ("bad Via", message().replace(b";rport;branch", b";;,;,,;branch"), "parameters_malformed", 400),
    ("cookie only", message(branch="z9hG4bK"), "branch_malformed", 400),
    ("no From", message().replace(b"From:", b"X:"), "from_missing", 400),
    ("no From tag", message().replace(b";tag=1", b""), "from_tag_missing", 400),
    ("no Call-ID", message().replace(b"Call-ID:", b"X:"), "call_id_missing", 400),
    ("two Call-IDs", message(extra="Call-ID: 2\r\n"), "header_repeated", 400),
    ("no CSeq", message().replace(b"CSeq:", b"X:"), "cseq_malformed", 400),
    ("huge CSeq", message().replace(b"CSeq: 20", b"CSeq: 36893488147419103232"), "cseq_malformed", 400),
    ("other CSeq", message().replace(b"20 MESSAGE", b"20 INVITE"), "cseq_method_mismatch", 400),
    ("other CSeq, odd method", message("NEWMETHOD").replace(b"20 NEW", b"20 X"), "cseq_method_mismatch", 501),
    ("line without colon", message(extra="rubbish\r\n"), "header_malformed", 400),
    ("quote left open", message().replace(b"To: <", b'To: "x <'), "quotes_unbalanced", 400),
    ("body too short", message(body=b"abc")[:-1], "body_truncated", 400),
    ("negative length", message().replace(b"Length: 0", b"Length: -999"), "content_length_malformed", 400),
    ("two lengths", message(extra="l: 5\r\n"), "content_length_malformed", 400),
    ("Max-Forwards 300", message().replace(b"Forwards: 70", b"Forwards: 300"), "max_forwards_malformed", 400),
    ("no end of head", message()[:-2], "head_unfinished", 400),
    ("bad Contact", message("REGISTER", extra="Contact: sip:a@b?Route=c\r\n"), "address_needs_brackets", 400),
    (
        "status 4294967301",
        b"SIP/2.0 4294967301 OK\r\n" + message().partition(b"\r\n")[2],
        "status_code_malformed",
        None,
    ),
    ("status 99", b"SIP/2.0 099 OK\r\n" + message().partition(b"\r\n")[2], "status_code_malformed", None),
]


@pytest.mark.parametrize(("data", "reason", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_malformed_messages_name_the_fault_and_the_status_owed(data: bytes, reason: str, status: int | None) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.parse_datagram(data)
    assert (caught.value.reason, caught.value.status) == (reason, status)


def test_too_much_of_anything_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="too_many_headers"):
        codec.parse_datagram(message(extra="X: 1\r\n" * 300))
    with pytest.raises(RemoteProtocolError, match="head_too_large"):
        codec.parse_datagram(message(extra=f"X: {'1' * 65536}\r\n"))


def test_line_breaks_cannot_be_written() -> None:
    for headers in (Headers([("Subject", "a\r\nX: 1")]), Headers([("Subject", "a\rb")])):
        with pytest.raises(LocalProtocolError):
            codec.encode(Request("MESSAGE", Uri(host="h"), headers))
    with pytest.raises(LocalProtocolError):
        codec.encode(Response(200, "OK\r\nX: 1"))
    with pytest.raises(LocalProtocolError):
        codec.encode(Request("MESSAGE sip:x", Uri(host="h")))


# streams

STREAM = (
    b"\r\n\r\n"
    + message(body=BODY)
    + message("REGISTER", branch="z9hG4bK2")
    + b"\r\n"
    + message("INFO", b"\r\n\r\nPAUSE RTSP/1.0\r\n\r\n", branch="z9hG4bK3")
)
WHOLE = [(b"MESSAGE", BODY), (b"REGISTER", b""), (b"INFO", b"\r\n\r\nPAUSE RTSP/1.0\r\n\r\n")]


def fed(chunks: list[bytes]) -> list[tuple[bytes, bytes]]:
    framer = codec.Framer(LIMITS)
    messages = [raw for chunk in chunks for raw in framer.feed(chunk, now=START)]
    assert framer.error is None
    assert framer.buffered == 0
    assert framer.begun_at is None
    return [(raw.start_line.split(" ", 1)[0].encode(), raw.body) for raw in messages]


def test_stream_cut_at_every_place() -> None:
    for place in range(len(STREAM) + 1):
        assert fed([STREAM[:place], STREAM[place:]]) == WHOLE


def test_stream_byte_by_byte() -> None:
    assert fed([STREAM[place : place + 1] for place in range(len(STREAM))]) == WHOLE


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_stream_cut_anywhere(places: list[int]) -> None:
    cuts = [0, *sorted(places), len(STREAM)]
    assert fed([STREAM[a:b] for a, b in pairwise(cuts)]) == WHOLE


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "stream_not_sip", None),
        (b"\x16\x03\x01\x02\x00", "stream_not_sip", None),
        (b"A" * 5000, "stream_not_sip", None),
        (message().replace(b"Length: 0", b"Length: x"), "content_length_malformed", 400),
        (message(extra="Content-Length: 7\r\n"), "content_length_malformed", 400),
        (message().replace(b"Length: 0", b"Length: 99999999"), "body_too_large", 413),
        (
            message(extra="Content-Type: a/b\r\n").replace(b"Content-Length: 0\r\n", b""),
            "content_length_missing",
            400,
        ),
        (message()[:-2] + b"X: " + b"1" * 66_000, "head_too_large", None),
    ],
)
def test_stream_that_loses_its_framing_is_fatal(data: bytes, reason: str, status: int | None) -> None:
    endpoint, flow = make_endpoint(), tcp_flow()
    endpoint.receive(data, flow, now=START)
    faults = [event for event in events_of(endpoint) if isinstance(event, ProtocolFault)]
    assert [(fault.error.reason, fault.status_sent, fault.fatal) for fault in faults] == [(reason, status, True)]
    assert len(endpoint.datagrams_to_send(now=START)) == (status is not None)
    endpoint.receive(message(), flow, now=START)
    assert events_of(endpoint) == [], "nothing more comes out of a broken stream"
    assert endpoint.load()["buffered"] == 0
    assert endpoint.next_timeout() is None


def test_half_a_message_may_not_wait_for_ever() -> None:
    endpoint, flow = make_endpoint(), tcp_flow()
    whole = message(body=b"x" * 9_999)
    endpoint.receive(whole[:-9_000], flow, now=START)
    assert endpoint.next_timeout() == START + LIMITS.frame_timeout
    endpoint.handle_timeout(now=START + LIMITS.frame_timeout - 1)
    assert events_of(endpoint) == []
    endpoint.handle_timeout(now=START + LIMITS.frame_timeout)
    fault = events_of(endpoint)[0]
    assert isinstance(fault, ProtocolFault)
    assert (fault.error.reason, fault.status_sent, fault.fatal) == ("stream_frame_timeout", 408, True)
    assert endpoint.next_timeout() is None


def test_connections_share_one_bounded_buffer() -> None:
    endpoint = make_endpoint(limits=Limits(stream_buffer=100_000))
    whole = message(body=b"x" * 60_000)
    endpoint.receive(whole[:-1], tcp_flow(1), now=START)
    endpoint.receive(whole[:-1], tcp_flow(2), now=START)
    fault = events_of(endpoint)[0]
    assert isinstance(fault, ProtocolFault)
    assert (fault.error.reason, fault.flow.connection, fault.fatal) == ("stream_buffers_full", 2, True)
    assert endpoint.load()["buffered"] == len(whole) - 1
    endpoint.receive(whole[-1:], tcp_flow(1), now=START)
    assert endpoint.load()["buffered"] == 0
    assert len(events_of(endpoint)) == 1


def test_large_catalogue_in_small_pieces_takes_linear_time() -> None:
    framer = codec.Framer(LIMITS)
    data = message(body=b"x" * 5_000_000)
    begun = time.process_time()
    out = [raw for place in range(0, len(data), 1400) for raw in framer.feed(data[place : place + 1400], now=START)]
    assert len(out) == 1
    assert time.process_time() - begun < 2, "quadratic work would take minutes"


SLOW = [
    ("blanks in a header", message(extra="Subject: x" + " " * 60_000 + "y\r\n")),
    ("quotes", message(extra='Contact: "' + '\\"' * 30_000 + "\r\n")),
    ("commas", message(extra="Contact: " + "," * 60_000 + "\r\n")),
    ("semicolons", message().replace(b";tag=1", b";a" * 20_000 + b";tag=1")),
    ("SIP/ over and over", b"M " + b"SIP/2.0 " * 8_000 + b"\r\n" + message()),
    ("spaces in the start line", b"M" + b" " * 60_000 + b"SIP/2.0x\r\n" + message()),
    ("blanks in Via", message().replace(b"UDP 192", b"UDP" + b" " * 60_000 + b"192")),
    ("long CSeq", message().replace(b"20 MESSAGE", b"20 " + b"M " * 30_000)),
    ("tokens in Via", message().replace(b"SIP/2.0/UDP", b"S" * 60_000)),
]


@pytest.mark.parametrize("data", [case[1] for case in SLOW], ids=[case[0] for case in SLOW])
def test_no_input_takes_long(data: bytes) -> None:
    endpoint = make_endpoint()
    begun = time.process_time()
    endpoint.receive(data[:65_535], udp_flow(), now=START)
    assert time.process_time() - begun < 0.5, "quadratic work on 64 KiB would take many seconds"


# rubbish


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    endpoint = make_endpoint()
    endpoint.receive(data, udp_flow(), now=START)
    endpoint.receive(data, tcp_flow(), now=START)
    assert all(isinstance(event, ProtocolFault) for event in events_of(endpoint))


MUTANTS = [
    message(body=BODY),
    message("REGISTER", extra="Contact: <sip:a@b>;expires=60\r\n"),
    message("INVITE", b"v=0"),
]
SPICE = [
    b"",
    b"\x00",
    b"\r\n",
    b"\r",
    b'"',
    b"<",
    b">",
    b";",
    b",",
    b"@",
    b"%00",
    b"\xff\xfe",
    b" " * 20,
    b"0" * 40,
    b"[",
]


@settings(max_examples=400)
@given(st.data())
def test_mutated_messages_never_raise(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(MUTANTS)))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(len(raw), start + 30)))
        raw[start:end] = data.draw(st.sampled_from(SPICE))
    endpoint = make_endpoint()
    for flow in (udp_flow(), tcp_flow()):
        endpoint.receive(bytes(raw), flow, now=START)
        for sent, _ in endpoint.datagrams_to_send(now=START):
            try:
                codec.parse_datagram(sent)
            except ProtocolError:
                assert sent.startswith(b"SIP/2.0 "), "what we echo may be odd, but it is a response"
