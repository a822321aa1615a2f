"""Command line of one simulated device: ``python -m ops.sim.device --kind ipc --server 127.0.0.1:5060 …``.

The password comes from a file (``--password-file``) or the environment (MINGJIAN_SIM_PASSWORD), never from an argument.
Standard output carries one JSON object a line: {"event": "registered", "detail": "", "name": …}. Exit codes: 0 left in
order, 2 bad arguments, 3 unregistering was not answered, 4 gave up registering (``--give-up``), 5 the parent is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

import structlog

from ops.clock import system_clock
from ops.sim.footage import Footage, FootageError, load_footage
from ops.sim.inventory import Inventory, camera_item
from ops.sim.ps_mux import Deviations
from ops.sim.runner import DeviceRunner, Wire
from ops.sim.user_agent import AgentConfig, UserAgent
from sipserver.protocol.ids import GbId

PASSWORD_VARIABLE = "MINGJIAN_SIM_PASSWORD"  # noqa: S105 - the name of a variable, not a password
_PR_SET_PDEATHSIG = 1
Kind = Literal["ipc", "ipc-h265", "nvr"]


class BadArguments(Exception):
    """The command line cannot be used; its text is for the operator."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that devices and lower platforms share."""
    parser.add_argument("--server", required=True, help="platform's SIP address, host:port")
    parser.add_argument("--server-id", required=True, help="platform's 20-digit code")
    parser.add_argument("--domain", required=True, help="platform's SIP domain")
    parser.add_argument("--id", required=True, help="own 20-digit code")
    parser.add_argument("--name", default="simulated device")
    parser.add_argument("--password-file", type=Path, help=f"else the environment variable {PASSWORD_VARIABLE}")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp", help="of signalling")
    parser.add_argument("--expires", type=int, default=3600)
    parser.add_argument("--keepalive", type=float, default=60.0)
    parser.add_argument("--retry", type=float, default=60.0, help="pause after a failed registration, seconds")
    parser.add_argument("--give-up", type=int, default=0, help="end after so many failed registrations; 0 never")
    parser.add_argument("--max-calls", type=int, default=16, help="further INVITEs get 486")
    parser.add_argument("--answer-delay", type=float, default=0.0, help="keep INVITEs waiting, seconds")
    parser.add_argument("--local-host")
    parser.add_argument("--local-port", type=int, default=0)
    parser.add_argument("--media-host", help="address in SDP answers, default: that of signalling")
    parser.add_argument("--gb-version", default="3.0")
    parser.add_argument("--charset", choices=("GB2312", "GB18030", "UTF-8"), default="GB18030")
    parser.add_argument("--omit-y", action="store_true", help="no y= line in SDP answers")
    parser.add_argument("--own-ssrc", type=int, help="answer with this SSRC")
    parser.add_argument("--deviation", action="append", default=[], metavar="NAME[=NUMBER]", help=_deviation_names())
    parser.add_argument("--parent", type=int, help="die when this process is gone")


def _deviation_names() -> str:
    return "one of " + ", ".join(field.name for field in fields(Deviations))


def read_deviations(texts: Sequence[str]) -> Deviations:
    """``["no_psm", "drop_every=50"]`` → Deviations. BadArguments for unknown names and missing numbers."""
    values: dict[str, bool | int] = {}
    known = {field.name: field.default for field in fields(Deviations)}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in known or (number and not number.isdigit()) or bool(number) is isinstance(known[name], bool):
            raise BadArguments(f"--deviation {name}: unknown, or its number is missing or wrong")
        values[name] = int(number) if number else True
    return Deviations(**values)  # type: ignore[arg-type]  # bool fields get True, the others numbers: checked above


def read_password(file: Path | None) -> str:
    """The device's password. BadArguments when there is none."""
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadArguments(f"password file: {error.strerror}") from error
    else:
        password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password:
        raise BadArguments(f"no password: give --password-file or set {PASSWORD_VARIABLE}")
    return password


def read_footage(path: Path) -> Footage:
    """Load footage. BadArguments when that fails."""
    try:
        return load_footage(path)
    except FootageError as error:
        raise BadArguments(str(error)) from error


def read_code(text: str, option: str) -> GbId:
    """A 20-digit code. BadArguments otherwise."""
    if not re.fullmatch(r"[0-9]{20}", text):
        raise BadArguments(f"{option}: not 20 digits")
    return GbId(text)


def agent_config(args: argparse.Namespace) -> AgentConfig:
    """The user agent's settings out of the common options."""
    return AgentConfig(
        server=read_code(args.server_id, "--server-id"),
        domain=args.domain,
        password=read_password(args.password_file),
        transport=args.transport,
        expires=args.expires,
        keepalive=args.keepalive,
        retry=args.retry,
        give_up=args.give_up,
        max_calls=args.max_calls,
        answer_delay=args.answer_delay,
        omit_y=args.omit_y,
        own_ssrc=args.own_ssrc,
        gb_version=args.gb_version,
        charset=args.charset,
    )


def read_wire(args: argparse.Namespace) -> Wire:
    """Addresses out of the common options."""
    host, colon, port = args.server.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadArguments("--server: not host:port")
    return Wire(
        server=(host.strip("[]"), int(port)),
        transport=args.transport,
        local_host=args.local_host,
        local_port=args.local_port,
        media_host=args.media_host,
    )


def tie_to_parent(parent: int | None) -> None:
    """Let the kernel kill us when our parent dies (Linux prctl). SystemExit(5) when it is gone already."""
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(5)


def run(inventory: Inventory, args: argparse.Namespace) -> int:
    """Serve ``inventory`` until SIGTERM or SIGINT; returns the exit code."""

    def report(word: str, detail: str) -> None:
        told = {"event": word, "detail": detail, "name": inventory.name}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    async def serve() -> int:
        agent = UserAgent(inventory, agent_config(args), token=secrets.token_hex)
        runner = DeviceRunner(
            agent, read_wire(args), clock=system_clock(), report=report, deviations=read_deviations(args.deviation)
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, runner.stop)
        loop.add_signal_handler(signal.SIGUSR1, runner.hang_up)
        return await runner.run()

    return asyncio.run(serve())


def main_with(
    parser: argparse.ArgumentParser,
    make: Callable[[argparse.Namespace], Inventory],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, build the inventory with ``make(args)``, run. Bad arguments end with code 2 and one line."""
    args = parser.parse_args(argv)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    tie_to_parent(args.parent)
    try:
        agent_config(args), read_wire(args), read_deviations(args.deviation)
        inventory = make(args)
    except BadArguments as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    return run(inventory, args)


def make_inventory(args: argparse.Namespace) -> Inventory:
    """An IPC (device and channel in one) or an NVR with one channel per footage file."""
    device = read_code(args.id, "--id")
    footage = [read_footage(path) for path in args.media]
    division = device.value[:6]
    if args.kind == "nvr":
        numbers = range(1, len(footage) + 1)
        stem = f"{device.value[:10]}131{device.value[13]}"
        codes = args.channel or [f"{stem}{number:06d}" for number in numbers]
        names = args.channel_name or [f"{args.name} {number}" for number in numbers]
        if not len(codes) == len(names) == len(footage):
            raise BadArguments("--channel, --channel-name and --media must be given equally often")
        items = tuple(
            camera_item(read_code(code, "--channel").value, name, parents=[device.value], civil_code=division)
            for code, name in zip(codes, names, strict=True)
        )
        cameras = dict(zip(codes, footage, strict=True))
        return Inventory(device=device, name=args.name, model="SIM-NVR-4", items=items, cameras=cameras)
    if len(footage) != 1:
        raise BadArguments("--media: an IPC has one picture")
    expected = "h265" if args.kind == "ipc-h265" else "h264"
    if footage[0].video != expected:
        raise BadArguments(f"--media: this kind of device sends {expected}")
    item = camera_item(device.value, args.name, parents=[device.value], civil_code=division)
    cameras = {device.value: footage[0]}
    return Inventory(device=device, name=args.name, model=f"SIM-{args.kind.upper()}", items=(item,), cameras=cameras)


def make_parser() -> argparse.ArgumentParser:
    """Options of ``python -m ops.sim.device``."""
    parser = argparse.ArgumentParser(prog="ops.sim.device", description="One simulated GB/T 28181 device.")
    add_common_arguments(parser)
    parser.add_argument("--kind", choices=("ipc", "ipc-h265", "nvr"), default="ipc")
    parser.add_argument("--media", type=Path, action="append", required=True, help="footage file; for an NVR repeat it")
    parser.add_argument("--channel", action="append", help="an NVR channel's code, once per --media")
    parser.add_argument("--channel-name", action="append", help="an NVR channel's name, once per --media")
    return parser


if __name__ == "__main__":
    raise SystemExit(main_with(make_parser(), make_inventory))
