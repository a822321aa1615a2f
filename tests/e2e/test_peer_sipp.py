"""SIPp registers five hundred devices with digest and sends their keepalives; all are online afterwards."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

from sipserver.protocol.ids import GbId
from tests.e2e.peers import PEERS, process
from tests.e2e.rig import DOMAIN, LOCALHOST, PLATFORM, Rig, need

DEVICES = 500
RATE = 100  # calls a second
PATIENCE = 60.0


def code(number: int) -> str:
    return f"3402000000132{number:07d}"


def password(number: int) -> str:
    return f"Sipp-{number * 7919 % 99991:05d}-{number}"


async def provision(rig: Rig) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(DEVICES):
            group.create_task(rig.admit(code(number), password(number), name=f"camera {number}"))


def injection(file: Path, *, wrong: int | None = None) -> None:
    """One line a device; the password of device `wrong` is not its own."""
    lines = ["SEQUENTIAL"]
    for number in range(DEVICES):
        given = "guessed" if number == wrong else password(number)
        answer = f"[authentication username={code(number)} password={given}]"
        lines.append(f"{code(number)};{answer};;{PLATFORM};{DOMAIN}")
    file.write_text("\n".join(lines) + "\n", "utf-8")


async def run_sipp(rig: Rig, folder: Path, *, calls: int) -> tuple[int, dict[str, str]]:
    """Exit code and last line of SIPp's statistics."""
    figures = folder / "figures.csv"
    line = [need("sipp"), f"{LOCALHOST}:{rig.platform.sip_port}", "-sf", str(PEERS / "sipp_register_keepalive.xml")]
    line += ["-inf", str(folder / "devices.csv"), "-i", LOCALHOST, "-t", "u1", "-m", str(calls), "-r", str(RATE)]
    line += ["-nostdin", "-trace_stat", "-stf", str(figures), "-fd", "1", "-timeout", f"{PATIENCE:.0f}s"]
    async with process(*line) as child:
        async with asyncio.timeout(PATIENCE + 10):
            await child.communicate()
    with figures.open(encoding="utf-8") as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    return child.returncode or 0, last


async def test_five_hundred_devices(rig: Rig, tmp_path: Path) -> None:
    await provision(rig)
    injection(tmp_path / "devices.csv")
    exit_code, figures = await run_sipp(rig, tmp_path, calls=DEVICES)
    assert (figures["SuccessfulCall(C)"], figures["FailedCall(C)"]) == (str(DEVICES), "0")
    assert exit_code == 0
    stored = await rig.platform.store.bindings()
    assert {gb_id for _, gb_id, _, _ in stored} == {GbId(code(number)) for number in range(DEVICES)}
    counters = rig.platform.signalling.registrar.counters
    assert counters["accepted"] == DEVICES
    assert counters["refused"] == 0


async def test_control_a_wrong_password_is_a_failed_call(rig: Rig, tmp_path: Path) -> None:
    injection(tmp_path / "devices.csv", wrong=3)
    exit_code, figures = await run_sipp(rig, tmp_path, calls=5)
    assert figures["FailedCall(C)"] == "1"
    assert exit_code != 0


@pytest.fixture(autouse=True)
def programs() -> None:
    need("sipp")
