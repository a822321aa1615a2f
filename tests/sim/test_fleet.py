"""Simulators as processes: they register over real sockets, send pictures, leave in order, die with their parent."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import av
import pytest

from ops.sim.barcode import read_frame_number
from ops.sim.device import PASSWORD_VARIABLE, BadArguments, read_deviations, read_password
from ops.sim.fleet import Fleet, FleetError, SimSpec, Upper, command_line, start_fleet
from ops.sim.ps_mux import Deviations
from tests.sim.scripted import DEVICE, DOMAIN, SERVER, Text

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0


class Registrar(asyncio.DatagramProtocol):
    """Accepts whoever answers a challenge; tells who came and keeps what else is said."""

    def __init__(self) -> None:
        self.registered: asyncio.Queue[tuple[Text, tuple[str, int]]] = asyncio.Queue()
        self.left: asyncio.Queue[Text] = asyncio.Queue()
        self.answers: asyncio.Queue[Text] = asyncio.Queue()
        self.seen: set[str] = set()
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = Text.read(data)
        if message.start.startswith("SIP/2.0"):
            self.answers.put_nowait(message)
        elif message.method == "REGISTER" and "authorization" not in message.headers:
            self.send(message, addr, "401 Unauthorized", f'WWW-Authenticate: Digest realm="{DOMAIN}", nonce="abc"')
        else:
            self.send(message, addr, "200 OK", "Expires: 3600")
            if message.method == "REGISTER" and message.headers["via"] not in self.seen:
                self.seen.add(message.headers["via"])
                if message.headers["expires"] == "0":
                    self.left.put_nowait(message)
                else:
                    self.registered.put_nowait((message, addr))

    def send(self, request: Text, addr: tuple[str, int], status: str, extra: str) -> None:
        assert self.transport is not None
        lines = [f"SIP/2.0 {status}", extra]
        lines += [f"{name}: {request.headers[name.lower()]}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
        self.transport.sendto(("\r\n".join([*lines, "Content-Length: 0"]) + "\r\n\r\n").encode(), addr)

    def ask(self, method: str, addr: tuple[str, int], body: bytes, *extra: str) -> None:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")[:2]
        lines = [
            f"{method} sip:{DEVICE}@{DOMAIN} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{method}",
            f"From: <sip:{SERVER}@{DOMAIN}>;tag=up",
            "Call-ID: one-call",
            f"CSeq: 1 {'INVITE' if method in ('INVITE', 'ACK') else method}".replace("1 INVITE", f"1 {method}"),
            f"Contact: <sip:{SERVER}@{host}:{port}>",
            "Max-Forwards: 70",
            *extra,
            f"Content-Length: {len(body)}",
        ]
        self.transport.sendto(("\r\n".join(lines) + "\r\n\r\n").encode() + body, addr)


class Packets(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.queue.put_nowait(data)


@asynccontextmanager
async def registrar() -> AsyncIterator[tuple[Registrar, Upper]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Registrar, local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")[:2]
    try:
        async with asyncio.timeout(PATIENCE):
            yield protocol, Upper(address=f"{host}:{port}", code=SERVER, domain=DOMAIN)
    finally:
        transport.close()


def ipc(media: Path, name: str = "路口") -> SimSpec:
    return SimSpec(kind="ipc", code=DEVICE, name=name, password="secret-word", media=(media,))


async def test_a_device_registers_shows_its_picture_and_leaves(short_path: Path) -> None:
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    media, packets = await loop.create_datagram_endpoint(Packets, local_addr=("127.0.0.1", 0))
    async with registrar() as (platform, upper), AsyncExitStack() as stack:
        fleet = await start_fleet([ipc(short_path)], upper, listen=lambda _, event, detail: heard.append(event))
        await stack.enter_async_context(fleet)
        _, address = await platform.registered.get()
        await fleet.wait_registered()
        port = media.get_extra_info("sockname")[1]
        offer = f"v=0\r\no={SERVER} 0 0 IN IP4 127.0.0.1\r\ns=Play\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        offer += f"m=video {port} RTP/AVP 96\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\ny=0200003312\r\n"
        to = f"To: <sip:{DEVICE}@{DOMAIN}>"
        platform.ask("INVITE", address, offer.encode(), to, "Content-Type: application/sdp")
        while (answer := await platform.answers.get()).status == 100:
            pass
        assert answer.status == 200
        platform.ask("ACK", address, b"", f"To: {answer.headers['to']}")
        received = [await packets.queue.get() for _ in range(100)]
        codes = await fleet.stop()
        await platform.left.get()
    media.close()
    assert codes == {"路口": 0}
    assert {"registered", "invite", "media_started", "media_stopped"} <= set(heard)
    stream = b"".join(packet[12:] for packet in received)
    assert {packet[8:12] for packet in received} == {(200_003_312).to_bytes(4, "big")}
    with av.open(io.BytesIO(stream), "r", format="mpeg") as container:
        picture = next(container.decode(video=0)).reformat(format="gray")
    plane = picture.planes[0]
    mark = read_frame_number(bytes(plane), width=picture.width, height=picture.height, stride=plane.line_size)
    assert mark is not None
    assert mark.camera == 7
    assert mark.frame % 10 == 0  # a key frame


async def test_stopping_leaves_no_processes(short_path: Path) -> None:
    async with registrar() as (_, upper), AsyncExitStack() as stack:
        fleet = await start_fleet([ipc(short_path, "a"), ipc(short_path, "b")], upper)
        await stack.enter_async_context(fleet)
        await fleet.wait_registered()
        pids = [simulator.process.pid for simulator in fleet.simulators.values()]
        codes = await fleet.stop()
    assert codes == {"a": 0, "b": 0}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_simulator_that_cannot_start_is_named_with_its_words(tmp_path: Path) -> None:
    async with registrar() as (_, upper):
        fleet = await start_fleet([ipc(tmp_path / "absent.mjf")], upper)
        try:
            with pytest.raises(FleetError, match=r"路口 ended with code 2 [\s\S]*absent\.mjf"):
                await fleet.wait_registered()
        finally:
            await fleet.stop()


async def test_two_of_the_same_name_are_refused_and_none_is_left(short_path: Path) -> None:
    with pytest.raises(FleetError, match="called 路口"):
        await start_fleet([ipc(short_path), ipc(short_path)], Upper(address="127.0.0.1:9", code=SERVER, domain=DOMAIN))


_PARENT = """
import asyncio, json, sys
from pathlib import Path
from typing import cast
from ops.sim.fleet import SimSpec, Upper, start_fleet
async def main():
    address, media = sys.argv[1:]
    spec = SimSpec(kind="ipc", code="34020000001320000001", name="x", password="secret-word", media=(Path(media),))
    upper = Upper(address=address, code="34020000002000000001", domain="3402000000")
    fleet = await start_fleet([spec], upper)
    await fleet.wait_registered()
    print(json.dumps([simulator.process.pid for simulator in fleet.simulators.values()]), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_simulators_die_with_a_parent_that_is_killed(short_path: Path) -> None:
    async with registrar() as (_, upper):
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PARENT, upper.address, str(short_path), cwd=ROOT, stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            (pid,) = json.loads(await parent.stdout.readline())
            handle = os.pidfd_open(pid)
            loop.add_reader(handle, gone.set)
        finally:
            parent.send_signal(signal.SIGKILL)
            await parent.wait()
        await gone.wait()
        loop.remove_reader(handle)
        os.close(handle)


def test_the_password_is_never_an_argument(short_path: Path) -> None:
    upper = Upper(address="127.0.0.1:5060", code=SERVER, domain=DOMAIN)
    line = command_line(ipc(short_path), upper)
    assert "secret-word" not in " ".join(line)
    assert "secret-word" not in repr(ipc(short_path))


def test_without_a_password_there_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(BadArguments, match="no password"):
        read_password(None)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(BadArguments, match="no password"):
        read_password(tmp_path / "empty")
    monkeypatch.setenv(PASSWORD_VARIABLE, "from-the-environment")
    assert read_password(None) == "from-the-environment"


def test_deviations_are_read_from_the_command_line() -> None:
    assert read_deviations(["no_psm", "drop_every=50", "wrong_ssrc=0"]) == Deviations(
        no_psm=True, drop_every=50, wrong_ssrc=0
    )
    for wrong in ("nonsense", "no_psm=3", "drop_every", "drop_every=x"):
        with pytest.raises(BadArguments):
            read_deviations([wrong])


def test_bad_arguments_end_with_code_2_and_one_line(short_path: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    good = ["--server", "127.0.0.1:5060", "--server-id", SERVER, "--domain", DOMAIN, "--id", DEVICE]
    good += ["--password-file", str(tmp_path / "password"), "--media", str(short_path)]
    for wrong in (["--id", "123"], ["--server", "nowhere"], ["--deviation", "x"], ["--kind", "ipc-h265"]):
        command = [sys.executable, "-m", "ops.sim.device", *good, *wrong]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
        assert ended.returncode == 2
        assert len(ended.stderr.strip().splitlines()) == 1


async def test_an_empty_fleet_stops_at_once() -> None:
    fleet: Fleet = await start_fleet([], Upper(address="127.0.0.1:9", code=SERVER, domain=DOMAIN))
    await fleet.wait_registered()
    assert await fleet.stop() == {}
