"""Parsers under deterministic fuzzing (S4), with planted bugs that must be found."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipserver.protocol import address, codec, digest, manscdp, manscdp_xml, sdp
from sipserver.protocol.errors import RemoteProtocolError
from tests.fuzz.engine import fuzz
from tests.fuzz.targets import TARGETS

EXECS = 2_500
BY_NAME = {target.name: target for target in TARGETS}


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_nothing_but_protocol_errors(name: str) -> None:
    assert fuzz(BY_NAME[name], execs=EXECS, seed=20261121) is None


def plant_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "_LENGTH", re.compile(r".*\Z", re.DOTALL))  # int() of anything


def plant_port(patch: pytest.MonkeyPatch) -> None:
    def unchecked(text: str) -> tuple[str, int | None]:
        host, _, port = text.partition(":")
        return host, int(port) if port else None

    patch.setattr(address, "parse_host_port", unchecked)


def plant_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(digest, "_NC", re.compile(r".*\Z", re.DOTALL))


def plant_media(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sdp, "_MEDIA", re.compile(r"^(\S+)\s+(\S*)(?:/\d+)?\s+(\S+)(.*)$"))


def plant_truncated_body(patch: pytest.MonkeyPatch) -> None:
    def careless(raw: codec.RawMessage) -> object:
        if len(raw.headers.all("Via")) > 1 and "," in (raw.headers.get("Via") or ""):
            raise IndexError("planted")
        return genuine(raw)

    genuine = codec.interpret
    patch.setattr(codec, "interpret", careless)


def plant_text(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(manscdp_xml, "decode_text", lambda body: body.decode("gb18030"))


PLANTS: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("message", plant_length),
    ("framer", plant_length),
    ("uri", plant_port),
    ("digest", plant_count),
    ("sdp", plant_media),
    ("message", plant_truncated_body),
    ("manscdp", plant_text),
]


@pytest.mark.parametrize(("name", "plant"), PLANTS, ids=[f"{name}-{plant.__name__}" for name, plant in PLANTS])
def test_control_planted_bugs_are_found(
    name: str, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    finding = fuzz(BY_NAME[name], execs=4 * EXECS, seed=20261121)
    assert finding is not None


def slow_split(text: str, separator: str) -> list[str]:
    """What split_outside_quotes() means, a character at a time."""
    parts, start, quoted, bracketed, skip = [], 0, False, False, False
    for index, char in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            skip, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = True
        elif char in "<>":
            bracketed = char == "<"
        elif char == separator and not bracketed:
            parts.append(text[start:index])
            start = index + 1
    if quoted or bracketed:
        raise RemoteProtocolError("quotes_unbalanced", status=400)
    return [*parts, text[start:]]


@settings(max_examples=600, deadline=None)
@given(st.text(alphabet='a"\\<>,;=\n ', max_size=24), st.sampled_from(",;"))
def test_fast_split_means_the_slow_one(text: str, separator: str) -> None:
    def outcome(split: Callable[[str, str], list[str]]) -> list[str] | None:
        try:
            return split(text, separator)
        except RemoteProtocolError:
            return None

    assert outcome(address.split_outside_quotes) == outcome(slow_split)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet='ab="\\,; \t', max_size=40))
def test_fast_parameters_mean_the_slow_ones(text: str) -> None:
    def outcome() -> dict[str, str] | str | None:
        try:
            return digest._parameters(f"Digest {text}")
        except RemoteProtocolError as error:
            return error.reason

    fast = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "_PARAMETER", re.compile(r"(?!)"))
        assert outcome() == fast


def test_a_body_of_the_largest_kind_is_read_in_linear_time() -> None:
    assert manscdp.parse(b"<Notify><CmdType>Keepalive</CmdType>" + b"<a>x</a>" * 50_000 + b"</Notify>") is not None
