"""A platform under attack on a written clock: packets go through admission exactly as from the socket."""

from __future__ import annotations

from collections import Counter

from sipserver.admission import Admission, AdmissionConfig
from sipserver.protocol.codec import parse_datagram
from sipserver.protocol.events import Flow
from sipserver.protocol.ids import GbId
from sipserver.protocol.message import Response
from tests.gb.harness import DOMAIN, PLATFORM, SERVER, FakeDevice, World, settle


def code(number: int) -> GbId:
    return GbId(f"34020000001320{number:06d}")


def register_bytes(who: str, source: tuple[str, int], serial: int, extra: str = "") -> bytes:
    """A REGISTER of ordinary size, each a new transaction."""
    host, port = source
    return (
        f"REGISTER sip:{PLATFORM.value}@{DOMAIN} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{serial:010x}\r\n"
        f"From: <sip:{who}@{DOMAIN}>;tag={serial:08x}\r\nTo: <sip:{who}@{DOMAIN}>\r\n"
        f"Call-ID: {serial:016x}@{host}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{who}@{host}:{port}>\r\n"
        f"Max-Forwards: 70\r\nUser-Agent: Embedded Net DVR\r\nExpires: 3600\r\n{extra}Content-Length: 0\r\n\r\n"
    ).encode()


class Siege:
    """The world of tests/gb with the socket's entrance, counting what is parsed and what goes out to whom."""

    def __init__(self, config: AdmissionConfig | None = None, *, bypass: bool = True) -> None:
        self.world = world = World()
        transport = world.transport
        transport.udp_address = SERVER
        transport.admission = Admission(counters=transport.counters, now=world.clock(), config=config)
        if bypass:
            transport.admission.is_known = lambda remote: world.bindings.knows(transport.udp_flow(remote))
        transport.admission.proves = world.registrar.proves_address
        world.endpoint.is_stranger = lambda flow: not world.bindings.knows_host(flow.remote[0])
        self.parsed: Counter[str] = Counter()
        receive = world.endpoint.receive

        def counted(data: bytes, flow: Flow, *, now: float) -> None:
            self.parsed[flow.remote[0]] += 1
            receive(data, flow, now=now)

        world.endpoint.receive = counted  # type: ignore[method-assign]
        transport.arrive = lambda data, flow: self.packet(data, flow.remote)  # type: ignore[method-assign]

    def packet(self, data: bytes, remote: tuple[str, int]) -> None:
        self.world.transport._datagrams_received([(data, remote)])

    def drain(self) -> None:
        """Forget what was sent so far."""
        self.world.sent.clear()

    def answers(self) -> list[Response]:
        parsed = [parse_datagram(data) for data, _ in self.world.sent]
        return [message for message in parsed if isinstance(message, Response)]


class Newcomer:
    """A device that registers as RFC 3261 wants it, with retransmissions on the written clock."""

    def __init__(self, siege: Siege, number: int, *, password: str | None = None) -> None:
        self.siege = siege
        self.gb_id = code(number)
        siege.world.store.add(self.gb_id)
        self.device: FakeDevice = siege.world.device(self.gb_id, (f"203.0.113.{number % 250}", 5060 + number))
        self.done = False
        self.first: list[tuple[str, str]] = [
            ("Contact", f"<sip:{self.gb_id.value}@203.0.113.9:5060>"),
            ("Expires", "3600"),
        ]
        self.device.request("REGISTER", (*self.first, ("CSeq", "1 REGISTER")))

    def tick(self) -> None:
        device = self.device
        device.endpoint.handle_timeout(now=self.siege.world.clock())
        device.flush()
        while device.responses:
            response = device.responses.popleft()
            if response.status == 401:
                authorization = device.authorization(response)
                headers = (*self.first, ("CSeq", "2 REGISTER"), ("Authorization", authorization))
                device.request("REGISTER", headers)
            elif response.status == 200:
                self.done = True


async def settled(rounds: int = 12) -> None:
    await settle(rounds)
