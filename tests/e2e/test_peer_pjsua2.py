"""A user agent on PJSIP: digest registration over UDP and TCP, keepalives, wrong password, unregistration."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.peers import lines, pjsua_device
from tests.e2e.rig import PATIENCE, Rig

PASSWORD = "another Camera 8"


async def said(child: Process, event: str) -> dict[str, Any]:
    """The next line about `event`."""
    async with asyncio.timeout(PATIENCE):
        async for line in lines(child):
            if line["event"] == event:
                return line
    words = await child.stderr.read() if child.stderr else b""
    pytest.fail(f"the user agent ended without saying {event!r}\n{words.decode()}")


@pytest.mark.parametrize(("transport", "code"), [("udp", "34020000001320000911"), ("tcp", "34020000001320000912")])
async def test_registers_keeps_alive_and_leaves(rig: Rig, tmp_path: Path, transport: str, code: str) -> None:
    key = await rig.admit(code, PASSWORD)
    begun = rig.platform.clock()
    async with pjsua_device(rig, tmp_path, id=code, password=PASSWORD, transport=transport, keepalives=3) as child:
        ready = await said(child, "ready")
        assert ready["answers"] == [200, 200, 200]
        device = await rig.device(key)
        assert device.online
        assert device.binding is not None
        assert device.binding.transport == transport
        registered = device.binding.registered_at
        assert begun <= registered <= rig.platform.clock()

        async def heard() -> bool:
            return ((await rig.device(key)).last_seen_at or 0) > registered

        await rig.until(heard, "the keepalives move the time of the last sign of life")
        assert child.stdin is not None
        child.stdin.write(b"\n")
        assert (await said(child, "done"))["code"] == 200
        assert await child.wait() == 0
    assert not (await rig.device(key)).online


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_wrong_password_is_refused(rig: Rig, tmp_path: Path, transport: str) -> None:
    code = {"udp": "34020000001320000913", "tcp": "34020000001320000914"}[transport]
    key = await rig.admit(code, PASSWORD)
    before = len(rig.journal.records)
    async with pjsua_device(
        rig, tmp_path, id=code, password="not this one 9", transport=transport, keepalives=1
    ) as child:
        assert (await said(child, "refused"))["code"] == 403
    device = await rig.device(key)
    assert not device.online
    assert device.binding is None
    (fault,) = rig.journal.faults(since=before)
    assert (fault["event"], fault["code"], fault["reason"]) == ("register_refused", 403, "credentials_wrong")
