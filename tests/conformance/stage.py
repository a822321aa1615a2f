"""A registered scripted camera and somebody who may watch it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from catalog.model import Channel
from sipserver.protocol.ids import DeviceKey, StreamKey
from tests.e2e.double import Double, Text, catalog, device_info, double_at, item
from tests.e2e.rig import Client, Rig

PASSWORD = "conforming Camera 1"
_numbers = itertools.count(1)


@dataclass(slots=True)
class Camera:
    """A device double that is online, its key and channel."""

    double: Double
    key: DeviceKey
    channel: Channel
    watcher: Client


def camera_answers(double: Double) -> None:
    """Let it answer what the platform asks at registration: itself as the only item."""
    double.answers["DeviceInfo"] = device_info
    double.answers["Catalog"] = lambda query: [
        catalog(double.code, query.field("SN"), [item(double.code, "路口")]).encode("gb18030")
    ]


@asynccontextmanager
async def camera(rig: Rig, watcher: Client, *, kind: Literal["udp", "tcp"] = "udp") -> AsyncIterator[Camera]:
    """A camera of its own, registered, its catalogue synchronised, in the watcher's scope."""
    number = next(_numbers)
    code = f"3402000000132{number:07d}"
    key = await rig.admit(code, PASSWORD)
    async with double_at(rig.sip, code, PASSWORD, kind=kind) as double:
        camera_answers(double)
        assert (await double.register())[1].status == 200
        (channel,) = await rig.synced(key, channels=1)
        await rig.watches(watcher, key)
        yield Camera(double, key, channel, watcher)
        await double.register(expires=0)


async def invited(camera: Camera) -> Text:
    """The INVITE that reaches the camera."""
    return await camera.double.next("INVITE")


def stream_of(rig: Rig, camera: Camera) -> StreamKey:
    """The one stream of the camera."""
    (found,) = (live.key for live in rig.platform.play.streams() if live.channel == camera.channel.key)
    return found


def opened(answer: httpx.Response) -> dict[str, Any]:
    """The view of a POST /streams that succeeded."""
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view
