"""A platform that plays: LivePlay over the real SIP core, a simulated camera on the wire, a written media plane."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import cast

from catalog.events import StreamEnded, StreamStarted
from catalog.model import Channel, ItemKind
from media.session import MediaAddress, MediaError, MediaEvent, Output, Transport, ViewStats
from sharing.lease import Action, Lease
from sharing.lease import ViewStats as LedgerStats
from sipserver.play import LivePlay, LiveStream, PlayConfig
from sipserver.protocol import sdp
from sipserver.protocol.endpoint import Event, Flow, InviteCancelled, RequestReceived
from sipserver.protocol.ids import ChannelKey, DeviceKey, GbId, LeaseKey, Ssrc, StreamKey, UserKey
from sipserver.protocol.message import Uri

from .harness import CAMERA, PLATFORM, Wire, counting_token, events_of

DEVICE = DeviceKey("dev_aaaaaaaaaaaaaaaaaaaa")


def channel_of(number: int = 1, gb_id: GbId = CAMERA) -> Channel:
    return Channel(
        key=ChannelKey(f"chn_{'a' * 19}{chr(96 + number)}"),
        device=DEVICE,
        device_gb_id=CAMERA,
        gb_id=gb_id,
        name="gate",
        kind=ItemKind.CAMERA,
        playable=True,
        online=True,
        item_online=True,
        device_online=True,
        secrecy=False,
    )


@dataclass
class FakeMedia:
    """Keeps sessions and leases as the engine would; `refuse` makes the next open_session fail.

    `warm` is what grant says; `released` and `revoked` are the leases that ended, each with its reason.
    """

    sessions: dict[StreamKey, dict[str, object]] = field(default_factory=dict)
    leases: dict[LeaseKey, StreamKey] = field(default_factory=dict)
    opened: list[dict[str, object]] = field(default_factory=list)
    closed: list[tuple[StreamKey, str]] = field(default_factory=list)
    refuse: str | None = None
    taken_ssrcs: set[int] = field(default_factory=set)
    warm: bool = True
    released: list[tuple[LeaseKey, str]] = field(default_factory=list)
    revoked: list[tuple[LeaseKey, str]] = field(default_factory=list)

    def open_session(
        self,
        *,
        session: StreamKey,
        ssrc: int,
        transport: Transport,
        sources: Sequence[str],
        lease: Lease,
        private_port: bool = False,
    ) -> MediaAddress:
        if self.refuse is not None:
            raise MediaError(self.refuse, "refused by the test")
        assert session not in self.sessions
        record: dict[str, object] = {"ssrc": ssrc, "transport": transport, "sources": list(sources)}
        self.sessions[session] = record
        self.opened.append(record)
        self.leases[lease.key] = session
        return MediaAddress(host="192.0.2.1", port=30000)

    def set_ssrc(self, session: StreamKey, ssrc: int) -> None:
        if ssrc in self.taken_ssrcs:
            raise MediaError("ssrc_in_use", "refused by the test")
        self.sessions[session]["ssrc"] = ssrc

    def add_source(self, session: StreamKey, ip: str) -> None:
        cast(list[str], self.sessions[session]["sources"]).append(ip)

    def grant(self, session: StreamKey, lease: Lease) -> bool:
        if self.refuse is not None:
            raise MediaError(self.refuse, "refused by the test")
        assert session in self.sessions
        self.leases[lease.key] = session
        return self.warm

    def renew(self, lease_key: LeaseKey, not_after: float, *, audio: bool) -> None:
        assert lease_key in self.leases

    def release(self, lease_key: LeaseKey, reason: str) -> ViewStats:
        self.released.append((lease_key, reason))
        return self._end(lease_key)

    def revoke(self, lease_key: LeaseKey, reason: str) -> ViewStats:
        self.revoked.append((lease_key, reason))
        return self._end(lease_key)

    def _end(self, lease_key: LeaseKey) -> ViewStats:
        del self.leases[lease_key]
        return ViewStats(viewers=1, bytes=1000, frames=25, seconds=1.0)

    def close_session(self, session: StreamKey, reason: str) -> None:
        del self.sessions[session]
        self.closed.append((session, reason))

    def ticket(self, lease_key: LeaseKey, output: Output, *, client_ip: str | None = None, ttl: float = 30) -> str:
        assert lease_key in self.leases
        return f"/live/{output}"


class WrittenTimers:
    """call_later under the wire's clock."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._heap: list[tuple[float, int, WrittenHandle]] = []
        self._serial = count()

    def __call__(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        handle = WrittenHandle(callback)
        heapq.heappush(self._heap, (self._wire.now + delay, next(self._serial), handle))
        return cast(asyncio.TimerHandle, handle)

    def next(self) -> float | None:
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def fire(self, now: float) -> None:
        while (deadline := self.next()) is not None and deadline <= now:
            heapq.heappop(self._heap)[2].callback()


class WrittenHandle:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Answer:
    """How the camera answers an INVITE. status None: not at all."""

    status: int | None = 200
    y: str | None = "same"  # "same", another ten digits, or None for no y= line
    session_name: str = "Play"
    address: str = "192.0.2.10"
    setup: str = "active"
    body: bytes | None = None

    def sdp_for(self, offer: sdp.SessionDescription) -> bytes:
        if self.body is not None:
            return self.body
        media = offer.primary
        assert media is not None
        lines = ["v=0", f"o={CAMERA.value} 0 0 IN IP4 {self.address}", f"s={self.session_name}"]
        lines += [f"c=IN IP4 {self.address}", "t=0 0", f"m=video 15060 {media.protocol} 96", "a=sendonly"]
        lines.append("a=rtpmap:96 PS/90000")
        if media.is_tcp:
            lines += [f"a=setup:{self.setup}", "a=connection:new"]
        if self.y is not None:
            assert offer.ssrc is not None
            lines.append(f"y={offer.ssrc.text if self.y == 'same' else self.y}")
        return ("\r\n".join(lines) + "\r\n").encode()


class Stage:
    """Everything together. `step()` carries messages and lets the camera and LivePlay react until nothing moves."""

    def __init__(self, *, config: PlayConfig | None = None, stream: bool = False) -> None:
        self.wire = Wire(stream=stream)
        self.media = FakeMedia()
        self.timers = WrittenTimers(self.wire)
        self.answer = Answer()
        self.online = True
        self.invites: list[RequestReceived] = []
        self.device_events: list[Event] = []
        self.ended_leases: list[tuple[LeaseKey, str, LedgerStats]] = []
        self.published: list[StreamStarted | StreamEnded] = []
        self.key_frames_asked: list[tuple[DeviceKey, GbId]] = []
        self._lease_serial = count(1)
        self.play = LivePlay(
            transport=self,
            bindings=self,
            media=self.media,
            identity=PLATFORM,
            config=config or PlayConfig(),
            clock=lambda: self.wire.now,
            publish=self.published.append,
            token=counting_token(),
            on_lease_end=lambda lease, reason, stats: self.ended_leases.append((lease, reason, stats)),
            ask_key_frame=lambda device, channel: self.key_frames_asked.append((device, channel)),
            call_later=self.timers,
        )

    # Bindings

    def flow(self, device: DeviceKey) -> Flow | None:
        assert device == DEVICE
        return self.wire.to_device if self.online else None

    # Signalling

    def invite(self, *, target: Uri, to: GbId, flow: Flow, sdp: bytes, subject: str) -> str:
        return self.wire.platform.invite(target=target, to=to, flow=flow, sdp=sdp, subject=subject, now=self.wire.now)

    def ack(self, dialog: str) -> None:
        self.wire.platform.ack(dialog, now=self.wire.now)

    def cancel(self, dialog: str) -> None:
        self.wire.platform.cancel(dialog, now=self.wire.now)

    def bye(self, dialog: str, *, flow: Flow | None = None) -> str:
        return self.wire.platform.bye(dialog, flow=flow, now=self.wire.now)

    # the world

    def lease(self) -> Lease:
        serial = next(self._lease_serial)
        return Lease(
            key=LeaseKey(f"lea_{serial:020d}"),
            user=UserKey("usr_aaaaaaaaaaaaaaaaaaaa"),
            channel=channel_of().key,
            actions=frozenset({Action.VIEW_LIVE}),
            purpose="duty",
            not_after=self.wire.now + 30,
            ledger_seq=serial,
            started_at=self.wire.now,
        )

    def react(self) -> bool:
        """Let the camera and LivePlay see what arrived; True when something did."""
        device_events, platform_events = events_of(self.wire.device), events_of(self.wire.platform)
        self.device_events += device_events
        for event in device_events:
            if isinstance(event, RequestReceived) and event.request.method == "INVITE":
                self.invites.append(event)
                if self.answer.status is not None:
                    self.reply(event)
        for event in platform_events:
            self.play.on_event(event)
        return bool(device_events or platform_events)

    def reply(self, event: RequestReceived, status: int | None = None) -> None:
        code = status or self.answer.status or 200
        body = self.answer.sdp_for(sdp.parse(event.request.body)) if code == 200 else b""
        self.wire.device.respond(event.transaction, code, body=body, now=self.wire.now)

    async def step(self) -> None:
        moved = True
        while moved:
            await turn()
            self.wire.deliver()
            moved = self.react()
        await turn()

    async def advance(self, seconds: float) -> None:
        await self.step()
        end = self.wire.now + seconds
        while True:
            candidates = (self.timers.next(), self.wire.platform.next_timeout(), self.wire.device.next_timeout())
            due = [deadline for deadline in candidates if deadline is not None and deadline <= end]
            if not due:
                break
            self.wire.advance_to(max(self.wire.now, min(due)))
            self.timers.fire(self.wire.now)
            await self.step()
        self.wire.advance_to(end)
        await self.step()

    async def open(self, lease: Lease | None = None, *, transport: Transport | None = None) -> LiveStream:
        task = asyncio.create_task(self.play.open(lease or self.lease(), channel_of(), transport=transport))
        await self.step()
        return await task

    def offer(self) -> sdp.SessionDescription:
        return sdp.parse(self.invites[-1].request.body)

    def media_event(self, kind: str, session: StreamKey, lease: LeaseKey | None = None) -> None:
        self.play.on_media_event(MediaEvent(kind=kind, session=session, lease=lease))  # type: ignore[arg-type]

    def cancelled_at_device(self) -> int:
        return sum(isinstance(event, InviteCancelled) for event in self.device_events)

    async def assert_nothing_is_left(self) -> None:
        await self.advance(200)
        assert self.play.load() == dict.fromkeys(self.play.load(), 0)
        assert self.media.sessions == {}
        assert self.media.leases == {}
        assert self.timers.next() is None
        for side in (self.wire.platform, self.wire.device):
            assert side.load()["dialogs"] == 0
            assert side.load()["client_transactions"] == 0


async def turn() -> None:
    """Let every task that can run do so."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        waiter = loop.create_future()
        loop.call_soon(waiter.set_result, None)
        await waiter


def expected_ssrc(number: int) -> Ssrc:
    return Ssrc.compose(PLATFORM, history=False, number=number)
