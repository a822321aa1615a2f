"""`mingjian demo` in a fresh directory on other ports: says what it promises, shows a picture, leaves nothing."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from tests.e2e.rig import LOCALHOST, ROOT
from tests.e2e.served import Served

SECONDS = 11
LIMIT = 90.0


class Demo(Served):
    """Its ports and environment are those of a served platform."""

    async def run(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ops.cli", "demo"),
            cwd=ROOT,
            env=self.environment | {"DEMO_SECONDS": str(SECONDS)},
            stdout=PIPE,
            stderr=PIPE,
        )


@pytest.fixture
def demo(tmp_path: Path, demo_footage: Path) -> Demo:
    """A data directory that holds nothing but the pictures, which are the same every time and take long to make."""
    directory = tmp_path / "data"
    shutil.copytree(demo_footage, directory / "footage")
    return Demo(directory)


def belonging(directory: Path) -> list[int]:
    """Processes that work in `directory` or were started for it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            where = os.readlink(entry / "cwd")
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:  # gone meanwhile
            continue
        if where.startswith(str(directory)) or str(directory).encode() in told:
            found.append(int(entry.name))
    return found


def bound(port: int) -> bool:
    """Whether anybody listens on that port."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((LOCALHOST, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((LOCALHOST, port))
            tcp.listen(1)
    except OSError:
        return True
    return False


async def lines_until(stream: asyncio.StreamReader | None, pattern: str, said: list[str]) -> str:
    """Read on until a line matches; all of them go to `said`."""
    assert stream is not None
    while line := (await stream.readline()).decode().rstrip("\n"):
        said.append(line)
        if re.match(pattern, line):
            return line
    pytest.fail("the demo ended without saying it:\n" + "\n".join(said))


async def test_shows_a_picture_and_leaves_nothing(demo: Demo) -> None:
    said: list[str] = []
    async with asyncio.timeout(LIMIT):
        process = await demo.run()
        await lines_until(process.stdout, "ready after", said)
        assert len(belonging(demo.directory)) >= 6  # platform, both databases, four simulators
        assert all(bound(port) for port in demo.ports)
        picture = await lines_until(process.stdout, "first picture", said)
        rest, words = await process.communicate()
    assert (process.returncode, words.decode()) == (0, "")
    assert re.fullmatch(r"first picture: 中山北路与北京路路口 after \d+\.\d s", picture)
    text = "\n".join(said)
    assert f"http://127.0.0.1:{demo.http_port}/" in text
    assert (
        len(re.findall(r"^(?:administrator|duty officer): .* / \S{14,} .*one-time password", text, re.MULTILINE)) == 2
    )
    assert rest.decode().splitlines()[-1].startswith("stopping")
    assert belonging(demo.directory) == []
    assert not any(bound(port) for port in demo.ports)


async def test_a_taken_port_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    kinds = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for name, kind in kinds.items():
            group.create_task(refused(Demo(tmp_path / name), kind))


async def refused(demo: Demo, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(demo.sip)
        if kind == socket.SOCK_STREAM:
            taken.listen(1)
        process = await demo.run()
        output, words = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    (line,) = words.decode().splitlines()
    assert str(demo.sip[1]) in line
    assert "MINGJIAN_SIP_PORT" in line
    assert not demo.directory.exists()
