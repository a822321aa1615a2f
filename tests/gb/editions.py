"""Devices of an edition, and short ways to look at what they were asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    DeviceConfig,
    DeviceConfigResponse,
    DeviceControl,
    DeviceControlResponse,
    Message,
    Unknown,
)
from tests.gb.harness import CAMERA, FakeDevice, World

M = TypeVar("M", bound=Message)

ALL = ("1.0", "1.1", "2.0", "3.0")


async def of_edition(
    world: World, version: str | None = "3.0", gb_id: GbId = CAMERA, remote: tuple[str, int] = ("198.51.100.7", 5060)
) -> tuple[DeviceKey, FakeDevice]:
    """A registered device that said it speaks that edition (None: said nothing)."""
    known = await world.store.device_by_gb(gb_id)
    key = known.key if known else world.store.add(gb_id)
    device = world.device(gb_id, remote=remote)
    headers = () if version is None else (("X-GB-Ver", version),)
    _, accepted = await device.register(headers=headers)
    assert accepted.status == 200
    return key, device


def asked(device: FakeDevice, kind: type[M]) -> M:
    """The last thing the device was asked, which is of that kind."""
    last = device.asked[-1]
    assert isinstance(last, kind), f"{type(last).__name__} in place of {kind.__name__}"
    return last


def body_of(device: FakeDevice) -> str:
    """The body of the last request, as text."""
    return device.requests[-1].body.decode("gb18030")


def obeys(device: FakeDevice, *, result: bool = True, reason: str | None = None) -> None:
    """Let the device answer every control and configuration."""

    def script(message: Message | Unknown) -> Sequence[Message]:
        if isinstance(message, DeviceConfig):
            return (DeviceConfigResponse(sn=message.sn, device_id=message.device_id, result=result, reason=reason),)
        if isinstance(message, DeviceControl) and message.answered:
            return (DeviceControlResponse(sn=message.sn, device_id=message.device_id, result=result, reason=reason),)
        return ()

    device.script = script
