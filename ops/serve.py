"""`mingjian serve`: starts the platform, says where it listens, and stops it on SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

from ops.config import Config
from ops.wiring import running_platform


def stop_event() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; a second SIGINT interrupts at once, as usual."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        told.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return told


async def serve(config: Config) -> None:
    """Run until a signal says stop."""
    told = stop_event()
    async with running_platform(config) as platform:
        print(f"ready after {platform.started_in:.1f} s", flush=True)
        print(f"console:        http://127.0.0.1:{platform.http_port}/", flush=True)
        if platform.first_password is not None:
            name, password = platform.first_password
            print(f"administrator:  {name} / {password}   (one time)", flush=True)
        await told.wait()
