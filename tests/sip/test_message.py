"""Headers, addresses and identifiers: what is read, what is refused, what is never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipserver.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from sipserver.protocol.ids import GbId, Kind, Ssrc, is_key, new_key
from sipserver.protocol.message import Headers, NameAddr, Request, Uri, Via

from .harness import CAMERA, PLATFORM, counting_token


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("sip:34020000001320000001@3402000000", "34020000001320000001", "3402000000", None),
        ("sip:34020000001320000001@192.0.2.10:5060", "34020000001320000001", "192.0.2.10", 5060),
        ("sip:34020000001320000001@3402000000.spvmn.cn", "34020000001320000001", "3402000000.spvmn.cn", None),
        ("sips:a@[2001:db8::10]:5070;transport=tcp", "a", "2001:db8::10", 5070),
        ("sip:[2001:db8::10:5070]", None, "2001:db8::10:5070", None),
        ("sip:[2001:db8:::192.0.2.1]", None, "2001:db8::192.0.2.1", None),
        ("SIP:user;par=u%40example.net@example.com", "user;par=u%40example.net", "example.com", None),
    ],
)
def test_uris_that_are_read(text: str, user: str | None, host: str, port: int | None) -> None:
    uri = Uri.parse(text)
    assert (uri.user, uri.host, uri.port) == (user, host, port)
    assert Uri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "34020000001320000001@3402000000",
        "sip:",
        "sip:2001:db8::10",
        "sip:a@host:99999",
        "sip:a@host:1x",
        "sip:a b@host",
        "<sip:a@host>",
        "sip:a@[::1",
        "sip:a@ho/st",
        "sip:a@host;;x",
        'sip:a"b@host',
    ],
)
def test_uris_that_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Uri.parse(text)
    assert caught.value.status == 400


def test_percent_signs_are_undone_once() -> None:
    assert Uri.parse("sip:null-%00-null@example.com").username == "null-\0-null"
    assert Uri.parse("sip:%2541:secret@example.com").username == "%41"


def test_addresses() -> None:
    bare = NameAddr.parse("sip:a@b;tag=1")
    assert (bare.tag, bare.uri.params) == ("1", ()), "without brackets parameters belong to the header"
    inside = NameAddr.parse("<sip:a@b;x=1>;tag=2")
    assert (inside.tag, inside.uri.param("x")) == ("2", "1")
    quoted = NameAddr.parse(r'"a \"b\" <c>, d" <sip:a@b>')
    assert quoted.display == 'a "b" <c>, d'
    assert NameAddr.parse(str(quoted)) == quoted
    assert NameAddr.parse("大门 <sip:a@b>").display == "大门"
    assert NameAddr.parse("caller<sip:a@b>;tag=323").tag == "323"
    assert bare.with_tag("9").tag == "9"


@pytest.mark.parametrize(
    "text",
    [
        '"Watson <sip:a@b>',
        "Bell, Alexander <sip:a@b>",
        "< sip:a@b>",
        "<sip:a@b",
        "sip:a@b?Route=x",
        "sip:a@b,sip:c@d",
        '"x" sip:a@b',
    ],
)
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        NameAddr.parse(text)


def test_via_is_answered_with_the_packets_source() -> None:
    via = Via.parse("SIP / 2.0 / UDP 10.0.0.5:5060;rport;received=1.2.3.4;branch=z9hG4bK1")
    answered = via.answered_from("203.0.113.9", 40000)
    assert answered.param("rport") == "40000"
    assert answered.param("received") == "203.0.113.9"
    assert str(answered).count("received=") == 1, "what the peer wrote there itself is replaced"
    assert via.answered_from("203.0.113.9", 40000).branch == "z9hG4bK1"
    assert "rport" not in str(Via.parse("SIP/2.0/TCP host;branch=z9hG4bK1").answered_from("1.1.1.1", 5))
    assert Via.parse("SIP/2.0/UDP [2001:db8::9]:5061;branch=z9hG4bK1").sent_by == "2001:db8::9:5061"


@pytest.mark.parametrize("text", ["", "SIP/2.0/UDP", "SIP/2.0/UDP 192.0.2.15;;", "SIP/2.0/UDP ;branch=1", "x y"])
def test_vias_that_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Via.parse(text)


def test_headers_are_found_in_any_case_and_compact_form() -> None:
    headers = Headers([("v", "1"), ("VIA", "2, 3"), ("c", "Application/MANSCDP+XML ; charset=x"), ("i", "call")])
    assert headers.all("Via") == ("1", "2, 3")
    assert headers.values("via") == ("1", "2", "3")
    assert headers.get("CALL-ID") == "call"
    assert Request("MESSAGE", Uri(host="h"), headers).content_type == "application/manscdp+xml"
    assert headers.get("To") is None
    assert headers.with_("Via", "x").items() == (("Via", "x"), *headers.items()[2:])
    assert headers.without("i").get("Call-ID") is None
    assert len(headers) == 4, "headers do not change"


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb"])
def test_line_breaks_cannot_get_into_headers(value: str) -> None:
    with pytest.raises(LocalProtocolError):
        Headers().with_("Subject", value)
    with pytest.raises(LocalProtocolError):
        Headers().added("Subject", value)


@pytest.mark.parametrize(
    ("fields", "expires"),
    [
        ([("Expires", "3600")], 3600),
        ([("Contact", "<sip:a@b>;expires=60"), ("Expires", "3600")], 60),
        ([("Contact", "<sip:a@b>"), ("Expires", "0")], 0),
        ([("Contact", "*"), ("Expires", "0")], 0),
        ([("Expires", "99999999999999")], 2**32 - 1),
        ([], None),
    ],
)
def test_expires(fields: list[tuple[str, str]], expires: int | None) -> None:
    assert Request("REGISTER", Uri(host="h"), Headers(fields)).expires == expires


@given(st.text(max_size=60))
def test_no_text_makes_the_address_parsers_raise_anything_but_protocol_errors(text: str) -> None:
    for parse in (Uri.parse, NameAddr.parse, Via.parse, GbId.parse, Ssrc.parse):
        try:
            parse(text)
        except ProtocolError:
            continue


def test_address_codes_are_never_shown() -> None:
    shown = (str(CAMERA), repr(CAMERA), f"{CAMERA}", repr([CAMERA]), repr({"a": CAMERA}))
    assert all(CAMERA.value not in text and "0000001" not in text for text in shown)
    assert str(CAMERA) != str(PLATFORM)
    request = Request("MESSAGE", Uri(user=CAMERA.value, host="h"), Headers([("From", f"<sip:{CAMERA.value}@h>")]))
    assert CAMERA.value not in repr(request) + repr(request.uri) + repr(request.headers)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("34020000001320000001", Kind.CAMERA),
        ("34020000001310000001", Kind.CAMERA),
        ("34020000001180000001", Kind.DEVICE),
        ("34020000002000000001", Kind.PLATFORM),
        ("34020000002150000001", Kind.BUSINESS_GROUP),
        ("34020000002160000001", Kind.VIRTUAL_ORGANISATION),
        ("34020000001340000001", Kind.ALARM_INPUT),
        ("34020000003000000001", Kind.USER),
        ("34020000007000000001", Kind.UNKNOWN),
        ("340200", Kind.DIVISION),
        ("34020", Kind.UNKNOWN),
        ("camera-1", Kind.UNKNOWN),
    ],
)
def test_kinds_of_address_codes(code: str, kind: Kind) -> None:
    assert GbId(code).classify() is kind


@pytest.mark.parametrize("text", ["", "a b", "x" * 65, "3402\n", "34020000001320000001'", "３４０２"])
def test_address_codes_that_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        GbId(text)


@pytest.mark.parametrize(
    ("domain", "history", "number", "text", "value"),
    [  # facts §32.3
        ("13010000002000000001", False, 1, "0100000001", 0x05F5E101),
        ("13010000002000000001", True, 1, "1100000001", 0x4190AB01),
        ("34020000002000000001", False, 3312, "0200003312", 0x0BEBCEF0),
    ],
)
def test_ssrc_vectors(domain: str, history: bool, number: int, text: str, value: int) -> None:
    ssrc = Ssrc.compose(GbId(domain), history, number)
    assert (ssrc.text, ssrc.value, ssrc.number) == (text, value, number)
    assert Ssrc.parse(text) == ssrc


def test_opaque_keys() -> None:
    token = counting_token()
    keys = {new_key("dev", token) for _ in range(1000)}
    assert len(keys) == 1000
    assert all(is_key(key, "dev") and len(key) == 24 for key in keys)
    assert not is_key("dev_34020000001320000001")
    with pytest.raises(LocalProtocolError):
        new_key("cam", token)
