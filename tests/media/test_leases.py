"""No lease, no byte: what ends a view, and which tickets open nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from media.session import MediaError, Output
from ops.sim.footage import Footage
from sipserver.protocol.ids import LeaseKey
from tests.media.harness import Stage, frame_numbers, make_lease


async def test_a_revoked_lease_cuts_its_viewers_alone(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, camera = stage.open(footage["h264-g711a"])
    other = make_lease()
    stage.plane.grant(session, other)
    cut = await stage.watch(stage.url(lease, "flv"))
    kept = await stage.watch(stage.url(other, "flv"))
    await stage.send(camera, 4)
    for viewer in (cut, kept):
        await viewer.flv_header()
        await viewer.pictures(3)
    unused = stage.url(lease, "flv")
    stats = stage.plane.revoke(lease.key, "withdrawn")
    assert (stats.viewers, stats.dropped) == (1, 0)
    assert stats.frames >= 3
    assert stats.bytes >= len(cut.body)
    await cut.rest()
    assert (await stage.event("viewer_closed")).detail["reason"] == "withdrawn"
    assert b" 403 " in await stage.answer(unused)
    with pytest.raises(MediaError, match="lease_over"):
        stage.plane.ticket(lease.key, "flv")
    await stage.send(camera, 4)
    await kept.pictures(3)
    assert stage.plane.stats().viewers == 1


async def test_an_expired_lease_cuts_within_a_second(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, camera = stage.open(footage["h264-g711a"], lease=make_lease(0.8))
    viewer = await stage.watch(stage.url(lease, "flv"))
    await stage.send(camera, 2)
    await viewer.flv_header()
    await viewer.rest()
    assert lease.not_after <= time.time() < lease.not_after + 1
    expired = await stage.event("lease_expired")
    assert (expired.session, expired.lease) == (session, lease.key)
    await stage.send(camera, 2)
    with pytest.raises(MediaError, match=r"lease_over|unknown"):
        stage.plane.ticket(lease.key, "flv")


async def test_without_a_living_lease_packets_are_counted_and_dropped(
    stage: Stage, footage: dict[str, Footage]
) -> None:
    session, _, camera = stage.open(footage["h264-g711a"], lease=make_lease(0.3))
    await stage.event("lease_expired")
    await stage.send(camera, 10)
    unleased = camera.packets
    await stage.counted(session, lambda stats: stats.unleased == unleased)
    later = make_lease()
    stage.plane.grant(session, later)
    viewer = await stage.watch(stage.url(later, "flv"))
    # Picture 10 begins a new group: what was sent without a lease must not come before it.
    await stage.send(camera, 4)
    await viewer.flv_header()
    tags = await viewer.pictures(4)
    stats = await stage.counted(session, lambda stats: stats.video_frames == 4)
    assert (stats.unleased, stats.key_frames, stats.rejected) == (unleased, 1, 0)
    assert [tag.milliseconds for tag in tags if tag.kind == 9] == [0, 200, 400, 600]
    assert [number for number, _ in frame_numbers(bytes(viewer.body), "flv")] == [10, 11, 12, 13]


async def test_a_renewed_lease_lives_on(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, camera = stage.open(footage["h264-g711a"], lease=make_lease(0.5))
    viewer = await stage.watch(stage.url(lease, "flv"))
    stage.plane.renew(lease.key, time.time() + 20, audio=True)
    short = make_lease(0.8)
    stage.plane.grant(next(iter({(await stage.event("viewer_opened")).session})), short)
    # When the second lease has expired, the first would have, too.
    assert (await stage.event("lease_expired")).lease == short.key
    await stage.send(camera, 3)
    await viewer.flv_header()
    await viewer.pictures(2)


async def test_closing_the_session_ends_everything(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, _camera = stage.open(footage["h264-g711a"])
    viewer = await stage.watch(stage.url(lease, "flv"))
    stage.plane.close_session(session, "bye")
    assert await viewer.rest() == b""
    assert (await stage.event("viewer_closed")).session == session
    assert stage.plane.session_stats(session) is None
    with pytest.raises(MediaError, match="unknown"):
        stage.plane.close_session(session, "bye")


async def test_stopping_closes_viewers(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, _camera = stage.open(footage["h264-g711a"])
    viewer = await stage.watch(stage.url(lease, "flv"))
    await asyncio.to_thread(stage.plane.stop)
    assert await viewer.rest() == b""
    assert stage.told("viewer_closed") == 1
    assert not stage.plane.healthy()
    with pytest.raises(MediaError, match="stopped"):
        stage.plane.stats()


@pytest.mark.parametrize(("asked", "used"), [("flv", "http-fmp4"), ("http-fmp4", "flv"), ("ws-fmp4", "http-fmp4")])
async def test_a_ticket_opens_its_own_output_alone(
    stage: Stage, footage: dict[str, Footage], asked: Output, used: Output
) -> None:
    _, lease, _camera = stage.open(footage["h264-g711a"])
    ending = {"flv": "flv", "http-fmp4": "mp4", "ws-fmp4": "mp4"}
    url = stage.url(lease, asked).replace("ws:", "http:").rpartition(".")[0] + "." + ending[used]
    assert b" 403 " in await stage.answer(url)


async def test_refusals_are_alike_and_never_repeat_the_ticket(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, _camera = stage.open(footage["h264-g711a"])
    url = stage.url(lease, "flv")
    await stage.watch(url)
    host = url.partition("/live/")[0]
    answers = {
        await stage.answer(url),
        await stage.answer(f"{host}/live/{'a' * 32}.flv"),
        await stage.answer(f"{host}/live/x.flv"),
        await stage.answer(stage.url(lease, "flv", client_ip="192.0.2.9")),
        await stage.answer(stage.url(lease, "flv"), "Origin: https://evil.example\r\n"),
    }
    assert len(answers) == 1
    (refusal,) = answers
    assert refusal.startswith(b"HTTP/1.1 403 ")
    assert url.rpartition("/")[2].partition(".")[0].encode() not in refusal
    assert stage.plane.stats().refused == 5


async def test_a_ticket_of_the_right_address_and_origin_opens(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, _camera = stage.open(footage["h264-g711a"])
    viewer = await stage.watch(stage.url(lease, "flv", client_ip="127.0.0.1"), "Origin: https://console.example\r\n")
    assert "Access-Control-Allow-Origin: https://console.example\r\n" in viewer.head


async def test_a_ticket_expires(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, _camera = stage.open(footage["h264-g711a"])
    path = stage.plane.ticket(lease.key, "flv", ttl=0.05)
    marker = make_lease(0.2)
    stage.plane.grant(session, marker)
    await stage.event("lease_expired")
    assert b" 403 " in await stage.answer(f"http://127.0.0.1:{stage.plane.ports[2]}{path}")


async def test_commands_are_refused_with_a_code(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, _camera = stage.open(footage["h264-g711a"])
    with pytest.raises(MediaError, match="lease_too_long"):
        stage.plane.renew(lease.key, time.time() + 60, audio=True)
    with pytest.raises(MediaError, match="lease_over"):
        stage.plane.grant(session, make_lease(-1))
    with pytest.raises(MediaError, match="unknown"):
        stage.plane.renew(LeaseKey("lea_nobody"), time.time() + 5, audio=True)
    with pytest.raises(MediaError, match="bad_argument"):
        stage.plane.add_source(session, "camera.example")
    with pytest.raises(MediaError, match="bad_argument"):
        stage.plane.ticket(lease.key, "flv", ttl=float("nan"))
