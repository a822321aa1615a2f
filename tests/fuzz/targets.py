"""What is fuzzed: framer, message, URI, SDP, MANSCDP, digest. Each checks more than "does not crash"."""

from __future__ import annotations

from sipserver.protocol import codec, digest, manscdp, sdp
from sipserver.protocol.address import NameAddr, Uri, Via
from sipserver.protocol.errors import GbError
from sipserver.protocol.events import Limits
from sipserver.protocol.manscdp import Message
from tests.fuzz.engine import Target
from tests.torture.gb_cases import CASES, item, keepalive, news, xml
from tests.torture.notation import MESSAGES, octets

SIP = [octets(path.stem) for path in sorted(MESSAGES.glob("*.dat"))]
SIP_WORDS = [
    *(b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"l:", b"Via: SIP/2.0/UDP x;branch=z9hG4bK", b"CSeq: 1 ", b";tag="),
    *(b"SIP/2.0", b"INVITE ", b"REGISTER ", b'"', b"<sip:", b">", b";rport", b"[::1]", b"%00", b"Contact: *", b"\\"),
    *(b"Authorization: Digest ", b"Expires: ", b"From: ", b"t: ", b"f: ", b",", b";;", b"?Route=", b"\xef\xbb\xbf"),
]
_LIMITS = Limits(stream_messages=50)


def message(data: bytes) -> None:
    """What is read and written again reads the same."""
    first = codec.parse_datagram(data)
    again = codec.parse_datagram(codec.encode(first))
    assert again.cseq == first.cseq
    assert again.call_id == first.call_id
    assert again.from_.tag == first.from_.tag
    assert again.body == first.body


def framer(data: bytes) -> None:
    """Whole and in pieces, the same messages come out."""
    whole, pieces = codec.Framer(_LIMITS), codec.Framer(_LIMITS)
    at_once = whole.feed(data, now=0.0)
    step = 1 + data.count(b":") % 7
    cut = [one for start in range(0, len(data), step) for one in pieces.feed(data[start : start + step], now=0.0)]
    if len(at_once) < _LIMITS.stream_messages and len(cut) < _LIMITS.stream_messages:
        assert [one.start_line for one in at_once] == [one.start_line for one in cut]
        assert [one.body for one in at_once] == [one.body for one in cut]
        assert (whole.error is None) == (pieces.error is None)
    assert whole.buffered <= len(data)
    for raw in at_once:
        try:
            codec.interpret(raw)
        except GbError:
            continue


def uri(data: bytes) -> None:
    """Addresses survive writing and reading."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (Uri.read, NameAddr.parse, Via.parse):
        try:
            read = parse(text)
        except GbError:
            continue
        assert str(parse(str(read))) == str(read)


def session(data: bytes) -> None:
    described = sdp.parse(data)
    assert described.media
    sdp.parse(described.to_bytes())


def body(data: bytes) -> None:
    read = manscdp.parse(data)
    if isinstance(read, Message) and read.sn >= 1:
        again = manscdp.parse(manscdp.build(read))
        assert type(again) is type(read)
        assert again.sn == read.sn


def credentials(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    given = digest.parse_authorization(text)
    if given is not None:
        assert not digest.verify(given, "REGISTER", "not the password of anybody")
        digest.NonceIssuer(b"0123456789abcdef").check(given.nonce, now=0.0, ip="192.0.2.1", device=given.username)
    digest.parse_challenge(text)


_URIS = [
    *(b"sip:34020000001320000001@3402000000", b"sip:a:b@[2001:db8::1]:5060;transport=tcp?x=y", b"sips:x", b"tel:+1-2"),
    *(b'"A \\" B" <sip:a@b;c=d>;tag=1;q=0.5', b"sip:a@b;tag=2", b"Bob <sip:x>;expires=1", b"<sip:%00@h?R=%3Csip:e%3E>"),
    *(b"SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKx;received=1.2.3.4", b"SIP / 2.0 / TCP [::1]:1 ; a = b"),
]
_SDP = [
    b"v=0\r\no=34020000001310000001 0 0 IN IP4 192.0.2.7\r\ns=Play\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"
    b"m=video 6000 TCP/RTP/AVP 96 97 98\r\na=recvonly\r\na=setup:passive\r\na=connection:new\r\n"
    b"a=rtpmap:96 PS/90000\r\na=rtpmap:98 H264/90000\r\na=downloadspeed:4\r\na=filesize:99\r\n"
    b"y=0100000001\r\nf=v/2/5/25/1/4096a/1/8/1\r\n",
    *(one.partition(b"\r\n\r\n")[2] for one in SIP if b"application/sdp" in one),
]
_DIGEST = [
    b'Digest username="34020000001320000001", realm="3402000000", nonce="0123456789abcdef", '
    b'uri="sip:34020000002000000001@3402000000", response="0123456789abcdef0123456789abcdef", algorithm=MD5',
    b'Digest username="x\\"y", realm="", nonce="n", uri="u", response="r", qop=auth, nc=00000001, cnonce="c"',
    b'Digest realm="r", nonce="n", qop="auth,auth-int", algorithm=SHA-256, stale=true',
    b"Basic YTpi",
]

TARGETS = (
    Target(name="message", run=message, seeds=SIP, words=SIP_WORDS),
    Target(name="framer", run=framer, seeds=[*SIP, SIP[0] + SIP[5], SIP[3] + SIP[9] + SIP[20]], words=SIP_WORDS),
    Target(name="uri", run=uri, seeds=_URIS, words=SIP_WORDS),
    Target(
        name="sdp",
        run=session,
        seeds=_SDP,
        words=[b"\r\ny=", b"\r\nf=v/", b"\r\nm=audio ", b"\r\na=rtpmap:", b"IN IP6 ::1"],
    ),
    Target(
        name="manscdp",
        run=body,
        seeds=[
            xml(keepalive()),
            xml(news(item("34020000001310000001", "东门", "<Info><PTZType>1</PTZType></Info>"))),
            *(case.body for case in CASES if len(case.body) < 1_000),
        ],
        words=[
            b"<SN>1</SN>",
            b"<Item>",
            b"</Item>",
            b"<![CDATA[",
            b"]]>",
            b"&#x",
            b"<!--",
            b"<?",
            b"<!DOCTYPE",
            b"\xb6",
            b"&a;",
        ],
    ),
    Target(
        name="digest",
        run=credentials,
        seeds=_DIGEST,
        words=[b", ", b'nonce="', b"nc=", b"qop=auth", b"algorithm=SHA-256", b"stale=", b"\\", b'"', b"=", b"Digest "],
    ),
)
