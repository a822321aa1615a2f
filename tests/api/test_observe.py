"""Logs and metrics carry no address code, name, credential or ticket, whatever way the text takes."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import Counter, Gauge, generate_latest

from ops import observe

CODE = "34020000001320000001"
SECRETS = (
    ("camera 34020000001320000001 gone", CODE),
    ("old 340200000013200000 code", "340200000013200000"),
    ("x34020000001320000001y", CODE),
    ("two 3402000000132000000134020000001320000002", "0000001320000002"),
    ("identity 11010519491231002X", "11010519491231002X"),
    ("Authorization: Bearer dGhpcyBpcyBhIHRva2Vu", "dGhpcyBp"),
    ("used bearer dGhpcyBpcyBhIHRva2Vu here", "dGhpcyBp"),
    ('Authorization: Digest username="34020000001320000001", response="d41d8cd98f00b204"', "d41d8cd9"),
    ('got Digest username="cam", response="d41d8cd98f00b204"', "d41d8cd9"),
    ("GET /live/Zm9vYmFy-_x.flv HTTP/1.1", "Zm9vYmFy"),
    ("ws://h:8081/live/Zm9vYmFy.mp4", "Zm9vYmFy"),
    ("/live/Zm9vYmFy", "Zm9vYmFy"),
    ("postgresql://app:hunter2@127.0.0.1/db", "hunter2"),
    ("password=hunter2", "hunter2"),
    ('{"password": "hunter2 and more"}', "hunter2"),
    ("new_password='hunter2'", "hunter2"),
    ("token: hunter2", "hunter2"),
    ("口令：x 密码=hunter2", "hunter2"),
    ("x" * (observe.MAX_TEXT - 8) + CODE, CODE[:8]),
)


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_scrub_removes_the_secret(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in observe.scrub(text)


@pytest.mark.parametrize(
    "text", ["basic settings", "a bearer token is required", "port 30000", "dev_abc2", "0200000001"]
)
def test_scrub_leaves_plain_texts_alone(text: str) -> None:
    assert observe.scrub(text) == text


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "-", "password", "password ", "bearer ", "/live/", "://", "a:", "digest a", "auth", "\n", "token="],
)
def test_scrub_takes_bounded_time_and_space_whatever_a_peer_sends(unit: str) -> None:
    text = unit * 1_000_000
    started = time.perf_counter()
    assert len(observe.scrub(text)) <= 2 * observe.MAX_TEXT
    assert time.perf_counter() - started < 0.5


class Tick:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Tick:
    return Tick()


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_one_json_line_an_event_with_everything_nested_redacted(out: io.StringIO, clock: Tick) -> None:
    observe.configure(clock=clock, stream=out)
    log = structlog.get_logger("mingjian.sip")
    log.info(
        "register",
        device="dev_x",
        raw=CODE.encode(),
        number=int(CODE),
        nested={"list": [CODE, {"password": "hunter2", CODE: 1}]},
        token="abc",
        token_expired=True,
        code=403,
    )
    (line,) = lines(out)
    assert line["time"] == "2023-11-14T22:13:20.000+00:00"
    assert (line["level"], line["logger"], line["event"]) == ("info", "mingjian.sip", "register")
    assert line["device"] == "dev_x"
    assert line["code"] == 403
    assert line["token_expired"] is True
    assert line["token"] == "[redacted]"
    assert CODE not in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_exception_texts_are_redacted_and_stay_on_one_line(out: io.StringIO, clock: Tick) -> None:
    observe.configure(clock=clock, stream=out)
    try:
        raise ValueError(f"no camera {CODE} password=hunter2")
    except ValueError:
        structlog.get_logger("mingjian.x").exception("failed")
    (line,) = lines(out)
    assert "ValueError" in line["exception"]
    assert CODE not in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_library_records_take_the_same_way(out: io.StringIO, clock: Tick) -> None:
    observe.configure(clock=clock, stream=out)
    logging.getLogger("asyncpg").warning("row %s Bearer %s", CODE, "abcdefghijk")
    logging.getLogger("uvicorn.access").info("GET /live/ticket.flv")
    (line,) = lines(out)
    assert (line["logger"], line["level"]) == ("asyncpg", "warning")
    assert CODE not in out.getvalue()
    assert "abcdefghijk" not in out.getvalue()


def test_repeated_faults_are_counted_not_repeated(out: io.StringIO, clock: Tick) -> None:
    observe.configure(clock=clock, stream=out)
    log = structlog.get_logger("mingjian.sip")
    for _ in range(1000):
        log.warning("bad_packet", error="Short")
    log.warning("bad_packet", error="Other")
    assert len(lines(out)) == 6
    clock.now += 31
    log.info("anything")
    records = lines(out)[6:]
    assert records[0]["repeated"] == 995
    assert records[0]["error"] == "Short"
    assert records[1]["event"] == "anything"
    log.warning("bad_packet", error="Short")
    assert len(lines(out)) == 9


def test_flush_tells_what_was_held_back_and_information_is_never_held(out: io.StringIO, clock: Tick) -> None:
    handle = observe.configure(clock=clock, stream=out)
    log = structlog.get_logger("mingjian.sip")
    for _ in range(10):
        log.info("fine")
        log.error("broken")
    assert len(lines(out)) == 15
    handle.flush()
    assert lines(out)[-1]["repeated"] == 5


def test_the_table_of_faults_is_bounded(clock: Tick) -> None:
    emitted: list[Any] = []
    coalescer = observe.Coalescer(clock=clock, emit=emitted.append, keys=3, burst=1)
    for number in range(100):
        for _ in range(2):
            try:
                coalescer(None, "error", {"event": f"e{number}", "level": "error"})
            except structlog.DropEvent:
                continue
    assert len(emitted) == 97
    coalescer.flush()
    assert len(emitted) == 100


def test_text_format_is_one_line_too(out: io.StringIO, clock: Tick) -> None:
    observe.configure(clock=clock, stream=out, fmt="text")
    structlog.get_logger("mingjian.x").info("two", text=f"a\nb {CODE}")
    assert out.getvalue().count("\n") == 1
    assert CODE not in out.getvalue()


def test_the_level_counter_counts_held_back_records_too(out: io.StringIO, clock: Tick) -> None:
    registry = observe.make_registry()
    observe.configure(clock=clock, stream=out, counter=observe.log_counter(registry))
    for _ in range(20):
        structlog.get_logger("x").error("e")
    assert registry.get_sample_value("mingjian_log_records_total", {"level": "error"}) == 20


def test_foreign_names_and_open_labels_are_refused_at_registration() -> None:
    registry = observe.make_registry()
    with pytest.raises(observe.RefusedMetric):
        Counter("requests", "x", registry=registry)
    with pytest.raises(observe.RefusedMetric):
        Counter("mingjian_x", "x", ["device"], registry=registry)


def test_an_address_code_in_a_label_is_never_shown_and_the_refusal_is() -> None:
    registry = observe.make_registry()
    gauge = Gauge("mingjian_things", "x", ["kind"], registry=registry)
    gauge.labels(kind=CODE).set(1)
    gauge.labels(kind="camera").set(2)
    generate_latest(registry)
    page = generate_latest(registry).decode()
    assert CODE not in page
    assert 'mingjian_things{kind="camera"} 2.0' in page
    assert registry.refused == 2
    assert "mingjian_metrics_refused_total 1.0" in page


def test_series_are_bounded() -> None:
    registry = observe.make_registry()
    gauge = Gauge("mingjian_many", "x", ["kind"], registry=registry)
    for number in range(observe.MAX_SERIES + 50):
        gauge.labels(kind=f"k{number}").set(1)
    assert generate_latest(registry).decode().count("mingjian_many{") == observe.MAX_SERIES
