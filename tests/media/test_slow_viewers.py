"""A viewer that does not read is moved to a key picture, counted, and costs the others nothing."""

from __future__ import annotations

import itertools

from ops.sim.footage import AccessUnit, Footage
from tests.media.harness import Stage

START = b"\0\0\0\1"
PICTURES = 240
SIZE = 60_000


def heavy(footage: Footage) -> list[AccessUnit]:
    """Pictures of 60 kB, a key picture every 10: real parameter sets, slices nobody decodes."""
    sets = [nal for nal in footage.units[0].data.split(START) if nal and nal[0] & 0x1F in (7, 8)]
    key = b"".join(START + nal for nal in sets) + START + b"\x65" + b"\x55" * SIZE
    delta = START + b"\x41" + b"\x55" * SIZE
    return [
        AccessUnit(
            track="video",
            codec="h264",
            pts=number * 3600,
            dts=number * 3600,
            key=number % 10 == 0,
            data=delta if number % 10 else key,
        )
        for number in range(PICTURES)
    ]


async def test_slow_and_fast_viewers(stage: Stage, footage: dict[str, Footage]) -> None:
    _, lease, camera = stage.open(footage["h264-g711a"], transport="tcp-passive")
    slow = await stage.watch(stage.url(lease, "flv"), limit=1024)
    fast = await stage.watch(stage.url(lease, "flv"))
    units = heavy(footage["h264-g711a"])
    camera.send(units[0])
    camera.send(units[1])
    await fast.flv_header()
    seen = [tag.milliseconds for tag in await fast.pictures(1)]
    for unit in units[2:]:
        camera.send(unit)
        seen += [tag.milliseconds for tag in await fast.pictures(1)]
    assert seen == [number * 40 for number in range(PICTURES - 1)]
    await slow.flv_header()
    got = await slow.pictures(1)
    while got[-1].milliseconds < seen[-1]:
        got += await slow.pictures(1)
    steps = itertools.pairwise(got)
    jumps = [after for before, after in steps if after.milliseconds != before.milliseconds + 40]
    assert jumps
    assert all(tag.data[0] >> 4 == 1 for tag in jumps)
    assert stage.plane.revoke(lease.key, "done").dropped == PICTURES - 1 - len(got)
