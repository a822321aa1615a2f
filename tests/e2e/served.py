"""`mingjian serve` as a process of its own, that can be killed and started again on the same data and ports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import httpx

from sipserver.protocol.ids import UserKey
from tests.e2e.rig import LOCALHOST, ROOT, Client, free_port

START_SECONDS = 60.0


def environment(**settings: object) -> dict[str, str]:
    """The process environment with MINGJIAN_* replaced by `settings` (`sip_port=5060`)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MINGJIAN_")}
    return kept | {f"MINGJIAN_{name.upper()}": str(value) for name, value in settings.items()}


class Served:
    """A platform process. `first_password` after the very first start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sip = (LOCALHOST, free_port())
        self.http_port = free_port()
        hosts = {f"{section}_host": LOCALHOST for section in ("sip", "http", "media")}
        ports = {f"media_{kind}_port": free_port() for kind in ("udp", "tcp", "http")}
        self.ports = {self.sip[1], self.http_port, *ports.values()}
        self.environment = environment(
            data_dir=directory, sip_port=self.sip[1], http_port=self.http_port, **hosts, **ports
        )
        self.first_password = ""
        self._process: Process | None = None

    async def start(self) -> None:
        """Return when it is ready; fails when it ends first."""
        self._process = await self.command("serve")
        await self._ready(self._process)

    async def _ready(self, process: Process) -> None:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while not (line := await process.stdout.readline()).startswith(b"console: "):
                assert line, await words(process)
                assert not line.startswith(b'{"ended"'), "the platform ended before it was ready"
            if not self.first_password:
                line = await process.stdout.readline()
                self.first_password = line.decode().split(" / ")[1].split()[0]

    async def command(self, *line: str) -> Process:
        """A command of the platform on this configuration."""
        return await self.python("-m", "ops.cli", *line)

    async def python(self, *line: str) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *line, cwd=ROOT, env=self.environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )

    async def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.communicate()
        return self._process.returncode or 0

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://{LOCALHOST}:{self.http_port}/api/v1", timeout=30)


class Mortal(Served):
    """A platform that is started many times (tests/e2e/again.py)."""

    pid = 0

    async def start(self) -> None:
        if self._process is None:
            self._process = await self.python("-m", "tests.e2e.again")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        line = await self._process.stdout.readline()
        assert line, await words(self._process)
        self.pid = json.loads(line)["pid"]
        await self._ready(self._process)

    def kill(self) -> None:
        """kill -9, in this very moment."""
        os.kill(self.pid, signal.SIGKILL)

    async def gone(self) -> int:
        """The process has ended; its exit code, -9 when it was killed."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while not (line := await self._process.stdout.readline()).startswith(b'{"ended"'):
                assert line, await words(self._process)
        self.pid = 0
        return os.waitstatus_to_exitcode(json.loads(line)["ended"])

    async def stop(self) -> int:
        code = 0
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            code = await self.gone()
        if self._process is not None:
            await self._process.communicate(b"")  # the end of its input is its end
        return code


async def words(process: Process) -> str:
    """What a process that has ended said last."""
    assert process.stderr is not None
    return f"the platform ended before it was ready\n{(await process.stderr.read()).decode()}"


async def sign_in(http: httpx.AsyncClient, name: str, first: str, own: str) -> Client:
    """First login of an account, one-time password changed."""
    client = Client(http, name, own, UserKey(""))
    client.key = UserKey((await client.login(first))["user"]["key"])
    answer = await http.post("/me/password", json={"current_password": first, "new_password": own})
    assert answer.status_code == 204, answer.text
    return client
