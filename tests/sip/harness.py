"""Two endpoints joined by a wire under a written clock: nothing here sleeps or opens a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from sipserver.protocol.codec import parse_datagram
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.events import Event, Flow, Limits
from sipserver.protocol.ids import GbId
from sipserver.protocol.message import Request, Response

PLATFORM = GbId("34020000002000000001")
CAMERA = GbId("34020000001320000001")
START = 1_000_000.0
SERVER_ADDRESS = ("192.0.2.1", 5060)
DEVICE_ADDRESS = ("192.0.2.10", 5060)

E = TypeVar("E")


def counting_token() -> Callable[[int], str]:
    """Predictable, never repeating hex digits."""
    serial = count(1)
    return lambda size: f"{next(serial):0{2 * size}x}"


def udp_flow(remote: tuple[str, int] = DEVICE_ADDRESS, local: tuple[str, int] = SERVER_ADDRESS) -> Flow:
    return Flow("udp", remote, local)


def tcp_flow(connection: int = 1, remote: tuple[str, int] = DEVICE_ADDRESS) -> Flow:
    return Flow("tcp", remote, SERVER_ADDRESS, connection)


def make_endpoint(identity: GbId = PLATFORM, limits: Limits | None = None) -> Endpoint:
    return Endpoint(
        identity=identity,
        domain=identity.domain,
        user_agent="Mingjian",
        token=counting_token(),
        limits=limits or Limits(),
    )


def events_of(endpoint: Endpoint) -> list[Event]:
    found: list[Event] = []
    while (event := endpoint.next_event()) is not None:
        found.append(event)
    return found


def only(events: list[Event], kind: type[E]) -> E:
    """The one event of that kind, and no other event."""
    assert len(events) == 1, events
    assert isinstance(events[0], kind), events
    return events[0]


def sent_by(endpoint: Endpoint, now: float = START) -> list[Request | Response]:
    return [parse_datagram(data) for data, _ in endpoint.datagrams_to_send(now=now)]


def requests_in(messages: Sequence[Request | Response]) -> list[Request]:
    return [message for message in messages if isinstance(message, Request)]


def responses_in(messages: Sequence[Request | Response]) -> list[Response]:
    return [message for message in messages if isinstance(message, Response)]


@dataclass
class Wire:
    """A platform and a device; messages travel when deliver() is called, unless `drop` says otherwise."""

    platform: Endpoint = field(default_factory=make_endpoint)
    device: Endpoint = field(default_factory=lambda: make_endpoint(CAMERA))
    stream: bool = False
    now: float = START
    drop: Callable[[bytes, str], bool] = lambda data, to: False
    log: list[tuple[str, Request | Response]] = field(default_factory=list)

    @property
    def to_device(self) -> Flow:
        return Flow("tcp" if self.stream else "udp", DEVICE_ADDRESS, SERVER_ADDRESS, 7 if self.stream else None)

    @property
    def to_platform(self) -> Flow:
        return Flow("tcp" if self.stream else "udp", SERVER_ADDRESS, DEVICE_ADDRESS, 8 if self.stream else None)

    def deliver(self) -> None:
        """Carry everything until both sides are silent."""
        while self._carry(self.platform, self.device, "device", self.to_platform) | self._carry(
            self.device, self.platform, "platform", self.to_device
        ):
            pass

    def _carry(self, sender: Endpoint, receiver: Endpoint, to: str, flow: Flow) -> bool:
        moved = False
        for data, _ in sender.datagrams_to_send(now=self.now):
            moved = True
            self.log.append((to, parse_datagram(data)))
            if not self.drop(data, to):
                receiver.receive(data, flow, now=self.now)
        return moved

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every timer of either side."""
        self.advance_to(self.now + seconds)

    def advance_to(self, end: float) -> None:
        while True:
            due = [t for t in (self.platform.next_timeout(), self.device.next_timeout()) if t is not None and t <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            self.platform.handle_timeout(now=self.now)
            self.device.handle_timeout(now=self.now)
            self.deliver()
        self.now = end

    def seen(self, to: str, method: str) -> int:
        """How many requests of that method travelled to that side (dropped ones too)."""
        return sum(
            1 for side, message in self.log if side == to and isinstance(message, Request) and message.method == method
        )

    def statuses(self, to: str, method: str) -> Iterator[int]:
        return (
            message.status
            for side, message in self.log
            if side == to and isinstance(message, Response) and message.cseq[1] == method
        )
