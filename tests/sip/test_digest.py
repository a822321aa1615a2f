"""Digest: vectors of facts §32.1 and RFC 7616, nonces that need no memory, nonces that work once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipserver.protocol import digest
from sipserver.protocol.digest import NonceIssuer, NonceVerdict, ReplaySet
from sipserver.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError

from .harness import CAMERA, START

URI = "sip:34020000002000000001@3402000000"
HEADER = (
    f'Digest username="{CAMERA.value}", realm="3402000000", nonce="b1f444e6805f2768", uri="{URI}", '
    'response="97cae60143bf336443d0bc5e669571a9"'
)
QOP_HEADER = HEADER.replace("97cae60143bf336443d0bc5e669571a9", "5119792b7db2ae801932227a565397b2") + (
    ', algorithm=MD5, qop=auth, nc=00000001, cnonce="0a4f113b", opaque=""'
)
SECRET = b"0123456789abcdef"


@pytest.mark.parametrize("header", [HEADER, HEADER + ", algorithm=MD5", HEADER.replace("Digest", "digest"), QOP_HEADER])
def test_vectors_of_the_facts(header: str) -> None:
    credentials = digest.parse_authorization(header)
    assert credentials is not None
    assert digest.verify(credentials, "REGISTER", "12345678")
    assert not digest.verify(credentials, "REGISTER", "12345679")
    assert not digest.verify(credentials, "MESSAGE", "12345678")


def test_vectors_of_rfc_7616() -> None:
    for algorithm, response in (
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ):
        header = (
            'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", '
            f'algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
            'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, '
            f'response="{response}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        )
        credentials = digest.parse_authorization(header)
        assert credentials is not None
        assert digest.verify(credentials, "GET", "Circle of Life")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", ["", ', qop="auth"', ', qop="auth-int,auth"'])
def test_our_own_answers_are_accepted(algorithm: str, qop: str) -> None:
    name, value = digest.challenge_headers(realm="3402000000", nonce="abc", algorithms=[algorithm])[0]
    assert name == "WWW-Authenticate"
    challenge = digest.parse_challenge(value + qop)
    assert challenge is not None
    header = digest.answer(
        challenge, username=CAMERA.value, password="s3cret", method="REGISTER", uri=URI, cnonce="xyz", nc=2
    )
    credentials = digest.parse_authorization(header)
    assert credentials is not None
    assert credentials.nc == (2 if qop else None)
    assert digest.verify(credentials, "REGISTER", "s3cret")


def test_challenge_offers_no_qop_and_says_stale() -> None:
    lines = digest.challenge_headers(realm="r", nonce="n", algorithms=["SHA-256", "MD5"], stale=True)
    assert [("SHA-256" in value, "MD5" in value) for _, value in lines] == [(True, False), (False, True)]
    assert all("qop" not in value and "stale=true" in value for _, value in lines)
    with pytest.raises(LocalProtocolError):
        digest.challenge_headers(realm="r", nonce="n", algorithms=["SM3"])


@pytest.mark.parametrize("change", [("algorithm=MD5", "algorithm=SM3"), ("qop=auth", "qop=auth-int")])
def test_what_we_cannot_compute_is_no_match(change: tuple[str, str]) -> None:
    credentials = digest.parse_authorization(QOP_HEADER.replace(*change))
    assert credentials is not None
    assert not digest.verify(credentials, "REGISTER", "12345678")


def test_other_schemes_count_as_no_credentials() -> None:
    assert digest.parse_authorization("NoOneKnowsThisScheme opaque-data=here") is None
    assert digest.parse_authorization("Basic QWxhZGRpbg==") is None


@pytest.mark.parametrize(
    "header",
    [
        "Digest",
        "Digest username",
        'Digest username="a", username="b"',
        'Digest username="a',
        HEADER.replace("nonce=", "once="),
        QOP_HEADER.replace("nc=00000001", "nc=1"),
        QOP_HEADER.replace("nc=00000001", "nc=0000000g"),
        'Digest bad name="x"',
    ],
)
def test_malformed_credentials_are_400(header: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        digest.parse_authorization(header)
    assert caught.value.status == 400


@given(st.text(max_size=80))
def test_no_header_raises_anything_but_protocol_errors(text: str) -> None:
    for header in (text, f"Digest {text}", f"{HEADER}, {text}"):
        for parse in (digest.parse_authorization, digest.parse_challenge):
            try:
                parse(header)
            except ProtocolError:
                continue


def test_credentials_are_not_shown() -> None:
    credentials = digest.parse_authorization(HEADER)
    assert CAMERA.value not in repr(credentials)
    assert "97cae601" not in repr(credentials)


# nonces


def test_nonce_is_good_for_its_device_address_and_time() -> None:
    issuer = NonceIssuer(SECRET, lifetime=60)
    nonce = issuer.issue(START, "192.0.2.10", CAMERA)
    check = issuer.check
    assert check(nonce, now=START, ip="192.0.2.10", device=CAMERA) is NonceVerdict.FRESH
    assert check(nonce, now=START + 60, ip="192.0.2.10", device=CAMERA) is NonceVerdict.FRESH
    assert check(nonce, now=START + 60.1, ip="192.0.2.10", device=CAMERA) is NonceVerdict.STALE
    assert check(nonce, now=START - 6, ip="192.0.2.10", device=CAMERA) is NonceVerdict.STALE
    assert check(nonce, now=START, ip="192.0.2.11", device=CAMERA) is NonceVerdict.FORGED
    assert check(nonce, now=START, ip="192.0.2.10", device="other") is NonceVerdict.FORGED


def test_every_changed_digit_of_a_nonce_is_found() -> None:
    issuer = NonceIssuer(SECRET)
    nonce = issuer.issue(START, "192.0.2.10", CAMERA)
    for place in range(len(nonce)):
        other = "0" if nonce[place] != "0" else "1"
        forged = nonce[:place] + other + nonce[place + 1 :]
        assert issuer.check(forged, now=START, ip="192.0.2.10", device=CAMERA) is NonceVerdict.FORGED
    for rubbish in ("", "x", nonce.upper() + "0", nonce + "\n", nonce[:-1]):
        assert issuer.check(rubbish, now=START, ip="192.0.2.10", device=CAMERA) is NonceVerdict.FORGED


def test_nonces_survive_a_restart_and_never_repeat() -> None:
    first, second = NonceIssuer(SECRET), NonceIssuer(SECRET)
    nonce = first.issue(START, "192.0.2.10", CAMERA)
    assert second.check(nonce, now=START + 1, ip="192.0.2.10", device=CAMERA) is NonceVerdict.FRESH
    stranger = NonceIssuer(b"fedcba9876543210")
    assert stranger.check(nonce, now=START, ip="192.0.2.10", device=CAMERA) is NonceVerdict.FORGED
    assert len({first.issue(START, "192.0.2.10", CAMERA) for _ in range(1000)}) == 1000
    with pytest.raises(LocalProtocolError):
        NonceIssuer(b"short")


def test_a_nonce_works_once_and_with_nc_while_it_rises() -> None:
    used = ReplaySet()
    assert used.first_use("a", now=START, expires=START + 60)
    assert not used.first_use("a", now=START + 1, expires=START + 60)
    assert not used.first_use("a", now=START + 1, expires=START + 60, count=5), "used without nc: over"
    assert used.first_use("b", now=START, expires=START + 60, count=1)
    assert used.first_use("b", now=START, expires=START + 60, count=3)
    assert not used.first_use("b", now=START, expires=START + 60, count=3)
    assert not used.first_use("b", now=START, expires=START + 60, count=2)
    assert not used.first_use("b", now=START, expires=START + 60)


def test_replay_set_is_bounded_and_refuses_when_full() -> None:
    used = ReplaySet(limit=100)
    assert all(used.first_use(str(n), now=START, expires=START + 60) for n in range(100))
    assert not used.first_use("more", now=START + 59, expires=START + 119)
    assert len(used) == 100
    assert used.first_use("more", now=START + 61, expires=START + 121), "the expired ones made room"
    assert not used.first_use("more", now=START + 62, expires=START + 122)
