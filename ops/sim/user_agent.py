"""The SIP user agent of a simulated device or lower platform: registration, heartbeats, answers, calls. Pure.

Built on the platform's own sans-IO endpoint. The shell (ops/sim/runner.py) moves bytes and media and obeys actions:

    connected, connection_lost, connect_failed, receive, handle_timeout, next_timeout, datagrams_to_send, next_action
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

from ops.sim.calls import Call, CallRefused, answer_body, read_call
from ops.sim.inventory import Inventory, answers
from ops.sim.registration import ONLINE, Happening, Login, State, follow, with_credentials
from sipserver.protocol import manscdp
from sipserver.protocol.endpoint import Endpoint
from sipserver.protocol.errors import ProtocolError
from sipserver.protocol.events import (
    DialogEnded,
    Event,
    Flow,
    InviteCancelled,
    InviteConfirmed,
    ProtocolFault,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.ids import GbId, Ssrc
from sipserver.protocol.message import Request, Uri

log = structlog.get_logger("mingjian.sim.ua")
MAX_OUTBOX: Final = 4096
LEAVE_PATIENCE: Final = 3.0
MISSES: Final = 3  # unanswered heartbeats in a row (§9.6.1 d)
_REFRESH_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Settings of a user agent; times in seconds.

    ``retry`` is the pause after a failed registration (the standard asks for 60 or more; tests and demos take less),
    lengthened by up to a fifth at random. ``give_up`` failed attempts end the agent with code 4; 0 never gives up.
    ``answer_delay`` keeps INVITEs waiting, ``omit_y`` and ``own_ssrc`` change the answer as some devices do.
    """

    server: GbId
    domain: str
    password: str = field(repr=False)
    transport: Literal["udp", "tcp"] = "udp"
    expires: int = 3600
    keepalive: float = 60.0
    retry: float = 60.0
    give_up: int = 0
    max_calls: int = 16
    answer_delay: float = 0.0
    omit_y: bool = False
    own_ssrc: int | None = None
    gb_version: str = "3.0"
    charset: Literal["GB2312", "GB18030", "UTF-8"] = "GB18030"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Open the flow to the platform, then call connected() or connect_failed()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """Framing on the TCP connection is lost: close it, then call connection_lost()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaWanted:
    """An INVITE to serve: prepare the socket, then call accept() or refuse()."""

    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaGo:
    """The call is confirmed by ACK: send."""

    call: Call
    ssrc: Ssrc


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStop:
    """The call is over: stop sending and release the socket."""

    dialog: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something for whoever watches the simulator: a stable word and harmless details."""

    word: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Nothing more will come. ``code``: 0 unregistered, 3 left without an answer, 4 gave up registering."""

    code: int


Action = Connect | Disconnect | MediaWanted | MediaGo | MediaStop | Note | Finished


class UserAgent:
    """One device's SIP side. All times are unix seconds passed in as ``now``."""

    def __init__(
        self,
        inventory: Inventory,
        config: AgentConfig,
        *,
        token: Callable[[int], str],
        endpoint: Endpoint | None = None,
    ) -> None:
        self._inventory = inventory
        self._config = config
        self._token = token
        self._endpoint = endpoint or Endpoint(
            identity=inventory.device, domain=inventory.device.domain, user_agent="Mingjian-Sim", token=token
        )
        self.state = State.OFFLINE
        self._actions: deque[Action] = deque([Connect()])
        self._flow: Flow | None = None
        self._server_uri = Uri(user=config.server.value, host=config.domain)
        self._register: Request | None = None
        self._register_key: str | None = None
        self._challenges = 0
        self._failures = 0
        self._step_at: float | None = None  # retry, refresh or end of patience, by state
        self._reconnect_at: float | None = None
        self._keepalive_at: float | None = None
        self._keepalive_key: str | None = None
        self._missed = 0
        self._sn = 0
        self._interval = config.keepalive
        self._outbox: deque[bytes] = deque()
        self._outbox_key: str | None = None
        self._ringing: dict[str, tuple[float, Call]] = {}
        self._calls: dict[str, Call] = {}
        self._ssrcs: dict[str, Ssrc] = {}

    # --- what the shell calls -------------------------------------------------------------------------------------

    def connected(self, flow: Flow, *, now: float) -> None:
        """The flow to the platform is open."""
        self._flow = flow
        self._reconnect_at = None
        self._move(Happening.CONNECTED, now)

    def connect_failed(self, *, now: float) -> None:
        """The flow could not be opened; tried again after the pause."""
        self._failed_attempt(now, "connect_failed")
        self._reconnect_at = now + self._pause()

    def connection_lost(self, *, now: float) -> None:
        """The TCP connection is gone: every call ends, registration starts over (§9.1.1 f)."""
        if self._flow is None:
            return
        flow, self._flow = self._flow, None
        self._endpoint.connection_lost(flow, now=now)
        for dialog in list(self._calls):
            self._drop(dialog, "connection_lost")
        self._ringing.clear()
        self._outbox.clear()
        self._outbox_key = None
        self._note("connection_lost")
        self._move(Happening.LOST, now)
        self._pump(now)

    def receive(self, data: bytes, *, now: float) -> None:
        """Bytes from the platform."""
        if self._flow is not None:
            self._endpoint.receive(data, self._flow, now=now)
            self._pump(now)

    def datagrams_to_send(self, *, now: float) -> list[bytes]:
        """Bytes for the platform, in order."""
        return [data for data, _ in self._endpoint.datagrams_to_send(now=now)]

    def next_action(self) -> Action | None:
        """What the shell must do next; None when nothing is left."""
        return self._actions.popleft() if self._actions else None

    def next_timeout(self) -> float | None:
        """When handle_timeout() must be called at the latest."""
        times = [self._step_at, self._reconnect_at, self._keepalive_at, self._endpoint.next_timeout()]
        times += [due for due, _ in self._ringing.values()]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due at ``now``."""
        self._endpoint.handle_timeout(now=now)
        self._pump(now)
        if self._reconnect_at is not None and now >= self._reconnect_at:
            self._reconnect_at = None
            self._actions.append(Connect())
        if self._step_at is not None and now >= self._step_at:
            self._step_at = None
            self._move(Happening.DUE, now)
        if self._keepalive_at is not None and now >= self._keepalive_at:
            self._send_keepalive(now)
        for dialog, (due, call) in list(self._ringing.items()):
            if now >= due:
                del self._ringing[dialog]
                self._actions.append(MediaWanted(call=call))

    def accept(self, call: Call, *, host: str, port: int, now: float) -> None:
        """Answer 200: media will come from ``host``:``port``. Nothing happens when the call is already gone."""
        if call.dialog not in self._calls:
            return
        ssrc = Ssrc(self._config.own_ssrc) if self._config.own_ssrc is not None else call.ssrc
        self._ssrcs[call.dialog] = ssrc
        body = answer_body(call, host=host, port=port, ssrc=None if self._config.omit_y else ssrc)
        headers = [("Content-Type", "application/sdp")]
        self._endpoint.respond(call.transaction, 200, headers=headers, body=body, now=now)

    def refuse(self, call: Call, status: int, *, now: float) -> None:
        """Answer with a failure."""
        if self._calls.pop(call.dialog, None) is not None:
            self._endpoint.respond(call.transaction, status, now=now)

    def hang_up(self, dialog: str, *, now: float) -> None:
        """End a call from the device's side (BYE)."""
        if dialog in self._ssrcs:
            self._drop(dialog, "hung_up")
            self._endpoint.bye(dialog, now=now)

    def media_failed(self, dialog: str, *, now: float) -> None:
        """The media socket broke: BYE (annex K)."""
        self.hang_up(dialog, now=now)

    def stop(self, *, now: float) -> None:
        """Unregister and end; Finished follows."""
        for dialog in list(self._calls):
            if dialog in self._ssrcs:
                self.hang_up(dialog, now=now)
            else:
                self.refuse(self._calls[dialog], 480, now=now)
        self._ringing.clear()
        self._keepalive_at = None
        self._move(Happening.STOP, now)

    @property
    def calls(self) -> tuple[str, ...]:
        """Dialogs that are up or being answered."""
        return tuple(self._calls)

    # --- registration ---------------------------------------------------------------------------------------------

    def _move(self, happening: Happening, now: float) -> None:
        before = self.state
        self.state = follow(before, happening)
        if self.state is before:
            return
        self._step_at = None
        match self.state:
            case State.REGISTERING | State.REFRESHING:
                self._send_register(now, self._config.expires)
            case State.REGISTERED:
                self._failures = 0
                if before is not State.REFRESHING or self._keepalive_at is None:
                    self._missed, self._keepalive_key = 0, None
                    self._keepalive_at = now
                self._note("registered" if before is State.REGISTERING else "refreshed")
            case State.WAITING:
                self._keepalive_at = None
                self._step_at = now + self._pause()
            case State.OFFLINE:
                self._keepalive_at = None
                self._reconnect_at = now + self._pause()
            case State.LEAVING:
                self._send_register(now, 0)
                self._step_at = now + LEAVE_PATIENCE
            case State.STOPPED:
                self._keepalive_at = self._reconnect_at = None
                self._actions.append(Finished(code=3 if happening in (Happening.DUE, Happening.LOST) else 0))

    def _pause(self) -> float:
        return self._config.retry * (1 + int(self._token(1)[:2], 16) / 255 * 0.2)

    def _send_register(self, now: float, expires: int) -> None:
        if self._flow is None:
            return
        if self._register is None:
            self._register = self._endpoint.new_request(
                "REGISTER",
                target=self._server_uri,
                to=self._inventory.device,
                headers=[("X-GB-Ver", self._config.gb_version)],
            )
        number, method = self._register.cseq
        host = f"[{self._flow.local[0]}]" if ":" in self._flow.local[0] else self._flow.local[0]
        contact = f"<sip:{self._inventory.device.value}@{host}:{self._flow.local[1]}>"
        headers = self._register.headers.without("Authorization").without("Proxy-Authorization")
        headers = headers.with_("CSeq", f"{number + 1} {method}").with_("Contact", contact)
        self._challenges = 0
        self._transmit_register(Request("REGISTER", self._register.uri, headers.with_("Expires", str(expires))), now)

    def _transmit_register(self, request: Request, now: float) -> None:
        if self._flow is not None:
            self._register = request
            self._register_key = self._endpoint.send_request(request, self._flow, now=now)

    def _register_answered(self, event: ResponseReceived, now: float) -> None:
        status = event.response.status
        if status < 200 or self._register is None:
            return
        self._register_key = None
        if status in (401, 407) and self._challenges < 2:
            self._challenges += 1
            login = Login(username=self._inventory.device.value, password=self._config.password)
            again = with_credentials(self._register, event.response, login, cnonce=self._token(8))
            if again is not None:
                self._transmit_register(again, now)
                return
        if 200 <= status < 300:
            granted = event.response.expires
            self._move(Happening.ACCEPTED, now)
            if self.state is State.REGISTERED:
                self._step_at = now + (granted if granted else self._config.expires) * _REFRESH_SHARE
        else:
            self._register_failed(now, str(status))

    def _register_failed(self, now: float, why: str) -> None:
        self._register_key = None
        leaving = self.state is State.LEAVING
        self._move(Happening.DUE if leaving and why == "timeout" else Happening.FAILED, now)
        if not leaving:
            self._failed_attempt(now, why)

    def _failed_attempt(self, now: float, why: str) -> None:
        self._failures += 1
        self._note("register_failed", why)
        if self._config.give_up and self._failures >= self._config.give_up and self.state is not State.STOPPED:
            self.state = State.STOPPED
            self._step_at = self._reconnect_at = self._keepalive_at = None
            self._actions.append(Finished(code=4))

    # --- heartbeats -----------------------------------------------------------------------------------------------

    def _send_keepalive(self, now: float) -> None:
        if self._keepalive_key is not None:
            self._missed += 1  # the one before is still unanswered
        if self._missed >= MISSES:
            self._silent(now, "keepalive_unanswered")
            return
        self._keepalive_at = now + self._interval
        self._sn += 1
        body = manscdp.build(
            manscdp.Keepalive(sn=self._sn, device_id=self._inventory.device), charset=self._config.charset
        )
        self._keepalive_key = self._send_message(body, now)

    def _silent(self, now: float, why: str) -> None:
        self._keepalive_at, self._keepalive_key, self._missed = None, None, 0
        self._note(why)
        self._move(Happening.SILENT, now)

    def _keepalive_answered(self, status: int, now: float) -> None:
        self._keepalive_key = None
        if status < 300:
            if not self._missed and self._sn == 1:
                self._note("keepalive_answered")
            self._missed = 0
        elif status in (401, 403, 404):
            self._silent(now, "keepalive_refused")
        else:
            self._missed += 1

    # --- messages -------------------------------------------------------------------------------------------------

    def _send_message(self, body: bytes, now: float) -> str | None:
        if self._flow is None:
            return None
        headers = [("Content-Type", manscdp.CONTENT_TYPE)]
        request = self._endpoint.new_request(
            "MESSAGE", target=self._server_uri, to=self._config.server, headers=headers, body=body
        )
        return self._endpoint.send_request(request, self._flow, now=now)

    def _serve_outbox(self, now: float) -> None:
        """One business response at a time: the next only after the final answer to the one before (annex M)."""
        if self._outbox_key is None and self._outbox:
            self._outbox_key = self._send_message(self._outbox.popleft(), now)

    def _message_received(self, event: RequestReceived, now: float) -> None:
        try:
            query = manscdp.parse(event.request.body)
        except ProtocolError as error:
            self._endpoint.respond(event.transaction, error.status or 400, now=now)
            return
        if self.state not in ONLINE:
            self._endpoint.respond(event.transaction, 403, now=now)
            return
        tcp = event.flow.transport == "tcp"
        owed = answers(self._inventory, query, now=now, tcp=tcp, keepalive=self._interval)
        if len(self._outbox) + len(owed) > MAX_OUTBOX:
            self._endpoint.respond(event.transaction, 503, now=now)
            return
        self._endpoint.respond(event.transaction, 200, now=now)
        self._note("query", type(query).__name__)
        if isinstance(query, manscdp.DeviceConfig) and query.basic and query.basic.heartbeat_interval:
            self._interval = float(min(max(query.basic.heartbeat_interval, 5), 3600))
        self._outbox += [manscdp.build(message, charset=self._config.charset) for message in owed]
        self._serve_outbox(now)

    # --- calls ----------------------------------------------------------------------------------------------------

    def _invited(self, event: RequestReceived, now: float) -> None:
        fallback = Ssrc.compose(self._config.server, False, int(self._token(2)[:4], 16) % 10_000)
        try:
            if self.state not in ONLINE:
                raise CallRefused(403, "not_registered")
            if not event.initial:
                raise CallRefused(488, "session_not_changeable")
            call = read_call(event, self._inventory, fallback_ssrc=fallback)
            for dialog, older in list(self._calls.items()):
                # the same live stream asked for again: the old one is stopped (annex K c)
                if call.subject is not None and older.subject == call.subject and dialog in self._ssrcs:
                    self.hang_up(dialog, now=now)
            if len(self._calls) >= self._config.max_calls:
                raise CallRefused(486, "too_many_calls")
        except CallRefused as refusal:
            self._note("invite_refused", refusal.reason)
            self._endpoint.respond(event.transaction, refusal.status, now=now)
            return
        self._calls[call.dialog] = call
        self._note("invite", call.role)
        if self._config.answer_delay > 0:
            self._ringing[call.dialog] = (now + self._config.answer_delay, call)
        else:
            self._actions.append(MediaWanted(call=call))

    def _drop(self, dialog: str, reason: str) -> None:
        self._ringing.pop(dialog, None)
        self._ssrcs.pop(dialog, None)
        if self._calls.pop(dialog, None) is not None:
            self._actions.append(MediaStop(dialog=dialog, reason=reason))

    # --- events ---------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        while (event := self._endpoint.next_event()) is not None:
            self._handle(event, now)

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case RequestReceived():
                self._request_received(event, now)
            case ResponseReceived():
                self._response_received(event, now)
            case TransactionTimedOut() | TransportFailed():
                self._transaction_failed(event.transaction, now)
            case InviteConfirmed():
                call, ssrc = self._calls.get(event.dialog), self._ssrcs.get(event.dialog)
                if call is not None and ssrc is not None:
                    self._actions.append(MediaGo(call=call, ssrc=ssrc))
            case InviteCancelled():
                self._drop(event.dialog, "cancelled")
            case DialogEnded():
                self._drop(event.dialog, f"{event.by}_{event.reason}")
            case ProtocolFault():
                log.warning("protocol_fault", reason=event.error.reason, call_id=event.call_id)
                if event.fatal:
                    self._actions.append(Disconnect())
            case _:
                log.warning("event_unexpected", event=type(event).__name__)

    def _request_received(self, event: RequestReceived, now: float) -> None:
        match event.request.method:
            case "MESSAGE":
                self._message_received(event, now)
            case "INVITE":
                self._invited(event, now)
            case "SUBSCRIBE":
                self._endpoint.respond(event.transaction, 489, now=now)
            case _:
                self._endpoint.respond(event.transaction, 405, now=now)

    def _response_received(self, event: ResponseReceived, now: float) -> None:
        if event.transaction == self._register_key:
            self._register_answered(event, now)
        elif event.response.status >= 200:
            if event.transaction == self._keepalive_key:
                self._keepalive_answered(event.response.status, now)
            elif event.transaction == self._outbox_key:
                self._outbox_key = None
                self._serve_outbox(now)

    def _transaction_failed(self, transaction: str, now: float) -> None:
        if transaction == self._register_key:
            self._register_failed(now, "timeout")
        elif transaction == self._keepalive_key:
            self._keepalive_key = None
            self._missed += 1
            if self._missed >= MISSES:
                self._silent(now, "keepalive_unanswered")
        elif transaction == self._outbox_key:
            self._outbox_key = None
            self._outbox.clear()  # the platform is not listening; it will ask again
            self._note("answer_unanswered")

    def _note(self, word: str, detail: str = "") -> None:
        self._actions.append(Note(word=word, detail=detail))
