"""The SIP endpoint: five calls for bytes and time, commands for the shells, events for what happened (RFC 3261).

Responses always go back where the request came from (its flow), whatever Via says: devices sit behind NAT, and an
answer to an address that a stranger wrote into a header would be a reflection weapon (facts §3.1).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

from sipserver.protocol import codec
from sipserver.protocol.address import Via
from sipserver.protocol.answers import ACCEPT, ALLOW, Fields, build_response, contact_for, refusal
from sipserver.protocol.calls import Calls
from sipserver.protocol.copies import Copies
from sipserver.protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from sipserver.protocol.events import (
    DialogEnded,
    Event,
    Flow,
    InviteAccepted,
    InviteCancelled,
    InviteConfirmed,
    InviteProvisional,
    InviteRejected,
    Limits,
    ProtocolFault,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.ids import GbId
from sipserver.protocol.message import Headers, Request, Response, Uri
from sipserver.protocol.transaction import Action, Input, Kind, State, Transaction
from sipserver.protocol.transaction_layer import Ended, Happened, TransactionLayer, server_key

__all__ = [
    "DialogEnded",
    "Endpoint",
    "Event",
    "Flow",
    "InviteAccepted",
    "InviteCancelled",
    "InviteConfirmed",
    "InviteProvisional",
    "InviteRejected",
    "Limits",
    "ProtocolFault",
    "RequestReceived",
    "ResponseReceived",
    "TransactionTimedOut",
    "TransportFailed",
]

_DEFAULT_LIMITS = Limits()
# In-dialog requests that make no sense without their dialog; MESSAGE, NOTIFY and SUBSCRIBE are surfaced all the same.
_NEEDS_DIALOG = frozenset(("BYE", "INFO", "INVITE"))
_NEEDED = frozenset(("WWW-Authenticate", "Proxy-Authenticate", "Retry-After", "Min-Expires"))
_LARGEST_ANSWER = 1.2  # times the request, for strangers over UDP
_STATELESS_STATUSES = frozenset((401, 407))


class Endpoint:
    """Owns no socket, task or clock. token(n) must return 2n random hex digits. `counters` are for metrics."""

    def __init__(
        self,
        *,
        identity: GbId,
        domain: str,
        user_agent: str,
        token: Callable[[int], str],
        limits: Limits = _DEFAULT_LIMITS,
    ) -> None:
        self.identity = identity
        self.domain = domain
        self.counters: Counter[str] = Counter()
        self._user_agent = user_agent
        self._token = token
        self._limits = limits
        self._events: deque[Event] = deque()
        self._framers: dict[int, tuple[codec.Framer, Flow]] = {}
        self._unfinished: dict[int, float] = {}  # connections holding a part of a message: since when
        self._buffered = 0
        self._fingerprint: int | None = None  # of the datagram being read
        self._octets = 0  # of that datagram
        #: Set by the shell: nobody known sends from there. Strangers over UDP may be somebody else's address, so they
        #: get no answer that is larger than what they sent, and none twice (RFC 3261 §8.2.7: a stateless server).
        self.is_stranger: Callable[[Flow], bool] = lambda flow: False
        self._layer = TransactionLayer(limits)
        self._calls = Calls(
            layer=self._layer,
            limits=limits,
            user=identity.value,
            user_agent=user_agent,
            emit=self._events.append,
            new_via=self._new_via,
        )

    # bytes, time, events

    def receive(self, data: bytes, flow: Flow, *, now: float) -> None:
        """One datagram, or any chunk of a stream (flow.connection set). Never raises for what the data is."""
        if flow.connection is None:
            self._receive_datagram(data, flow, now=now)
        else:
            self._receive_stream(data, flow, flow.connection, now=now)
        self._settle(now)

    def connection_lost(self, flow: Flow, *, now: float) -> None:
        """The TCP connection is gone: its unfinished client transactions give TransportFailed."""
        if flow.connection is None:
            return
        known = self._framers.pop(flow.connection, None)
        self._unfinished.pop(flow.connection, None)
        if known is not None:
            self._buffered -= known[0].buffered
        self._layer.connection_lost(flow.connection, now=now)
        self._settle(now)

    def handle_timeout(self, *, now: float) -> None:
        """Fire everything due at `now`."""
        self._layer.timeout(now=now)
        late = [name for name, begun in self._unfinished.items() if begun + self._limits.frame_timeout <= now]
        for connection in late:
            framer, flow = self._framers[connection]
            self._buffered -= framer.buffered
            framer.give_up()
            self._stream_broken(framer, flow)
        self._settle(now)

    def next_timeout(self) -> float | None:
        """Unix time at which handle_timeout() wants to be called; None when nothing waits."""
        timer = self._layer.timers.next()
        if not self._unfinished:
            return timer
        frame = min(self._unfinished.values()) + self._limits.frame_timeout
        return frame if timer is None else min(frame, timer)

    def datagrams_to_send(self, *, now: float) -> list[tuple[bytes, Flow]]:
        """Everything to be written now, in order; on streams each item is a whole message."""
        del now
        waiting = list(self._layer.outgoing)
        self._layer.outgoing.clear()
        return waiting

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def load(self) -> dict[str, int]:
        """Sizes of everything that is bounded, for metrics and tests."""
        clients, servers = self._layer.counts()
        return {
            "client_transactions": clients,
            "server_transactions": servers,
            "dialogs": len(self._calls),
            "connections": len(self._framers),
            "buffered": self._buffered,
            "timers": len(self._layer.timers),
        }

    # commands

    def new_request(
        self, method: str, *, target: Uri, to: GbId, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> Request:
        """A request outside dialogs with From (our identity, fresh tag), To, Call-ID and CSeq 1, all replaceable by
        `headers`. send_request() adds the rest."""
        basis = Headers(
            (
                ("From", f"<sip:{self.identity.value}@{self.domain}>;tag={self._token(8)}"),
                ("To", f"<sip:{to.value}@{to.domain}>"),
                ("Call-ID", self._token(16)),
                ("CSeq", f"1 {method}"),
            )
        )
        for name, value in headers:
            basis = basis.with_(name, value)
        return Request(method, target, basis, body)

    def send_request(self, request: Request, flow: Flow, *, now: float) -> str:
        """Name of the client transaction. Adds Via, Max-Forwards, User-Agent, Content-Length and, where missing,
        From, To, Call-ID, CSeq and Contact. Answer: ResponseReceived, TransactionTimedOut or TransportFailed.
        Not for INVITE. Raises LocalProtocolError when full or malformed."""
        if request.method in ("INVITE", "ACK", "CANCEL"):
            raise LocalProtocolError("method_needs_its_own_command")
        transaction = self._layer.start_client(self._complete(request, flow), flow, now=now)
        return transaction.name

    def respond(
        self,
        transaction: str,
        response_status: int,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        now: float,
    ) -> None:
        """Answer a RequestReceived: Via, From, To (+ tag), Call-ID and CSeq are copied. 401 leaves no state behind.

        A 2xx to an INVITE creates its dialog and is repeated until the ACK. Raises LocalProtocolError
        ("transaction_unknown") for transactions that are answered, cancelled, timed out or unknown.
        """
        running = self._layer.get(transaction)
        if running is None or running.request is None or running.kind not in (Kind.SERVER, Kind.INVITE_SERVER):
            raise LocalProtocolError("transaction_unknown")
        self._answer(running, response_status, reason=reason, extra=headers, body=body, now=now)
        self._settle(now)

    def invite(
        self,
        *,
        target: Uri,
        to: GbId,
        flow: Flow,
        sdp: bytes,
        subject: str,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> str:
        """Name of the dialog. Then: InviteProvisional*, and one of InviteAccepted, InviteRejected, InviteCancelled,
        TransactionTimedOut or TransportFailed. Raises LocalProtocolError when full."""
        extra = [("Subject", subject), ("Allow", ALLOW), *headers]
        if sdp:
            extra.append(("Content-Type", "application/sdp"))
        request = self.new_request("INVITE", target=target, to=to, headers=extra, body=sdp)
        return self._calls.invite(self._complete(request, flow), flow, now=now)

    def ack(self, dialog: str, *, now: float, sdp: bytes = b"") -> None:
        """Acknowledge InviteAccepted; must follow soon, the peer repeats its 2xx until then (and after 32 s without
        ack() the core hangs up)."""
        self._calls.ack(dialog, sdp=sdp, now=now)
        self._settle(now)

    def cancel(self, dialog: str, *, now: float) -> None:
        """Give up an INVITE without final answer → InviteCancelled; a 2xx that comes late is ACKed and BYEd."""
        self._calls.cancel(dialog, now=now)
        self._settle(now)

    def bye(self, dialog: str, *, now: float, flow: Flow | None = None) -> str:
        """End a dialog → DialogEnded(by="us"); before the final answer it works as cancel().

        flow: where the peer is now, if not where it was. Returns the BYE's transaction, "" if no BYE went out (yet).
        """
        transaction = self._calls.bye(dialog, now=now, flow=flow)
        self._settle(now)
        return transaction

    def request_in_dialog(
        self,
        dialog: str,
        method: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        now: float,
    ) -> str:
        """INFO, MESSAGE, … with the dialog's tags, route and next CSeq; answered as send_request()."""
        return self._calls.request(dialog, method, headers, body, now=now).name

    # writing

    def _new_via(self, flow: Flow) -> str:
        params = (("rport", None), ("branch", f"{codec.MAGIC_COOKIE}{self._token(12)}"))
        return str(Via(transport=flow.transport.upper(), host=flow.local[0], port=flow.local[1], params=params))

    def _complete(self, request: Request, flow: Flow) -> Request:
        given = request.headers
        fields = [("Via", self._new_via(flow)), ("Max-Forwards", given.get("Max-Forwards") or "70")]
        fields.append(("From", given.get("From") or f"<sip:{self.identity.value}@{self.domain}>;tag={self._token(8)}"))
        fields.append(("To", given.get("To") or f"<{request.uri}>"))
        fields.append(("Call-ID", given.get("Call-ID") or self._token(16)))
        fields.append(("CSeq", given.get("CSeq") or f"1 {request.method}"))
        fields.append(("Contact", given.get("Contact") or contact_for(self.identity.value, flow)))
        fields.append(("User-Agent", given.get("User-Agent") or self._user_agent))
        present = Headers(fields)
        fields += [(name, value) for name, value in given.items() if name not in present]
        return Request(request.method, request.uri, Headers(fields), request.body)

    def _answer(
        self,
        transaction: Transaction,
        status: int,
        *,
        reason: str | None = None,
        extra: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        now: float,
    ) -> None:
        if transaction.request is None:
            raise LocalProtocolError("transaction_unknown")
        own = list(extra)
        if transaction.kind is Kind.INVITE_SERVER and 100 < status < 300:
            given = Headers(own)
            own += [pair for pair in self._calls.contact_headers(transaction.flow) if pair[0] not in given]
            own += [("Record-Route", route) for route in transaction.request.headers.all("Record-Route")]
            if body and "Content-Type" not in given:
                own.append(("Content-Type", "application/sdp"))
        headers, to_tag = transaction.request.headers, "" if status == 100 else transaction.to_tag
        if status in _STATELESS_STATUSES:
            to_tag = to_tag[:8]

        def made(more: Fields) -> Response:
            return build_response(
                headers, status, flow=transaction.flow, to_tag=to_tag, reason=reason, extra=more, body=body
            )

        response = made(own)
        if self._is_excessive(response, transaction):
            response = made([pair for pair in own if pair[0] in _NEEDED])
        # Refusals of strangers leave nothing behind, so that invented senders cannot fill the table.
        keep = status not in _STATELESS_STATUSES and not (
            status >= 400 and transaction.kind is Kind.SERVER and self.is_stranger(transaction.flow)
        )
        self._layer.answer(transaction, response, now=now, keep=keep)
        if transaction.kind is Kind.INVITE_SERVER and status >= 200:
            self._calls.answered(transaction, status, now=now)

    def _is_excessive(self, response: Response, transaction: Transaction) -> bool:
        """A refusal for a stranger that is longer than what it answers."""
        if response.status < 300 or not transaction.octets or not self.is_stranger(transaction.flow):
            return False
        return len(codec.encode(response)) > transaction.octets

    def _answer_stateless(
        self, headers: Headers, flow: Flow, status: int, extra: Iterable[tuple[str, str]] = ()
    ) -> None:
        try:
            answer = self._encoded(headers, flow, status, extra)
            if flow.connection is None and self.is_stranger(flow):
                allowed = int(self._octets * _LARGEST_ANSWER)
                if len(answer) > allowed and extra:
                    answer = self._encoded(headers, flow, status, ())
                if len(answer) > allowed:
                    self.counters["answer_too_large"] += 1
                    return
            self._layer.send(answer, flow)
        except LocalProtocolError:
            self.counters["answer_impossible"] += 1

    def _encoded(self, headers: Headers, flow: Flow, status: int, extra: Iterable[tuple[str, str]]) -> bytes:
        return codec.encode(build_response(headers, status, flow=flow, to_tag=self._token(4), extra=extra))

    # reading

    def _receive_datagram(self, data: bytes, flow: Flow, *, now: float) -> None:
        if codec.is_keepalive(data):
            return
        if len(data) > self._limits.datagram or not codec.looks_like_sip(data):
            self._fault(RemoteProtocolError("not_sip"), flow)
            return
        fingerprint = Copies.fingerprint(data, flow)
        answer = self._layer.copies.answer(fingerprint, now=now)
        if answer is not None:
            self.counters["retransmissions"] += 1
            if answer:
                self._layer.send(answer, flow)
            return
        self._fingerprint, self._octets = fingerprint, len(data)
        try:
            self._receive_message(codec.split(data, limits=self._limits), flow, now=now)
        finally:
            self._fingerprint, self._octets = None, 0

    def _receive_stream(self, data: bytes, flow: Flow, connection: int, *, now: float) -> None:
        known = self._framers.get(connection)
        if known is None:
            if len(self._framers) >= self._limits.connections:
                self._fault(RemoteProtocolError("connections_full", fatal=True), flow)
                return
            known = self._framers[connection] = (codec.Framer(self._limits), flow)
        framer, _ = known
        if framer.error is not None:
            return
        before = framer.buffered
        messages = framer.feed(data, now=now)
        self._buffered += framer.buffered - before
        if self._buffered > self._limits.stream_buffer:
            self._buffered -= framer.buffered
            framer.refuse()
        if framer.begun_at is None:
            self._unfinished.pop(connection, None)
        else:
            self._unfinished[connection] = framer.begun_at
        for raw in messages:
            self._receive_message(raw, flow, now=now)
        if framer.error is not None:
            self._stream_broken(framer, flow)

    def _stream_broken(self, framer: codec.Framer, flow: Flow) -> None:
        error = framer.error
        if error is None:
            return
        if flow.connection is not None:
            self._unfinished.pop(flow.connection, None)
        raw = framer.broken
        if raw is not None and error.status is not None and raw.answerable:
            self._answer_stateless(raw.headers, flow, error.status)
            self._fault(error, flow, call_id=raw.call_id, status=error.status)
        else:
            self._fault(error, flow)

    def _receive_message(self, raw: codec.RawMessage, flow: Flow, *, now: float) -> None:
        try:
            message = codec.interpret(raw)
            if isinstance(message, Response):
                if not self._layer.on_response(message, flow, now=now):
                    self.counters["responses_unmatched"] += 1
            else:
                self._receive_request(message, flow, now=now)
        except RemoteProtocolError as error:
            status = error.status if raw.answerable else None
            if status is not None:
                self._answer_stateless(raw.headers, flow, status)
            self._fault(error, flow, call_id=raw.call_id, status=status)

    def _fault(
        self, error: ProtocolError, flow: Flow, *, call_id: str | None = None, status: int | None = None
    ) -> None:
        self.counters["faults"] += 1
        if error.fatal or len(self._events) < self._limits.events:
            fatal = error.fatal and flow.connection is not None
            self._events.append(ProtocolFault(error=error, flow=flow, call_id=call_id, status_sent=status, fatal=fatal))

    def _receive_request(self, request: Request, flow: Flow, *, now: float) -> None:
        key = server_key(request, flow)
        known = self._layer.find_server(key)
        if request.method == "ACK":
            self._receive_ack(request, known, flow, now=now)
            return
        if known is not None:
            self.counters["retransmissions"] += 1
            self._layer.on_request_again(known, Input.REQUEST, flow, now=now)
            return
        refused = refusal(request)
        if refused is not None:
            self._answer_stateless(request.headers, flow, refused[0], refused[1])
            self._fault(
                RemoteProtocolError("request_refused", status=refused[0]),
                flow,
                call_id=request.call_id,
                status=refused[0],
            )
            return
        if request.method == "INVITE" and flow.connection is None and self.is_stranger(flow):
            self.counters["strangers_refused"] += 1
            self._answer_stateless(request.headers, flow, 403)
            return
        if request.method == "OPTIONS":
            self._answer_stateless(request.headers, flow, 200, (("Allow", ALLOW), ("Accept", ACCEPT)))
            return
        full = len(self._events) >= self._limits.events or (request.method == "INVITE" and self._calls.full)
        transaction = None if full else self._layer.start_server(key, request, flow, now=now)
        if transaction is None:
            self.counters["overload_refused"] += 1
            retry = (("Retry-After", str(self._limits.retry_after)),)
            self._answer_stateless(request.headers, flow, 503, retry)
            return
        transaction.to_tag = self._token(8)
        transaction.octets = self._octets
        if self._fingerprint is not None and request.method != "INVITE":
            transaction.fingerprint = self._fingerprint
            self._layer.copies.keep(self._fingerprint, b"", now=now)
        if request.method == "CANCEL":
            self._receive_cancel(transaction, request, flow, now=now)
        else:
            self._receive_new(transaction, request, flow, now=now)

    def _receive_ack(self, request: Request, known: Transaction | None, flow: Flow, *, now: float) -> None:
        if known is not None and known.state is not State.ACCEPTED:
            self._layer.on_request_again(known, Input.ACK, flow, now=now)
            return
        dialog = self._calls.find(request, flow)
        if dialog is None:
            self.counters["acks_unmatched"] += 1
            return
        invite = self._calls.peer_ack(dialog, request, flow, now=now)
        self._stop_repeating(invite, flow, now=now)

    def _stop_repeating(self, invite: Transaction | None, flow: Flow, *, now: float) -> None:
        if invite is not None and invite.kind is Kind.INVITE_SERVER and invite.state is State.ACCEPTED:
            self._layer.on_request_again(invite, Input.ACK, flow, now=now)

    def _receive_cancel(self, transaction: Transaction, request: Request, flow: Flow, *, now: float) -> None:
        invite = self._layer.find_server(server_key(request, flow, "INVITE"))
        if invite is None:
            self._answer(transaction, 481, now=now)
            return
        self._answer(transaction, 200, now=now)
        if invite.request is not None:
            self._calls.peer_cancel(invite, now=now)
            self._answer(invite, 487, now=now)

    def _receive_new(self, transaction: Transaction, request: Request, flow: Flow, *, now: float) -> None:
        initial = request.method == "INVITE" and request.to.tag is None
        dialog = None if initial else self._calls.find(request, flow)
        if dialog is None and request.to.tag is not None and request.method in _NEEDS_DIALOG:
            self._answer(transaction, 481, now=now)
            return
        if request.method == "BYE":
            if dialog is None or not self._calls.peer_bye(dialog, flow, now=now):
                self._answer(transaction, 481, now=now)
                return
            self._answer(transaction, 200, now=now)
            self._stop_repeating(self._layer.get(dialog.invite_transaction), flow, now=now)
            return
        if request.method == "INVITE":
            self._answer(transaction, 100, now=now)
            if dialog is None:
                dialog = self._calls.incoming(transaction, request, flow)
            else:
                transaction.dialog, transaction.to_tag = dialog.name, dialog.local.tag or ""
                dialog.invite_transaction = transaction.name
        if dialog is not None and not initial:
            self._calls.move(dialog, flow)
        self._events.append(
            RequestReceived(
                transaction=transaction.name,
                request=request,
                flow=flow,
                dialog=dialog.name if dialog is not None else None,
                received_at=now,
                initial=initial,
            )
        )

    # what transactions report

    def _settle(self, now: float) -> None:
        """Turn what transactions reported into events; what the dialogs do about it may make them report more."""
        while self._layer.happened:
            report = self._layer.happened.popleft()
            if isinstance(report, Ended):
                self._calls.transaction_over(report.transaction, now=now)
            elif not self._calls.happened(report, now=now):
                self._surface(report)

    def _surface(self, report: Happened) -> None:
        transaction = report.transaction
        if not transaction.surfaced:
            return
        if report.what is Action.DELIVER and report.response is not None:
            self._events.append(
                ResponseReceived(
                    transaction=transaction.name,
                    response=report.response,
                    flow=report.flow,
                    dialog=transaction.dialog,
                )
            )
        elif report.what is Action.TELL_TIMEOUT:
            self._events.append(TransactionTimedOut(transaction=transaction.name, dialog=transaction.dialog))
        else:
            self._events.append(TransportFailed(transaction=transaction.name, dialog=transaction.dialog))
