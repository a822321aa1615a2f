"""What goes in and out of the SIP endpoint besides bytes: flows, limits and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sipserver.protocol.errors import ProtocolError
from sipserver.protocol.message import Request, Response


@dataclass(frozen=True, slots=True)
class Flow:
    """Where bytes come from and answers go: a UDP address pair or one TCP connection.

    remote, local: (host, port), IPv6 without brackets. connection: number of the TCP connection, unique for the life
    of the process; None for UDP. GB/T 28181 §9.1.1 f: everything for a device runs in its own flow, both ways.
    """

    transport: Literal["udp", "tcp"]
    remote: tuple[str, int]
    local: tuple[str, int]
    connection: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the core. Requests over a bound get 503 (statelessly); commands over a bound raise LocalProtocolError.

    Sizes in octets, times in seconds.
    """

    datagram: int = 65_535  # one UDP message
    head: int = 65_536  # start line and headers of one message
    body: int = 10 * 1024 * 1024  # one body on a stream (10 000 catalogue items, annex M)
    stream_buffer: int = 64 * 1024 * 1024  # unfinished messages of all connections together
    stream_messages: int = 1_000  # complete messages taken out of one read
    frame_timeout: float = 30.0  # a message begun on a stream must be complete after this time
    header_lines: int = 256
    connections: int = 20_000
    client_transactions: int = 16_384
    server_transactions: int = 131_072  # each is kept for 32 s: some 4 000 requests a second
    server_transactions_per_host: int = 49_152  # a lower platform pushes 100 000 channels, four a message, in a minute
    dialogs: int = 10_000
    events: int = 65_536  # events not yet fetched by next_event()
    outgoing: int = 65_536  # datagrams not yet fetched by datagrams_to_send()
    retry_after: int = 10  # Retry-After of the 503


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReceived:
    """A new request, once: retransmissions are answered by the core and never seen again.

    Not surfaced, because the core deals with them: ACK, CANCEL, OPTIONS, BYE (answered 200 → DialogEnded), requests
    with unknown methods (405/501), required extensions (420), malformed requests (→ ProtocolFault).
    Everything else must be answered by Endpoint.respond(transaction, …). `dialog` names the dialog that the request
    belongs to; for an INVITE that starts one it is the dialog it would create (see `initial`), which exists only
    until the INVITE is refused. MESSAGE matches a dialog by Call-ID even when the tags are wrong (facts §19.3).
    """

    transaction: str
    request: Request
    flow: Flow
    dialog: str | None
    received_at: float
    initial: bool = False  # True: an INVITE without To tag, which may create `dialog`


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseReceived:
    """A response to send_request() or a request in a dialog other than INVITE; status < 200 is provisional."""

    transaction: str
    response: Response
    flow: Flow
    dialog: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionTimedOut:
    """No final response in 64·T1 = 32 s (RFC 3261 timers B and F). With `dialog`: an INVITE of ours failed so."""

    transaction: str
    dialog: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportFailed:
    """The connection went away before the final response. With `dialog`: an INVITE of ours failed so."""

    transaction: str
    dialog: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteProvisional:
    """1xx to our INVITE (100 included)."""

    dialog: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteAccepted:
    """First 2xx to our INVITE. Answer it with Endpoint.ack(dialog); copies of the 2xx are re-ACKed by the core."""

    dialog: str
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteRejected:
    """Final 300-699 to our INVITE, ACKed by the core; the dialog is gone."""

    dialog: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteCancelled:
    """An INVITE ended by CANCEL, ours (also when a late 2xx had to be ACKed and BYEd) or the peer's (answered 487)."""

    dialog: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteConfirmed:
    """ACK for a 2xx that we gave as callee; `body` is its SDP if the INVITE came without one (facts §18.2)."""

    dialog: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogEnded:
    """The dialog is over and its name is free.

    by="peer": BYE, already answered 200; reason "bye". by="us": our BYE was answered ("bye"), not answered
    ("bye_unanswered") or could not be sent ("transport"); "no_ack": we gave 200 and BYE because no ACK ever came.
    """

    dialog: str
    by: Literal["peer", "us"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolFault:
    """Something arrived that could not be used. fatal: the connection of `flow` must be closed by the shell."""

    error: ProtocolError
    flow: Flow
    call_id: str | None
    status_sent: int | None
    fatal: bool = False


Event = (
    RequestReceived
    | ResponseReceived
    | TransactionTimedOut
    | TransportFailed
    | InviteProvisional
    | InviteAccepted
    | InviteRejected
    | InviteCancelled
    | InviteConfirmed
    | DialogEnded
    | ProtocolFault
)
