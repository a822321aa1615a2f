"""A broken device never harms another: whatever fails while one message is dealt with ends with that message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import pytest
import structlog

from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import Keepalive
from tests.gb.harness import CAMERA, RECORDER, FakeDevice, World, settle
from tests.torture.attack import code

SECRET = "text that quotes 34020000001320000001"


def broken(*given: object, **named: object) -> NoReturn:
    raise ValueError(SECRET)


async def broken_later(*given: object, **named: object) -> NoReturn:
    raise KeyError(SECRET)


def only_for(
    world: World, gb_id: GbId, fault: Callable[..., object], genuine: Callable[..., object]
) -> Callable[..., object]:
    """The fault for one device's messages, the genuine thing for all others."""

    def chosen(event: object, *rest: object) -> object:
        sender = event.request.from_.uri.username  # type: ignore[attr-defined]
        return fault(event, *rest) if sender == gb_id.value else genuine(event, *rest)

    return chosen


def plant_registrar(world: World) -> None:
    world.registrar.handle = only_for(world, CAMERA, broken, world.registrar.handle)  # type: ignore[method-assign, assignment]


def plant_registration_task(world: World) -> None:
    genuine = world.registrar._register
    world.registrar._register = only_for(world, CAMERA, broken_later, genuine)  # type: ignore[method-assign, assignment]


def plant_message(world: World) -> None:
    world.sessions.handle = only_for(world, CAMERA, broken, world.sessions.handle)  # type: ignore[method-assign, assignment]


def plant_after_the_answer(world: World) -> None:
    world.sessions._take = only_for(world, CAMERA, broken, world.sessions._take)  # type: ignore[method-assign, assignment]


PLANTS = [
    ("REGISTER", plant_registrar, 500),
    ("REGISTER", plant_registration_task, 500),
    ("MESSAGE", plant_message, 500),
    ("MESSAGE", plant_after_the_answer, 200),  # what follows the answer cannot change it any more
]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.stop()


async def send(device: FakeDevice, method: str) -> int:
    if method == "MESSAGE":
        return (await device.exchange(Keepalive(sn=1, device_id=device.gb_id))).status
    challenge, answer = await try_register(device)
    return answer or challenge


async def try_register(device: FakeDevice) -> tuple[int, int | None]:
    device.request("REGISTER", (("Expires", "3600"), ("CSeq", "7 REGISTER")))
    challenge = await device.answer()
    if challenge.status != 401:
        return challenge.status, None
    authorization = device.authorization(challenge)
    device.request("REGISTER", (("Expires", "3600"), ("CSeq", "8 REGISTER"), ("Authorization", authorization)))
    return challenge.status, (await device.answer()).status


@pytest.mark.parametrize(("method", "plant", "status"), PLANTS, ids=[plant.__name__ for _, plant, _ in PLANTS])
async def test_a_fault_ends_with_its_transaction(
    world: World, method: str, plant: Callable[[World], None], status: int
) -> None:
    _, bad = await world.registered(CAMERA)
    _, good = await world.registered(RECORDER, remote=("198.51.100.8", 5060))
    plant(world)
    with structlog.testing.capture_logs() as logs:
        assert await send(bad, method) == status
        assert await send(good, method) == 200, "the next device is served"
        assert await send(bad, "MESSAGE" if method == "REGISTER" else "REGISTER") == 200, "and so is the next message"
    assert world.transport.counters["handler_failures"] == 1
    [line] = [entry for entry in logs if entry["event"] == "sip_handler_failed"]
    assert line["call_id"]
    assert line["error"] in ("ValueError", "KeyError")
    assert CAMERA.value not in str(logs), "the text of an error may quote the message"
    await settle()
    load = world.endpoint.load()
    assert load["dialogs"] == load["client_transactions"] == 0


async def test_a_device_that_always_fails_costs_the_others_nothing(world: World) -> None:
    """A thousand faults in a row: every one answered and counted, nothing left, everybody else online."""
    _, bad = await world.registered(CAMERA)
    others = [(await world.registered(code(100 + n), remote=(f"192.0.2.{n + 1}", 5060)))[1] for n in range(5)]
    plant_message(world)
    with structlog.testing.capture_logs():
        for number in range(1_000):
            bad.say(Keepalive(sn=1, device_id=CAMERA))
            if number % 200 == 0:
                await settle(5)
        await settle(200)
    assert [response.status for response in bad.responses] == [500] * 1_000
    assert world.transport.counters["handler_failures"] == 1_000
    for device in others:
        assert await send(device, "MESSAGE") == 200
    assert len(world.bindings) == 6


async def test_control_without_containment_the_fault_escapes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bad = await world.registered(CAMERA)
    plant_message(world)
    monkeypatch.setattr(world.transport._containment, "handle", lambda handler, event: handler(event))
    data = b"MESSAGE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bKq\r\n"
    data += b"From: <sip:%s@x>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: q\r\nCSeq: 1 MESSAGE\r\n\r\n" % CAMERA.value.encode()
    with pytest.raises(ValueError, match="quotes"):
        world.transport.arrive(data, bad.flow)
