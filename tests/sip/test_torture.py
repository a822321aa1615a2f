"""Messages in the manner of RFC 4475 and RFC 5118, rewritten here: section, what is unusual, what we owe."""

from __future__ import annotations

import pytest

from sipserver.protocol.codec import parse_datagram
from sipserver.protocol.endpoint import RequestReceived
from sipserver.protocol.message import Request, Response

from .harness import START, events_of, make_endpoint, responses_in, sent_by, tcp_flow, udp_flow

WSINV = b"""INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 3
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

v=0""".replace(b"\n", b"\r\n")

INTMETH = (
    b"!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    b":&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\r\n"
    b'To: "BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" <sip:1_unusual.URI~(to-be!sure)&isn\'t+it$/crazy?,/;;*@example.com>\r\n'
    b"From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>"
    b";fromParam''~+*_!.-%=\"\xd1\x80\xd0\xb0\";tag=_token~1'+`*%!-.\r\n"
    b"Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\n"
    b"CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\r\n"
    b"Max-Forwards: 255\r\nextensionHeader-!.%*+_`'~: \xef\xbb\xbf\xe5\xa4\xa7\r\nContent-Length: 0\r\n\r\n"
)


def request(method: str = "OPTIONS", uri: str = "sip:a@example.com", extra: str = "", **replaced: str) -> bytes:
    fields = {
        "Via": "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKt",
        "From": "<sip:b@example.com>;tag=1",
        "To": "<sip:a@example.com>",
        "Call-ID": "torture",
        "CSeq": f"1 {method}",
    } | {name.replace("_", "-"): value for name, value in replaced.items()}
    lines = [f"{method} {uri} SIP/2.0", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return ("\r\n".join(lines) + f"\r\n{extra}Content-Length: 0\r\n\r\n").encode()


def test_3_1_1_1_folding_and_blanks_everywhere() -> None:
    parsed = parse_datagram(WSINV)
    assert isinstance(parsed, Request)
    assert (parsed.from_.display, parsed.from_.tag, parsed.to.tag) == ('J Rosenberg \\"', "98asjd8", "1918181833n")
    assert (parsed.cseq, parsed.via_top.branch, parsed.body) == ((9, "INVITE"), "390skdjuw", b"v=0")
    assert len(parsed.headers.values("Via")) == 3
    assert parsed.contact is not None
    assert parsed.contact.param("q") == "0.33"


VERDICTS = [
    ("3.1.1.2 every character of a method", INTMETH, 501),
    ("3.1.1.5 percent signs in a method", request("RE%47IST%45R"), 501),
    ("3.1.1.6 no blank before the bracket", request(From="caller<sip:c@example.com>;tag=3"), 200),
    ("3.1.1.9 parameters inside the user part", request(uri="sip:user;par=u%40example.net@example.com"), 200),
    ("3.1.1.10 unknown transport", request(Via="SIP/2.0/UNKNOWN t.example.com;branch=z9hG4bKu"), 200),
    ("3.1.2.7 address in angle brackets", request(uri="<sip:a@example.com>"), 400),
    ("3.1.2.11 headers in the address", request(uri="sip:a@example.com?Route=%3Csip:e%3E"), 400),
    ("3.1.2.12 odd date", request(extra="Date: Fri, 01 Jan 2010 16:00:00 EST\r\n"), 200),
    ("3.1.2.14 blanks inside the address", request(To='"W" < sip:a@example.com >'), 400),
    ("3.1.2.15 comma in a display name", request(From="Bell, Alexander <sip:a@example.com>;tag=43"), 400),
    ("3.3.2 unknown scheme", request(uri="nobodyKnowsThisScheme:totallyopaquecontent"), 416),
    ("3.3.5 unknown extension", request(extra="Require: nothingSupportsThis, nothingSupportsThisEither\r\n"), 420),
    ("3.3.11 no hops left, but it is for us", request(extra="Max-Forwards: 0\r\n"), 200),
    ("5118 4.2 IPv6 without brackets", request(uri="sip:2001:db8::10"), 400),
    ("5118 4.4 IPv6 with port", request(uri="sip:[2001:db8::10]:5070"), 200),
    (
        "5118 4.5 received in brackets",
        request(Via="SIP/2.0/UDP [2001:db8::9];received=[2001:db8::9];branch=z9hG4bKa"),
        200,
    ),
    ("5118 4.5 received without", request(Via="SIP/2.0/UDP [2001:db8::9];received=2001:db8::9;branch=z9hG4bKa"), 200),
    ("5118 4.10 three colons", request(uri="sip:a@[2001:db8:::192.0.2.1]"), 200),
]


@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("data", "status"), [case[1:] for case in VERDICTS], ids=[case[0] for case in VERDICTS])
def test_status_on_the_wire(data: bytes, status: int, stream: bool) -> None:
    endpoint = make_endpoint()
    endpoint.receive(data, tcp_flow() if stream else udp_flow(), now=START)
    # Read without our own parser: a 400 echoes what made the request unreadable.
    assert [answer[:12] for answer, _ in endpoint.datagrams_to_send(now=START)] == [b"SIP/2.0 %d " % status]
    assert endpoint.load()["server_transactions"] == 0
    endpoint.receive(request("OPTIONS", Call_ID="control"), udp_flow(), now=START)
    assert [response.status for response in responses_in(sent_by(endpoint))] == [200], "the next peer is served"


def test_3_1_1_8_what_trails_a_request_in_its_datagram_is_ignored() -> None:
    endpoint = make_endpoint()
    endpoint.receive(request("REGISTER") + request("INVITE"), udp_flow(), now=START)
    [event] = events_of(endpoint)
    assert isinstance(event, RequestReceived)
    assert event.request.method == "REGISTER"


@pytest.mark.parametrize("reason", ["", " ", " = 2**3 * \u043d\u043e\u0440\u043c\u0430\u043b\u044c\u043d\u043e"])
def test_3_1_1_12_and_13_reasons_of_any_kind(reason: str) -> None:
    data = request().replace(b"OPTIONS sip:a@example.com SIP/2.0", f"SIP/2.0 200{reason}".encode())
    parsed = parse_datagram(data)
    assert isinstance(parsed, Response)
    assert parsed.status == 200


def test_3_4_1_rfc_2543_request_is_served() -> None:
    endpoint = make_endpoint()
    old = request("MESSAGE", Via="SIP/2.0/UDP iftgw.example.com", From="<sip:b@example.com>")
    endpoint.receive(old.replace(b"Content-Length: 0\r\n\r\n", b"\r\n<Notify/>"), udp_flow(), now=START)
    [event] = events_of(endpoint)
    assert isinstance(event, RequestReceived)
    assert event.request.body == b"<Notify/>"
    endpoint.respond(event.transaction, 200, now=START)
    assert [response.status for response in responses_in(sent_by(endpoint))] == [200]
