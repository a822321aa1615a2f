"""The sockets under SipTransport: one datagram socket, bounded TCP connections with bounded write buffers."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import cast

from sipserver.protocol.events import Flow

_RECEIVE_BUFFER = 4 * 1024 * 1024  # a device fleet that comes back speaks all at once
_READ_TURN = 32  # packets taken before anything else gets its turn
_DATAGRAM = 65_535
_WRITE_LIMIT = 1024 * 1024  # octets a peer may leave unread before its connection is cut
_PER_HOST = 4_000  # connections from one address
_FAREWELL = 2.0  # seconds a peer whose framing broke has to read our answer and close
_FAREWELL_OCTETS = 256 * 1024  # and what it may still send meanwhile
Datagram = tuple[bytes, tuple[str, int]]
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound


@lru_cache(maxsize=8192)
def _routed_address(host: str, family: int) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing: asks the routing table
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1" if family == socket.AF_INET else "::1"


def local_address_towards(remote: tuple[str, int], bound: str) -> str:
    """Our address as that peer sees it: the bound one, or what the routing table says for wildcard sockets."""
    if bound not in _WILDCARDS:
        return bound
    return _routed_address(remote[0], socket.AF_INET6 if ":" in remote[0] else socket.AF_INET)


class DatagramSocket:
    """The UDP socket, read in turns of up to `_READ_TURN` packets: asyncio's own transport takes one a turn of the
    loop, which at some thousand packets a second costs more than the packets themselves.

    Errors that earlier packets caused (ICMP unreachable) mean nothing here: timers find out. What the kernel does not
    take is dropped, as if lost on the way. `counters`: errors, dropped.
    """

    def __init__(self, on_datagrams: Callable[[list[Datagram]], None]) -> None:
        self._on_datagrams = on_datagrams
        self._socket: socket.socket | None = None
        self.address: tuple[str, int] = ("", 0)
        self.counters: Counter[str] = Counter()

    def open(self, address: tuple[str, int]) -> None:
        """Bind and start reading. Raises OSError."""
        family, kind, protocol, _, resolved = socket.getaddrinfo(
            *address, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            opened.bind(resolved)
        except OSError:
            opened.close()
            raise
        self._socket = opened
        host, port = opened.getsockname()[:2]
        self.address = (str(host), int(port))
        asyncio.get_running_loop().add_reader(opened.fileno(), self._readable)

    def _readable(self) -> None:
        opened = self._socket
        if opened is None:
            return
        taken: list[Datagram] = []
        try:
            for _ in range(_READ_TURN):
                data, source = opened.recvfrom(_DATAGRAM)
                taken.append((data, (source[0], source[1])))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.counters["errors"] += 1
        self._on_datagrams(taken)

    def send(self, data: bytes, remote: tuple[str, int]) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(data, remote)
        except (BlockingIOError, InterruptedError):
            self.counters["dropped"] += 1
        except OSError:
            self.counters["errors"] += 1

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


class Connections:
    """Living TCP connections by number; bounded in all and per host."""

    def __init__(self, limit: int, idle_timeout: float) -> None:
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._living: dict[int, Connection] = {}
        self._hosts: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self.numbers = count(1)

    def __len__(self) -> int:
        return len(self._living)

    def admit(self, connection: Connection) -> bool:
        host = connection.flow.remote[0]
        if len(self._living) >= self._limit or self._hosts[host] >= _PER_HOST:
            self.counters["refused"] += 1
            return False
        self._living[connection.number] = connection
        self._hosts[host] += 1
        return True

    def remove(self, connection: Connection) -> bool:
        if self._living.pop(connection.number, None) is None:
            return False
        host = connection.flow.remote[0]
        self._hosts[host] -= 1
        if self._hosts[host] <= 0:
            del self._hosts[host]
        return True

    def send(self, data: bytes, flow: Flow) -> bool:
        """False when there is no such connection any more."""
        connection = self._living.get(flow.connection or 0)
        if connection is None:
            return False
        connection.send(data)
        return True

    def close(self, flow: Flow) -> None:
        """Close after what is written has gone out and been read: see Connection.part."""
        connection = self._living.get(flow.connection or 0)
        if connection is not None:
            connection.part()

    def close_idle(self, now: float) -> None:
        for connection in tuple(self._living.values()):
            if now - connection.heard_at > self._idle_timeout:
                self.counters["idle_closed"] += 1
                connection.close()

    def close_all(self) -> None:
        for connection in tuple(self._living.values()):
            connection.abort()


class Connection(asyncio.Protocol):
    """One TCP connection, dialled or accepted."""

    def __init__(
        self,
        connections: Connections,
        *,
        clock: Callable[[], float],
        advertised: tuple[str | None, int | None],
        on_data: Callable[[bytes, Flow], None],
        on_lost: Callable[[Flow], None],
    ) -> None:
        self.number = next(connections.numbers)
        self.heard_at = clock()
        self._connections = connections
        self._clock = clock
        self._advertised = advertised
        self._on_data = on_data
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._discarded = 0
        self.flow = Flow("tcp", ("", 0), ("", 0), self.number)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        host, port = self._advertised
        # The local port of a dialled connection is of no use to anybody: we listen elsewhere, if at all.
        ours = (host or str(local[0]), port or int(local[1]))
        self.flow = Flow("tcp", (str(remote[0]), int(remote[1])), ours, self.number)
        if not self._connections.admit(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._farewell is not None:
            self._discarded += len(data)
            if self._discarded > _FAREWELL_OCTETS:
                self.abort()
            return
        self.heard_at = self._clock()
        self._on_data(data, self.flow)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
        if self._connections.remove(self):
            self._on_lost(self.flow)

    def send(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing() or self._farewell is not None:
            return
        if self._transport.get_write_buffer_size() > _WRITE_LIMIT:
            self._connections.counters["cut_unread"] += 1
            self._transport.abort()
            return
        self._transport.write(data)

    def part(self) -> None:
        """Say no more and read no more, but let the peer read what we wrote: closing at once while it still sends
        would reset the connection and take our answer with it."""
        if self._transport is None or self._transport.is_closing() or self._farewell is not None:
            return
        self._farewell = asyncio.get_running_loop().call_later(_FAREWELL, self.abort)
        self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
