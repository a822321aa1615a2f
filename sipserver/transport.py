"""Asyncio shell of the SIP core: UDP and TCP sockets, the timer, events to one handler, awaitable requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache
from typing import Any

from sipserver.admission import Admission, AdmissionConfig
from sipserver.containment import Containment
from sipserver.exchanges import Exchanges, SipTimeout, SipTransportError
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.events import Event, Flow, ProtocolFault, RequestReceived
from sipserver.protocol.ids import GbId
from sipserver.protocol.message import Request, Response, Uri
from sipserver.sockets import Connection, Connections, Datagram, DatagramSocket, local_address_towards

__all__ = ["SipTimeout", "SipTransport", "SipTransportError"]

_SWEEP_INTERVAL = 30.0  # seconds between looks for idle connections


@lru_cache(maxsize=65_536)
def _udp_flow(remote: tuple[str, int], local: tuple[str, int]) -> Flow:
    """The same object for the same addresses: flows are keys everywhere, and equal objects compare fastest."""
    return Flow("udp", remote, local)


class SipTransport:
    """Owns the sockets. `on_event` gets every event that no awaiting request consumes, in order, in the loop.

    An exception out of `on_event` is contained: logged with the Call-ID, counted, answered 500. `counters`:
    handler_failures, not_sip, faults, tasks_refused, answers_too_late, and what `admission` dropped by reason.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        clock: Callable[[], float],
        udp: tuple[str, int] | None,
        tcp: tuple[str, int] | None,
        on_event: Callable[[Event], None] | None = None,
        advertised_host: str | None = None,
        max_connections: int = 20_000,
        idle_timeout: float = 900.0,
        admission: AdmissionConfig | None = None,
    ) -> None:
        """udp, tcp: (host, port) to bind, port 0 for any, None for not at all. `on_event` may be set later.

        advertised_host: our address in Via and Contact when peers cannot reach the bound one (containers, NAT).
        idle_timeout: seconds without a byte after which a TCP connection is closed.
        """
        self.endpoint = endpoint
        self.on_event: Callable[[Event], None] = on_event or (lambda event: None)
        self.on_connection_lost: Callable[[Flow], None] = lambda flow: None
        self.counters: Counter[str] = Counter()
        self.admission = Admission(counters=self.counters, now=clock(), config=admission)
        self.udp_address: tuple[str, int] | None = None  # bound, after start()
        self.tcp_address: tuple[str, int] | None = None
        self._clock = clock
        self._udp, self._tcp = udp, tcp
        self._advertised = advertised_host
        self._datagrams: DatagramSocket | None = None
        self._server: asyncio.Server | None = None
        self._connections = Connections(max_connections, idle_timeout)
        self._exchanges = Exchanges()
        self._containment = Containment(clock=clock, counters=self.counters, answer=self.respond)
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0  # the deadline that `_timer` is for
        self._sweeper: asyncio.TimerHandle | None = None
        self._pumping = False

    # life

    async def start(self) -> None:
        """Bind. Raises OSError when a port is taken; then nothing stays bound."""
        loop = asyncio.get_running_loop()
        try:
            if self._udp is not None:
                self._datagrams = DatagramSocket(self._datagrams_received)
                self._datagrams.open(self._udp)
                self.udp_address = self._datagrams.address
            if self._tcp is not None:
                self._server = await loop.create_server(self._new_connection, *self._tcp, backlog=1024)
                host, port = self._server.sockets[0].getsockname()[:2]
                self.tcp_address = (str(host), int(port))
        except OSError:
            await self.stop()
            raise
        self._sweep()

    async def stop(self) -> None:
        """Close every socket, fail what waits, end what runs. May be called twice."""
        for handle in (self._timer, self._sweeper):
            if handle is not None:
                handle.cancel()
        self._timer = self._sweeper = None
        if self._server is not None:
            self._server.close()
        self._connections.close_all()
        if self._datagrams is not None:
            self._datagrams.close()
        self._server = self._datagrams = None
        await self._containment.stop()
        self._exchanges.fail_all()

    async def connect(self, remote: tuple[str, int]) -> Flow:
        """Open a TCP connection to a peer (simulators, upper platforms). Raises SipTransportError."""
        try:
            _, connection = await asyncio.get_running_loop().create_connection(self._new_connection, *remote)
        except OSError as error:
            raise SipTransportError("connect_failed") from error
        return connection.flow

    def udp_flow(self, remote: tuple[str, int]) -> Flow:
        """The UDP flow to a peer, with the local address that routes there (several interfaces: facts §31.1)."""
        bound = self.udp_address
        if bound is None:
            raise LocalProtocolError("udp_not_bound")
        host = self._advertised or local_address_towards(remote, bound[0])
        return _udp_flow(remote, (host, bound[1]))

    # commands: the endpoint's own at the clock's time, and what they produce goes out at once

    async def request(
        self,
        request: Request,
        flow: Flow,
        timeout: float = 32.0,  # noqa: ASYNC109 - belongs to the exchange, ends as SipTimeout
    ) -> Response:
        """Final response. Raises SipTimeout, SipTransportError, LocalProtocolError (no room, malformed)."""
        return await self._exchanges.answer(self.send(request, flow), timeout)

    async def request_in_dialog(
        self,
        dialog: str,
        method: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = 32.0,  # noqa: ASYNC109 - as in request()
    ) -> Response:
        name = self.endpoint.request_in_dialog(dialog, method, headers, body, now=self._clock())
        self._pump_soon()
        return await self._exchanges.answer(name, timeout)

    def send(self, request: Request, flow: Flow) -> str:
        """Transaction name; its outcome comes to `on_event`, unless awaited by request()."""
        name = self.endpoint.send_request(request, flow, now=self._clock())
        self._pump_soon()
        return name

    def respond(
        self,
        transaction: str,
        status: int,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> bool:
        """False when it is too late: the transaction timed out, was cancelled or is answered already."""
        try:
            self.endpoint.respond(transaction, status, reason=reason, headers=headers, body=body, now=self._clock())
        except LocalProtocolError as error:
            if error.reason != "transaction_unknown":
                raise
            self.counters["answers_too_late"] += 1
            return False
        self._pump_soon()
        return True

    def invite(
        self,
        *,
        target: Uri,
        to: GbId,
        flow: Flow,
        sdp: bytes,
        subject: str,
        headers: Iterable[tuple[str, str]] = (),
    ) -> str:
        """Name of the dialog; its events come to `on_event`."""
        name = self.endpoint.invite(
            target=target, to=to, flow=flow, sdp=sdp, subject=subject, headers=headers, now=self._clock()
        )
        self._pump_soon()
        return name

    def ack(self, dialog: str) -> None:
        self.endpoint.ack(dialog, now=self._clock())
        self._pump_soon()

    def cancel(self, dialog: str) -> None:
        self.endpoint.cancel(dialog, now=self._clock())
        self._pump_soon()

    def bye(self, dialog: str, *, flow: Flow | None = None) -> str:
        name = self.endpoint.bye(dialog, flow=flow, now=self._clock())
        self._pump_soon()
        return name

    def run(self, event: RequestReceived, work: Coroutine[Any, Any, None]) -> None:
        """Deal with a request in a task of its own; a failure is contained as in `on_event`. 503 over 10 000 tasks."""
        self._containment.run(event, work)

    # from the sockets

    def _datagrams_received(self, taken: list[Datagram]) -> None:
        now = self._clock()
        for data, remote in taken:
            # Cheapest checks first, before anything is made of the packet (reliability rule §1.4).
            if self.admission.admit(data, remote, now=now):
                self.endpoint.receive(data, self.udp_flow(remote), now=now)
        self._pump()

    def _new_connection(self) -> Connection:
        return Connection(
            self._connections,
            clock=self._clock,
            advertised=(self._advertised, self.tcp_address[1] if self.tcp_address else None),
            on_data=self._stream_received,
            on_lost=self._stream_lost,
        )

    def _stream_received(self, data: bytes, flow: Flow) -> None:
        self.endpoint.receive(data, flow, now=self._clock())
        self._pump()

    def _stream_lost(self, flow: Flow) -> None:
        self.endpoint.connection_lost(flow, now=self._clock())
        self._pump()
        self.on_connection_lost(flow)

    # the pump

    def _pump_soon(self) -> None:
        """After a command: bytes go out now, events are handled by the pump that is running or in the next turn."""
        self._flush()
        if not self._pumping:
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            self._flush()
            while (event := self.endpoint.next_event()) is not None:
                self._handle(event)
                self._flush()
        finally:
            self._pumping = False
        self._arm()

    def _flush(self) -> None:
        for data, flow in self.endpoint.datagrams_to_send(now=self._clock()):
            if flow.connection is None:
                if self._datagrams is not None:
                    self._datagrams.send(data, flow.remote)
            elif not self._connections.send(data, flow):
                # The core learns it at once instead of waiting for its timers.
                asyncio.get_running_loop().call_soon(self._stream_lost, flow)

    def _arm(self) -> None:
        """Wake up for the next deadline. One that moved later is left: waking too early costs less than re-arming."""
        deadline = self.endpoint.next_timeout()
        if deadline is None or (self._timer is not None and self._armed <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = deadline
        delay = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self.endpoint.handle_timeout(now=self._clock())
        self._pump()

    def _sweep(self) -> None:
        self._connections.close_idle(self._clock())
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_INTERVAL, self._sweep)

    # events

    def _handle(self, event: Event) -> None:
        if isinstance(event, ProtocolFault):
            self._containment.note_fault(event)
            if event.fatal:
                self._flush()
                self._connections.close(event.flow)
        elif self._exchanges.take(event):
            return
        self._containment.handle(self.on_event, event)
