"""All running transactions: matching, the timers' queue, what goes out and what happened (RFC 3261 §17, §18)."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from sipserver.protocol.answers import build_failure_ack
from sipserver.protocol.codec import encode
from sipserver.protocol.copies import Copies
from sipserver.protocol.errors import LocalProtocolError
from sipserver.protocol.events import Flow, Limits
from sipserver.protocol.message import Request, Response
from sipserver.protocol.transaction import Action, Input, Kind, State, TimerQueue, Transaction

_CLIENT_KINDS = (Kind.INVITE_CLIENT, Kind.CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A DELIVER, TELL_TIMEOUT or TELL_LOST of a transaction; `before` is the state it happened in."""

    what: Action
    transaction: Transaction
    before: State
    response: Response | None = None
    flow: Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The transaction is gone from the layer."""

    transaction: Transaction


def response_input(status: int) -> Input:
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE


def send_input(status: int) -> Input:
    if status < 200:
        return Input.SEND_PROVISIONAL
    return Input.SEND_SUCCESS if status < 300 else Input.SEND_FAILURE


def server_key(request: Request, flow: Flow, method: str | None = None) -> tuple[str, ...]:
    """How a copy of a request is recognised (RFC 3261 §17.2.3), narrowed for devices whose branch never changes or is
    missing by Call-ID, CSeq number and From tag (facts §2.6), and by the sender's address against strangers."""
    via = request.via_top
    wanted = method or ("INVITE" if request.method == "ACK" else request.method)
    number, _ = request.cseq
    tag = request.from_.tag or ""
    return (via.branch or "", via.sent_by, wanted, request.call_id, str(number), tag, flow.remote[0])


class TransactionLayer:
    """Bounded by Limits.client_transactions, server_transactions (also per host) and outgoing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.timers = TimerQueue()
        self.copies = Copies()
        self.outgoing: deque[tuple[bytes, Flow]] = deque()
        self.happened: deque[Happened | Ended] = deque()
        self.dropped_outgoing = 0
        self._by_name: dict[str, Transaction] = {}
        self._clients: dict[tuple[str, ...], Transaction] = {}  # (branch, method)
        self._client_calls: dict[tuple[str, ...], Transaction] = {}  # (Call-ID, CSeq, method): responses without Via
        self._client_flows: dict[int, set[str]] = {}
        self._servers: dict[tuple[str, ...], Transaction] = {}
        self._server_hosts: Counter[str] = Counter()
        self._serial = 0

    def get(self, name: str) -> Transaction | None:
        return self._by_name.get(name)

    def counts(self) -> tuple[int, int]:
        """(client, server) transactions alive."""
        return len(self._clients), len(self._servers)

    def send(self, data: bytes, flow: Flow) -> None:
        if len(self.outgoing) >= self._limits.outgoing:
            self.dropped_outgoing += 1  # as if lost on the way; retransmission mends it
            return
        self.outgoing.append((data, flow))

    # client side

    def start_client(
        self, request: Request, flow: Flow, *, now: float, dialog: str | None = None, surfaced: bool = True
    ) -> Transaction:
        """Send a complete request (with Via and branch). Raises LocalProtocolError when the layer is full."""
        if len(self._clients) >= self._limits.client_transactions:
            raise LocalProtocolError("client_transactions_full")
        branch, method = request.via_top.branch or "", request.method
        data = encode(request)
        transaction = Transaction(
            name=branch if method != "CANCEL" else f"{branch}.cancel",
            kind=Kind.INVITE_CLIENT if method == "INVITE" else Kind.CLIENT,
            flow=flow,
            key=(branch, method),
            request=request,
            dialog=dialog,
            surfaced=surfaced,
            sent=data,
        )
        self._by_name[transaction.name] = transaction
        self._clients[transaction.key] = transaction
        self._client_calls[self._call_key(request)] = transaction
        if flow.connection is not None:
            self._client_flows.setdefault(flow.connection, set()).add(transaction.name)
        transaction.start(self.timers, now)
        self.send(data, flow)
        return transaction

    def _call_key(self, message: Request | Response) -> tuple[str, ...]:
        number, method = message.cseq
        return (message.call_id, str(number), method)

    def find_client(self, response: Response) -> Transaction | None:
        _, method = response.cseq
        if "Via" not in response.headers:
            return self._client_calls.get(self._call_key(response))
        return self._clients.get((response.via_top.branch or "", method))

    def on_response(self, response: Response, flow: Flow, *, now: float) -> bool:
        """False when it belongs to no transaction (then it is discarded: RFC 3261 §17.1.3, §18.1.2)."""
        transaction = self.find_client(response)
        if transaction is None:
            return False
        self._step(transaction, response_input(response.status), now, response=response, flow=flow)
        return True

    # server side

    def find_server(self, key: tuple[str, ...]) -> Transaction | None:
        return self._servers.get(key)

    def on_request_again(self, transaction: Transaction, given: Input, flow: Flow, *, now: float) -> None:
        """A copy of the request, or its ACK. Later answers go where the copy came from (a new connection, say)."""
        transaction.flow = flow
        self._step(transaction, given, now, flow=flow)

    def start_server(self, key: tuple[str, ...], request: Request, flow: Flow, *, now: float) -> Transaction | None:
        """None when the layer or the sender's share of it is full: 503 without state."""
        host = flow.remote[0]
        if (
            len(self._servers) >= self._limits.server_transactions
            or self._server_hosts[host] >= self._limits.server_transactions_per_host
        ):
            return None
        self._serial += 1
        transaction = Transaction(
            name=f"s{self._serial}",
            kind=Kind.INVITE_SERVER if request.method == "INVITE" else Kind.SERVER,
            flow=flow,
            key=key,
            request=request,
        )
        self._by_name[transaction.name] = transaction
        self._servers[key] = transaction
        self._server_hosts[host] += 1
        transaction.start(self.timers, now)
        return transaction

    def answer(self, transaction: Transaction, response: Response, *, now: float, keep: bool = True) -> None:
        """Send our response in a server transaction; keep=False forgets the transaction at once (401)."""
        data = encode(response)
        if transaction.fingerprint is not None and response.status >= 200:
            self.copies.keep(transaction.fingerprint, data, now=now)
        self._step(transaction, send_input(response.status), now, payload=data, flow=transaction.flow)
        if response.status >= 200:
            transaction.request = None
            if not keep:
                self._forget(transaction)

    # time and loss

    def timeout(self, *, now: float) -> None:
        while (due := self.timers.pop_due(now)) is not None:
            transaction = self._by_name.get(due[0])
            if transaction is not None:
                self._step(transaction, due[1], now, flow=transaction.flow)

    def connection_lost(self, connection: int, *, now: float) -> None:
        for name in tuple(self._client_flows.get(connection, ())):
            transaction = self._by_name[name]
            self._step(transaction, Input.LOST, now, flow=transaction.flow)

    def end_soon(self, transaction: Transaction, seconds: float, *, now: float) -> None:
        """Limit how long a client transaction may still wait for its final answer (64·T1 after a CANCEL)."""
        if transaction.state is State.PROCEEDING:
            self.timers.set(transaction.name, Input.TIMEOUT, now + seconds)

    def _step(
        self,
        transaction: Transaction,
        given: Input,
        now: float,
        *,
        flow: Flow,
        response: Response | None = None,
        payload: bytes = b"",
    ) -> None:
        before = transaction.state
        for action in transaction.step(given, self.timers, now):
            if action is Action.SEND:
                transaction.sent = payload
                self.send(payload, transaction.flow)
            elif action is Action.REPEAT:
                if transaction.sent:
                    self.send(transaction.sent, flow)
            elif action is Action.ACK and transaction.request is not None and response is not None:
                self.send(encode(build_failure_ack(transaction.request, response)), transaction.flow)
            elif action in (Action.DELIVER, Action.TELL_TIMEOUT, Action.TELL_LOST):
                self.happened.append(
                    Happened(what=action, transaction=transaction, before=before, response=response, flow=flow)
                )
        if transaction.state is State.TERMINATED:
            self._forget(transaction)

    def _forget(self, transaction: Transaction) -> None:
        if self._by_name.pop(transaction.name, None) is None:
            return
        for timer in (Input.RETRANSMIT, Input.TIMEOUT, Input.LINGER):
            self.timers.cancel(transaction.name, timer)
        if transaction.kind in _CLIENT_KINDS:
            self._clients.pop(transaction.key, None)
            if transaction.request is not None:
                self._client_calls.pop(self._call_key(transaction.request), None)
            if transaction.flow.connection is not None:
                names = self._client_flows.get(transaction.flow.connection, set())
                names.discard(transaction.name)
                if not names:
                    self._client_flows.pop(transaction.flow.connection, None)
        else:
            self._servers.pop(transaction.key, None)
            host = transaction.key[-1]
            self._server_hosts[host] -= 1
            if self._server_hosts[host] <= 0:
                del self._server_hosts[host]
        self.happened.append(Ended(transaction=transaction))
