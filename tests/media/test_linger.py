"""After the last viewer has left: the engine still receives for the next one, and gives nothing to anybody."""

from __future__ import annotations

import pytest

from media.session import MediaError
from ops.sim.footage import Footage
from tests.media.harness import Stage, frame_numbers, make_lease


async def test_who_comes_back_has_the_newest_group_at_once(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, camera = stage.open(footage["h264-g711a"])
    viewer = await stage.watch(stage.url(lease, "flv"))
    await stage.send(camera, 4)
    await viewer.flv_header()
    await viewer.pictures(4)
    unused = stage.url(lease, "flv")
    stats = stage.plane.release(lease.key, "viewer_closed")
    assert (stats.viewers, stats.frames) == (1, 4)
    assert (await stage.event("viewer_closed")).detail["reason"] == "viewer_closed"
    # While nobody watches: received and kept, and not a byte out.
    given = stage.plane.stats().bytes_out
    await stage.send(camera, 9)
    await stage.counted(session, lambda stats: stats.video_frames == 13)
    counted = stage.plane.stats()
    assert (counted.bytes_out, counted.viewers, counted.leases) == (given, 0, 0)
    assert b" 403 " in await stage.answer(unused)
    with pytest.raises(MediaError, match=r"lease_over|unknown"):
        stage.plane.ticket(lease.key, "flv")
    # The next viewer: picture 10 began the newest group. Nothing is sent any more: what he sees was kept.
    later = make_lease()
    assert stage.plane.grant(session, later) is True
    back = await stage.watch(stage.url(later, "flv"))
    await back.flv_header()
    await back.pictures(3)
    assert [number for number, _ in frame_numbers(bytes(back.body), "flv")] == [10, 11, 12]
    stats_now = stage.plane.session_stats(session)
    assert stats_now is not None
    assert stats_now.unleased == 0


async def test_after_a_cut_nothing_is_kept(stage: Stage, footage: dict[str, Footage]) -> None:
    """The negative control: the same story, but the lease was cut. A released one before it does not help."""
    session, lease, camera = stage.open(footage["h264-g711a"])
    left = make_lease()
    stage.plane.grant(session, left)
    await stage.send(camera, 4)
    stage.plane.release(left.key, "viewer_closed")
    stage.plane.revoke(lease.key, "E_GRANT_REVOKED")
    before = camera.packets
    await stage.send(camera, 9)
    refused = camera.packets - before
    await stage.counted(session, lambda stats: stats.unleased == refused)
    later = make_lease()
    assert stage.plane.grant(session, later) is False
    back = await stage.watch(stage.url(later, "flv"))
    # The rest of the group that began at 10 is of no use; the next begins at 20.
    await stage.send(camera, 9)
    await back.flv_header()
    await back.pictures(2)
    assert [number for number, _ in frame_numbers(bytes(back.body), "flv")] == [20, 21]


async def test_what_is_left_of_a_released_lease_ends_at_its_time(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, camera = stage.open(footage["h264-g711a"], lease=make_lease(0.6))
    await stage.send(camera, 3)
    stage.plane.release(lease.key, "viewer_left")
    # The mark ends a little later than the released lease: when it is told, that one is over, too.
    mark = make_lease(0.9)
    stage.plane.grant(session, mark)
    assert (await stage.event("lease_expired")).lease == mark.key
    assert stage.told("lease_expired") == 0
    before = camera.packets
    await stage.send(camera, 2)
    refused = camera.packets - before
    assert (await stage.counted(session, lambda stats: stats.unleased == refused)).unleased == refused


async def test_releasing_what_is_over_is_harmless(stage: Stage, footage: dict[str, Footage]) -> None:
    session, lease, _camera = stage.open(footage["h264-g711a"])
    stage.plane.release(lease.key, "viewer_left")
    stage.plane.release(lease.key, "viewer_left")
    stage.plane.close_session(session, "grace_over")
    assert stage.plane.release(lease.key, "viewer_left").viewers == 0
    assert stage.told("lease_expired") == 0
