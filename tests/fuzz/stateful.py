"""Sequences of what devices and platform do, over a network that loses, doubles and delays, on a written clock (S5).

Invariants checked at the end of each sequence (reliability §9.3): I5 every INVITE ends exactly once and nothing of it
is left; I6 no response without its request, and never two different finals to one transaction; I8 nothing grows:
transactions, dialogs, timers, tasks and locks are back at zero.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sipserver.protocol.codec import parse_datagram
from sipserver.protocol.errors import GbError, LocalProtocolError
from sipserver.protocol.events import (
    DialogEnded,
    Event,
    Flow,
    InviteAccepted,
    InviteCancelled,
    InviteRejected,
    RequestReceived,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import Keepalive
from sipserver.protocol.message import Request, Uri
from tests.gb.harness import FakeDevice, World, settle

STEPS = (
    *("register", "register", "unregister", "keepalive", "keepalive", "rubbish", "subscribe", "device invite"),
    *("invite", "invite", "cancel", "bye", "device bye", "query", "lose connection", "wait", "wait", "wait long"),
)
_CALLS = frozenset(("device invite", "invite", "cancel", "bye", "device bye"))
QUIET = 400.0  # seconds after which nothing may be left


@dataclass
class Network:
    """Loses, doubles and delays; healed at the end."""

    rng: random.Random
    bad: bool = True
    held: list[Callable[[], None]] = field(default_factory=list)

    def carry(self, deliver: Callable[[], None]) -> None:
        if not self.bad:
            deliver()
            return
        luck = self.rng.random()
        if luck < 0.15:
            return
        if luck < 0.30:
            self.held.append(deliver)  # overtaken by what comes later
            return
        deliver()
        if luck > 0.90:
            deliver()

    def release(self) -> None:
        held, self.held = self.held, []
        self.rng.shuffle(held)
        for deliver in held:
            deliver()


class Handset(FakeDevice):
    """A device that also takes and makes calls; `ringing` are the INVITEs it has not answered."""

    def __init__(self, world: World, gb_id: GbId, remote: tuple[str, int], connection: int | None) -> None:
        super().__init__(world, gb_id, remote, connection)
        self.ringing: list[RequestReceived] = []
        self.dialogs: list[str] = []

    def _asked(self, event: RequestReceived) -> None:
        if event.request.method != "INVITE":
            super()._asked(event)
            return
        self.ringing.append(event)
        if event.dialog is not None:
            self.dialogs.append(event.dialog)


class Sequence:
    """One sequence; `run` gives what is wrong, "" for nothing."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.network = Network(self.rng)
        self.world = World()
        self.calls: list[str] = []
        self.ended: Counter[str] = Counter()
        self.asked: set[tuple[str, str]] = set()  # (branch, method) of the devices' requests
        self.finals: dict[tuple[str, str], set[int]] = {}
        self.faults: list[str] = []
        self.devices = [self._device(0, None), self._device(1, None), self._device(2, 9)]
        self._tap()

    def _device(self, number: int, connection: int | None) -> Handset:
        gb_id = GbId(f"3402000000118{number:07d}")
        self.world.store.add(gb_id)
        return Handset(self.world, gb_id, (f"198.51.100.{number + 1}", 5060), connection)

    def _tap(self) -> None:
        world = self.world
        arrive, deliver, on_event = world.transport.arrive, world.transport.deliver, world.transport.on_event

        def to_platform(data: bytes, flow: Flow) -> None:
            message = parse_datagram(data)
            if isinstance(message, Request):
                self.asked.add((message.via_top.branch or "", message.method))
            if flow.connection is None:
                self.network.carry(lambda: arrive(data, flow))
            else:
                arrive(data, flow)

        def to_device(data: bytes, flow: Flow) -> None:
            self._judge(data)
            if flow.connection is None:
                self.network.carry(lambda: deliver(data, flow))
            else:
                deliver(data, flow)

        def handle(event: Event) -> None:
            self._note(event)
            on_event(event)

        world.transport.arrive = to_platform  # type: ignore[method-assign]
        world.transport.deliver = to_device
        world.transport.on_event = handle

    def _judge(self, data: bytes) -> None:
        """I6, on every response that leaves the platform."""
        message = parse_datagram(data)
        if isinstance(message, Request):
            return
        key = (message.via_top.branch or "", message.cseq[1])
        if key not in self.asked:
            self.faults.append(f"response without request: {message.status}")
        if message.status >= 200:
            finals = self.finals.setdefault(key, set())
            finals.add(message.status)
            if len(finals) > 1:
                self.faults.append(f"two finals: {sorted(finals)}")

    def _note(self, event: Event) -> None:
        if isinstance(event, InviteRejected | InviteCancelled | DialogEnded):
            self.ended[event.dialog] += 1
        elif isinstance(event, TransactionTimedOut | TransportFailed):
            if event.dialog in self.calls and not self.ended[event.dialog or ""]:
                self.ended[event.dialog or ""] += 1
        elif isinstance(event, InviteAccepted):
            self._attempt(lambda: self.world.transport.ack(event.dialog))

    def _attempt(self, command: Callable[[], object]) -> None:
        """Commands that come too late are refused; nothing else may go wrong."""
        try:
            command()
        except LocalProtocolError:
            return

    async def run(self, events: int) -> str:
        for _ in range(events):
            device = self.rng.choice(self.devices)
            step = self.rng.choice(STEPS)
            if step in _CALLS:
                self._call(step, device)
            else:
                await self._do(step, device)
            self._pick_up()
            await settle(4)
            if self.rng.random() < 0.5:
                self.network.release()
        return await self._finish()

    async def _do(self, step: str, device: Handset) -> None:
        world = self.world
        if step in ("register", "unregister"):
            headers = [
                ("Expires", "0" if step == "unregister" else "3600"),
                ("CSeq", f"{self.rng.randrange(1, 9_999)} REGISTER"),
            ]
            challenges = [one for one in device.responses if one.status == 401]
            device.responses.clear()
            if challenges:
                headers.append(("Authorization", device.authorization(challenges[-1])))
            device.request("REGISTER", headers)
        elif step == "keepalive":
            device.say(Keepalive(sn=1, device_id=device.gb_id))
        elif step == "rubbish":
            device.say(b"<Notify><x>")
        elif step == "subscribe":
            device.request("SUBSCRIBE", [("Event", "Catalog"), ("Expires", "60")])
        elif step == "query":
            for bound in world.bindings.all()[:1]:
                world.sessions.refresh(bound.key)
        elif step == "lose connection" and device.connection:
            world.transport._stream_lost(device.flow)
            world.sessions.connection_lost(device.flow)
        elif step.startswith("wait"):
            await self._pass(self.rng.choice((0.1, 0.6, 2.0, 9.0)) if step == "wait" else 70.0)

    def _call(self, step: str, device: Handset) -> None:
        world, now = self.world, self.world.clock()
        call = self.rng.choice(self.calls) if self.calls else ""
        target = Uri(user=device.gb_id.value, host=device.remote[0], port=device.remote[1])
        made = {"target": target, "to": device.gb_id, "sdp": b"v=0\r\n", "subject": "s"}
        if step == "invite":
            self._attempt(lambda: self.calls.append(world.transport.invite(flow=device.flow, **made)))  # type: ignore[arg-type]
        elif step == "device invite":
            self._attempt(lambda: device.endpoint.invite(flow=device.own_flow, now=now, **made))  # type: ignore[arg-type]
        elif step == "device bye":
            for dialog in device.dialogs[-1:]:
                self._attempt(lambda dialog=dialog: device.endpoint.bye(dialog, now=now))  # type: ignore[misc]
        elif call:
            self._attempt(lambda: (world.transport.cancel if step == "cancel" else world.transport.bye)(call))
        device.flush()

    def _pick_up(self) -> None:
        """Devices accept, refuse, or go on ringing."""
        for device in self.devices:
            for event in device.ringing:
                status = self.rng.choice((100, 180, 200, 200, 200, 486, 503))
                self._attempt(partial(device.endpoint.respond, event.transaction, status, now=self.world.clock()))
            device.ringing = [event for event in device.ringing if self.rng.random() < 0.3]
            device.flush()

    async def _pass(self, seconds: float) -> None:
        """Time in steps no longer than half a second's retransmission, so that timers of both sides fire in order."""
        world = self.world
        end = world.clock() + seconds
        while world.clock() < end:
            self.network.release()  # no network holds a packet for longer than a transaction lives
            moments = [end, world.endpoint.next_timeout() or end]
            moments += [device.endpoint.next_timeout() or end for device in self.devices]
            world.clock.now = max(world.clock() + 0.001, min(moments))
            for device in self.devices:
                device.endpoint.handle_timeout(now=world.clock())
                device.flush()
            world.transport.fire_timers()
            await settle(2)
        await world.sessions.tick(world.clock())

    async def _finish(self) -> str:
        world = self.world
        self.network.bad = False
        self.network.release()
        for call in self.calls:
            self._attempt(lambda call=call: world.transport.bye(call))  # type: ignore[misc]
        for device in self.devices:
            for dialog in device.dialogs:
                self._attempt(partial(device.endpoint.bye, dialog, now=world.clock()))
        await settle(20)
        for _ in range(4):
            await self._pass(QUIET / 4)
        await settle(30)
        faults = list(self.faults)
        load = {name: count for name, count in world.endpoint.load().items() if count and name != "connections"}
        if load:
            faults.append(f"left over: {load}")
        wrong = {self.ended[call] for call in self.calls} - {1}
        if wrong:
            faults.append(f"calls ended {sorted(wrong)} times")
        if world.transport._containment._tasks:
            faults.append("tasks left")
        if world.bindings.locks._locks:
            faults.append("locks left")
        if world.transport.counters["handler_failures"]:
            faults.append("a handler failed")
        await self._stop()
        return "; ".join(faults)

    async def _stop(self) -> None:
        try:
            await self.world.stop()
        except GbError:
            return


async def sequence(seed: int, events: int = 40) -> str:
    return await Sequence(seed).run(events)
