"""The asyncio shell on loopback sockets: both transports, containment of failures, bounds, the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import structlog

from sipserver.protocol.endpoint import Event, Flow, InviteAccepted, InviteConfirmed, ProtocolFault, RequestReceived
from sipserver.protocol.ids import GbId
from sipserver.protocol.message import Uri
from sipserver.transport import SipTimeout, SipTransport, SipTransportError

from .harness import CAMERA, PLATFORM, make_endpoint
from .play_fakes import turn
from .test_codec import message

TARGET = Uri(user=CAMERA.value, host="127.0.0.1")
LOCAL = ("127.0.0.1", 0)


def shell(identity: GbId = PLATFORM, max_connections: int = 100) -> SipTransport:
    return SipTransport(make_endpoint(identity), clock=time.time, udp=LOCAL, tcp=LOCAL, max_connections=max_connections)


class Inbox:
    """Events of one shell, awaitable."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        self.queue.put_nowait(event)

    async def next(self) -> Event:
        return await asyncio.wait_for(self.queue.get(), 5)

    async def request(self) -> RequestReceived:
        event = await self.next()
        assert isinstance(event, RequestReceived)
        return event


@pytest.fixture
async def platform() -> AsyncIterator[SipTransport]:
    one = shell()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def device() -> AsyncIterator[SipTransport]:
    one = shell(CAMERA)
    await one.start()
    yield one
    await one.stop()


async def flow_to(sender: SipTransport, receiver: SipTransport, kind: str) -> Flow:
    if kind == "udp":
        assert receiver.udp_address is not None
        return sender.udp_flow(receiver.udp_address)
    assert receiver.tcp_address is not None
    return await sender.connect(receiver.tcp_address)


def answering(transport: SipTransport, status: int = 200) -> Callable[[Event], None]:
    def handle(event: Event) -> None:
        if isinstance(event, RequestReceived):
            transport.respond(event.transaction, status)

    return handle


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_request_and_answer(platform: SipTransport, device: SipTransport, kind: str) -> None:
    device.on_event = answering(device)
    flow = await flow_to(platform, device, kind)
    request = platform.endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA, body=b"<Query/>")
    response = await platform.request(request, flow, 5)
    assert response.status == 200


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_requests_go_both_ways_in_one_flow(platform: SipTransport, device: SipTransport, kind: str) -> None:
    inbox = Inbox()
    platform.on_event = inbox
    device.on_event = answering(device)
    flow = await flow_to(device, platform, kind)
    device.send(device.endpoint.new_request("MESSAGE", target=TARGET, to=PLATFORM), flow)
    event = await inbox.request()
    assert platform.respond(event.transaction, 200)
    back = platform.endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA)
    assert (await platform.request(back, event.flow, 5)).status == 200


async def test_call_over_real_sockets(platform: SipTransport, device: SipTransport) -> None:
    at_platform, at_device = Inbox(), Inbox()
    platform.on_event, device.on_event = at_platform, at_device
    flow = await flow_to(platform, device, "udp")
    dialog = platform.invite(target=TARGET, to=CAMERA, flow=flow, sdp=b"offer", subject="s")
    incoming = await at_device.request()
    device.respond(incoming.transaction, 200, body=b"answer")
    while not isinstance(event := await at_platform.next(), InviteAccepted):
        continue
    assert event.response.body == b"answer"
    platform.ack(dialog)
    assert isinstance(await at_device.next(), InviteConfirmed)
    platform.bye(dialog)
    assert type(await at_device.next()).__name__ == "DialogEnded"


async def test_failing_handler_is_contained_logged_counted_and_answered_500(
    platform: SipTransport, device: SipTransport
) -> None:
    def broken(event: Event) -> None:
        raise ValueError(f"cannot deal with {CAMERA.value}")

    platform.on_event = broken
    flow = await flow_to(device, platform, "udp")
    with structlog.testing.capture_logs() as logs:
        request = device.endpoint.new_request("MESSAGE", target=TARGET, to=PLATFORM)
        assert (await device.request(request, flow, 5)).status == 500
        platform.on_event = answering(platform)
        again = device.endpoint.new_request("MESSAGE", target=TARGET, to=PLATFORM)
        assert (await device.request(again, flow, 5)).status == 200, "everything else goes on"
    assert platform.counters["handler_failures"] == 1
    [line] = [entry for entry in logs if entry["event"] == "sip_handler_failed"]
    assert line["call_id"] == request.call_id
    assert line["error"] == "ValueError"
    assert "broken" in line["at"]
    assert CAMERA.value not in str(logs), "texts of errors may quote the message"


async def test_failing_task_is_contained_too(platform: SipTransport, device: SipTransport) -> None:
    async def broken() -> None:
        raise KeyError("x")

    def handle(event: Event) -> None:
        assert isinstance(event, RequestReceived)
        platform.run(event, broken())

    platform.on_event = handle
    flow = await flow_to(device, platform, "tcp")
    request = device.endpoint.new_request("MESSAGE", target=TARGET, to=PLATFORM)
    assert (await device.request(request, flow, 5)).status == 500
    assert platform.counters["handler_failures"] == 1


async def test_silence_is_a_sip_timeout(platform: SipTransport, device: SipTransport) -> None:
    flow = await flow_to(platform, device, "udp")
    request = platform.endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA)
    with pytest.raises(SipTimeout):
        await platform.request(request, flow, 0.01)
    assert len(platform._exchanges) == 0


async def test_lost_connection_fails_waiting_requests_at_once(platform: SipTransport, device: SipTransport) -> None:
    inbox = Inbox()
    device.on_event = inbox
    flow = await flow_to(platform, device, "tcp")
    request = platform.endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA)
    waiting = asyncio.create_task(platform.request(request, flow, 30))
    await inbox.request()
    await device.stop()
    with pytest.raises(SipTransportError):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(SipTransportError):
        await asyncio.wait_for(platform.request(request, flow, 30), 5)


async def test_rubbish_on_udp_is_dropped_before_parsing(platform: SipTransport, device: SipTransport) -> None:
    assert platform.udp_address is not None
    loop = asyncio.get_running_loop()
    sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=platform.udp_address)
    for data in (b"\x00" * 4, b"\r\n\r\n", b"\x80" * 100, b"GET / HTTP/1.1\r\n\r\n"):
        sender.sendto(data)
    platform.on_event = answering(platform)
    flow = await flow_to(device, platform, "udp")
    await device.request(device.endpoint.new_request("MESSAGE", target=TARGET, to=PLATFORM), flow, 5)
    assert platform.counters["not_sip"] == 2, "keep-alives do not count"
    sender.close()


async def test_broken_stream_is_answered_and_closed(platform: SipTransport) -> None:
    assert platform.tcp_address is not None
    inbox = Inbox()
    platform.on_event = inbox
    reader, writer = await asyncio.open_connection(*platform.tcp_address)
    writer.write(message().replace(b"Length: 0", b"Length: x"))
    answer = await asyncio.wait_for(reader.read(), 5)  # to the end of the connection
    assert answer.startswith(b"SIP/2.0 400 ")
    assert isinstance(await inbox.next(), ProtocolFault)
    writer.close()


async def test_flood_of_faults_is_one_log_line_a_second(platform: SipTransport) -> None:
    assert platform.tcp_address is not None
    with structlog.testing.capture_logs() as logs:
        reader, writer = await asyncio.open_connection(*platform.tcp_address)
        bad = message().replace(b"From:", b"X:")
        writer.write(bad * 200)
        for _ in range(200):
            assert b"400" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
    assert platform.counters["faults"] == 200
    assert len([entry for entry in logs if entry["event"] == "sip_faults"]) <= 2


async def test_connections_are_bounded() -> None:
    one = shell(max_connections=2)
    await one.start()
    assert one.tcp_address is not None
    opened = [await asyncio.open_connection(*one.tcp_address) for _ in range(3)]
    try:
        assert await asyncio.wait_for(opened[2][0].read(), 5) == b"", "closed without a word"
    except ConnectionResetError:
        assert one._connections.counters["refused"] == 1
    assert one._connections.counters["refused"] == 1
    reader, writer = opened[0]
    writer.write(message("OPTIONS"))
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"SIP/2.0 200")
    for _, writer in opened:
        writer.close()
    await one.stop()


async def test_port_in_use_is_an_error_and_nothing_stays_bound(platform: SipTransport) -> None:
    second = SipTransport(make_endpoint(), clock=time.time, udp=LOCAL, tcp=platform.tcp_address)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    assert second._datagrams is None
    await second.stop()


async def test_stop_fails_what_waits(device: SipTransport) -> None:
    one = shell()
    await one.start()
    flow = await flow_to(one, device, "udp")
    waiting = asyncio.create_task(one.request(one.endpoint.new_request("MESSAGE", target=TARGET, to=CAMERA), flow, 30))
    await turn()
    await one.stop()
    with pytest.raises(SipTransportError):
        await waiting


async def test_late_answer_is_counted_not_raised(platform: SipTransport) -> None:
    assert platform.respond("s999", 200) is False
    assert platform.counters["answers_too_late"] == 1
