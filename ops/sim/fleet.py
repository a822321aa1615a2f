"""Starts simulated devices and lower platforms as processes of their own and stops them without leaving anything.

Every process leads its own group, dies with us (prctl, ops/sim/device.py) and gets its password in its environment,
which only its own user can read: nothing is left on disk, however we end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from ops.sim.device import PASSWORD_VARIABLE
from ops.sim.library import DEMO_FOOTAGE

log = structlog.get_logger("mingjian.sim.fleet")
Kind = Literal["ipc", "ipc-h265", "nvr", "lower"]
Listener = Callable[[str, str, str], None]
_KEPT_LINES = 40
_ROOT = Path(__file__).resolve().parents[2]  # where the packages lie; simulators are started from anywhere


class FleetError(Exception):
    """A simulator ended or did not register; the text names it and its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSpec:
    """One process. ``media``: footage files; for a lower platform they are given by scene in ``scenes``.

    ``channels``: (code, name) of an NVR, one per footage file. ``options``: further arguments of the command line.
    """

    kind: Kind
    code: str = field(repr=False)
    name: str
    password: str = field(repr=False)
    media: tuple[Path, ...] = ()
    scenes: Mapping[str, Path] = field(default_factory=dict)
    channels: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    transport: Literal["udp", "tcp"] = "udp"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upper:
    """The platform the simulators register at: ``address`` is host:port."""

    address: str
    code: str = field(repr=False)
    domain: str


class Simulator:
    """A running process."""

    def __init__(self, spec: SimSpec, process: asyncio.subprocess.Process, listen: Listener | None) -> None:
        self.spec = spec
        self.process = process
        self.registered = asyncio.Event()
        self.errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listen = listen
        self._readers = [asyncio.create_task(self._read_events()), asyncio.create_task(self._read_errors())]

    async def _read_events(self) -> None:
        stream = self.process.stdout
        while stream is not None and (line := await stream.readline()):
            told = json.loads(line)
            if told["event"] == "registered":
                self.registered.set()
            elif told["event"] in ("connection_lost", "keepalive_refused", "keepalive_unanswered"):
                self.registered.clear()
            if self._listen is not None:
                self._listen(self.spec.name, told["event"], told["detail"])

    async def _read_errors(self) -> None:
        stream = self.process.stderr
        while stream is not None and (line := await stream.readline()):
            self.errors.append(line.decode(errors="replace").rstrip())

    async def wait_registered(self) -> None:
        """Return when the device says it is registered; FleetError when it ends first."""
        waiting = [asyncio.create_task(self.registered.wait()), asyncio.create_task(self.process.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        if not self.registered.is_set():
            words = "\n".join(self.errors)
            raise FleetError(f"{self.spec.name} ended with code {self.process.returncode} before registering\n{words}")

    async def stop(self, *, patience: float) -> int:
        """SIGTERM (unregister), after ``patience`` seconds SIGKILL to the group; returns the exit code."""
        if self.process.returncode is None:
            _signal_group(self.process.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(patience):
                    await self.process.wait()
            except TimeoutError:
                log.warning("simulator_killed", name=self.spec.name)
        _signal_group(self.process.pid, signal.SIGKILL)
        code = await self.process.wait()
        await asyncio.wait(self._readers)
        return code


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # nobody of that group is left, which is what we want


class Fleet:
    """The running simulators; use as ``async with await start_fleet(…) as fleet`` or call stop()."""

    def __init__(self) -> None:
        self.simulators: dict[str, Simulator] = {}

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def wait_registered(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - one bound for all of them
        """Wait until every simulator is registered. FleetError when one ends or ``timeout`` seconds pass."""
        waiting = [asyncio.create_task(simulator.wait_registered()) for simulator in self.simulators.values()]
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*waiting)
        except TimeoutError as error:
            missing = [name for name, simulator in self.simulators.items() if not simulator.registered.is_set()]
            raise FleetError(f"not registered in {timeout:g} s: {', '.join(missing)}") from error
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def stop(self, *, patience: float = 5.0) -> dict[str, int]:
        """Stop all side by side; returns name → exit code. Idempotent."""
        stopping = {name: simulator.stop(patience=patience) for name, simulator in self.simulators.items()}
        codes = await asyncio.gather(*stopping.values())
        self.simulators = {}
        return dict(zip(stopping, codes, strict=True))


def command_line(spec: SimSpec, upper: Upper, *, timing: Sequence[str] = ()) -> list[str]:
    """The arguments behind the interpreter for one simulator."""
    module = "ops.sim.lower_platform" if spec.kind == "lower" else "ops.sim.device"
    line = ["-m", module, "--server", upper.address, "--server-id", upper.code, "--domain", upper.domain]
    line += ["--id", spec.code, "--name", spec.name]
    line += ["--transport", spec.transport, "--parent", str(os.getpid())]
    if spec.kind == "lower":
        for scene, path in spec.scenes.items():
            line += ["--media", f"{scene}={path}"]
    else:
        line += ["--kind", spec.kind]
        for path in spec.media:
            line += ["--media", str(path)]
        for code, name in spec.channels:
            line += ["--channel", code, "--channel-name", name]
    return [*line, *timing, *spec.options]


async def start_fleet(
    specs: Iterable[SimSpec],
    upper: Upper,
    *,
    listen: Listener | None = None,
    keepalive: float = 60.0,
    retry: float = 60.0,
) -> Fleet:
    """Start one process per spec (names must differ). ``listen(name, event, detail)`` hears what they say.

    Does not wait for registrations: see Fleet.wait_registered(). When one cannot be started the others are stopped.
    """
    fleet = Fleet()
    timing = ["--keepalive", str(keepalive), "--retry", str(retry)]
    search = os.pathsep.join(path for path in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if path)
    environment = os.environ | {"PYTHONPATH": search}
    try:
        for spec in specs:
            if spec.name in fleet.simulators:
                raise FleetError(f"two simulators are called {spec.name}")
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command_line(spec, upper, timing=timing),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=environment | {PASSWORD_VARIABLE: spec.password},
            )
            fleet.simulators[spec.name] = Simulator(spec, process, listen)
    except BaseException:
        await fleet.stop(patience=0.5)
        raise
    return fleet


DEMO_DEVICES = {
    "ipc": "34020000001320000001",
    "ipc-h265": "34020000001320000002",
    "nvr": "34020000001180000001",
    "lower": "34020100002000000001",
}
DEMO_NVR_CHANNELS = (("34020000001310000011", "第一中学正门"), ("34020000001310000012", "地下停车场入口"))
DEMO_NAMES = {
    "ipc": "中山北路与北京路路口",
    "ipc-h265": "镜湖广场东侧",
    "nvr": "园区硬盘录像机",
    "lower": "鸠江区视频共享平台",
}


def demo_specs(footage: Mapping[str, Path], passwords: Mapping[str, str]) -> list[SimSpec]:
    """The demo's simulators: ``footage`` of ensure_footage(DEMO_FOOTAGE, …), ``passwords`` by DEMO_DEVICES' keys."""
    missing = {spec.name for spec in DEMO_FOOTAGE} - set(footage)
    if missing:
        raise FleetError(f"footage is missing: {', '.join(sorted(missing))}")
    return [
        SimSpec(kind="ipc", code=DEMO_DEVICES["ipc"], name=DEMO_NAMES["ipc"], password=passwords["ipc"],
                media=(footage["ipc"],)),
        SimSpec(kind="ipc-h265", code=DEMO_DEVICES["ipc-h265"], name=DEMO_NAMES["ipc-h265"],
                password=passwords["ipc-h265"], media=(footage["ipc-h265"],)),
        SimSpec(kind="nvr", code=DEMO_DEVICES["nvr"], name=DEMO_NAMES["nvr"], password=passwords["nvr"],
                media=(footage["nvr-gate"], footage["nvr-carpark"]), channels=DEMO_NVR_CHANNELS, transport="tcp"),
        SimSpec(kind="lower", code=DEMO_DEVICES["lower"], name=DEMO_NAMES["lower"], password=passwords["lower"],
                scenes={"crossing": footage["lower-crossing"], "square": footage["lower-square"],
                        "gate": footage["lower-gate"]}, transport="tcp"),
    ]  # fmt: skip
