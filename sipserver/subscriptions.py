"""Subscriptions to devices (§9.11): SUBSCRIBE dialogs that renew themselves, and the NOTIFYs that come in them.

A NOTIFY is believed when its Call-ID is that of a dialog of ours and it comes from the host of the device subscribed
to; anything else is 481. It is answered before any business, with a Response body only for peers up to 2016. Several
kinds a device, one dialog each; bounded by ``MAX_PER_DEVICE`` and the devices there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import structlog

from sipserver.bindings import Bindings, Bound, OfflineReason
from sipserver.presence import Background
from sipserver.profiles import Profiles
from sipserver.protocol import manscdp, manscdp_xml
from sipserver.protocol.address import NameAddr
from sipserver.protocol.edition import Edition
from sipserver.protocol.errors import ProtocolError
from sipserver.protocol.events import Flow, RequestReceived
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import (
    AlarmQuery,
    AlarmResponse,
    CatalogQuery,
    Message,
    MobilePositionQuery,
    PtzPositionQuery,
    ResultResponse,
    Unknown,
)
from sipserver.protocol.manscdp_base import Root
from sipserver.protocol.manscdp_fields import read_bool
from sipserver.protocol.message import Headers, Request, Response, Uri
from sipserver.protocol.subscription import (
    Action,
    Input,
    Kind,
    State,
    Subscription,
    subscription_state,
    verdict,
)
from sipserver.transport import SipTimeout, SipTransportError

log = structlog.get_logger("mingjian.sip")

MAX_PER_DEVICE: Final = 64
_ANSWER_SECONDS: Final = 12.0
_FORMER_SECONDS: Final = 64.0


class CatalogAcknowledged(ResultResponse):
    """Body of a 200 to a NOTIFY about the directory, for peers up to 2016."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "Catalog"


class PositionAcknowledged(ResultResponse):
    """Body of a 200 to a NOTIFY about a position, for peers up to 2016."""

    root: ClassVar[Root] = "Response"
    cmd_type: ClassVar[str] = "MobilePosition"


_ACKNOWLEDGEMENTS: Final[dict[str, type[ResultResponse]]] = {
    "Catalog": CatalogAcknowledged,
    "Alarm": AlarmResponse,
    "MobilePosition": PositionAcknowledged,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is subscribed to: ``target`` None means the whole device; ``interval`` seconds between positions."""

    kind: Kind
    target: GbId | None = None
    expires: int = 600
    interval: int = 5
    filters: AlarmQuery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A NOTIFY with a body: what it is about, and whether it is the first of its dialog."""

    bound: Bound
    wanted: Wanted
    message: Message
    first: bool
    call_id: str


class Sender(Protocol):
    """What is needed of the SIP transport."""

    async def request(self, request: Request, flow: Flow, timeout: float = 32.0) -> Response: ...  # noqa: ASYNC109
    def respond(
        self,
        transaction: str,
        status: int,
        *,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> bool: ...


@dataclass(slots=True, kw_only=True)
class _Held:
    device: DeviceKey
    wanted: Wanted
    subscription: Subscription
    registered: str = ""  # Call-ID of the registration it was made under


_Place = tuple[DeviceKey, Kind, GbId | None]


class Subscriptions:
    """Keeps what is wanted subscribed. ``on_notice`` gets each notice, ``on_change`` the states."""

    def __init__(
        self,
        transport: Sender,
        bindings: Bindings,
        profiles: Profiles,
        background: Background,
        *,
        identity: GbId,
        domain: str,
        clock: Callable[[], float],
        token: Callable[[int], str],
        next_sn: Callable[[], int],
        on_notice: Callable[[Notice], None] = lambda notice: None,
        on_change: Callable[[DeviceKey, Wanted, State], None] = lambda device, wanted, state: None,
    ) -> None:
        self._transport = transport
        self._bindings = bindings
        self._profiles = profiles
        self._background = background
        self._identity = identity
        self._domain = domain
        self._clock = clock
        self._token = token
        self._next_sn = next_sn
        self.on_notice = on_notice
        self.on_change = on_change
        self.counters: Counter[str] = Counter()
        self._held: dict[_Place, _Held] = {}
        self._calls: dict[str, _Place] = {}
        self._former: dict[str, tuple[DeviceKey, float]] = {}
        self._event = 0
        bindings.listen(self._gone)

    # what is wanted

    def want(self, device: DeviceKey, wanted: Wanted) -> None:
        """Subscribe, now or when the device is there. The same kind and target again replaces expiry and filters."""
        place = (device, wanted.kind, wanted.target)
        held = self._held.get(place)
        if held is not None and held.subscription.state not in (State.LEAVING, State.ENDED):
            changed = held.wanted != wanted
            held.wanted = wanted
            held.subscription.expires = wanted.expires
            if changed and held.subscription.state is State.ACTIVE:
                held.subscription.due = self._clock()
        else:
            if sum(one[0] == device for one in self._held) >= MAX_PER_DEVICE:
                raise ValueError("too many subscriptions of one device")
            held = self._held[place] = _Held(device=device, wanted=wanted, subscription=Subscription(kind=wanted.kind))
            held.subscription.expires = wanted.expires
            if self._bindings.get(device) is None:
                self._step(held, Input.OFFLINE)
        self.tick(self._clock())

    def unwant(self, device: DeviceKey, kind: Kind, target: GbId | None = None) -> bool:
        """End a subscription in its dialog; False when there is none."""
        held = self._held.get((device, kind, target))
        if held is None:
            return False
        self._step(held, Input.CANCEL)
        return True

    def forget(self, device: DeviceKey) -> None:
        """The device was withdrawn: nothing is wanted of it."""
        for place in [place for place in self._held if place[0] == device]:
            self._drop(self._held[place])

    def of(self, device: DeviceKey) -> list[tuple[Wanted, Subscription]]:
        """What is wanted of a device and how it stands."""
        return [(held.wanted, held.subscription) for held in self._held.values() if held.device == device]

    # devices come and go

    def bound(self, bound: Bound, fresh: bool) -> None:
        """A device registered: subscriptions do not survive a registration that is no refresh (§13.1 of the rules)."""
        for held in [held for held in self._held.values() if held.device == bound.key]:
            if fresh or held.registered != bound.call_id or held.subscription.state is State.PARKED:
                self._step(held, Input.RETURNED)
        self.tick(self._clock())

    def _gone(self, bound: Bound, reason: OfflineReason) -> None:
        for held in [held for held in self._held.values() if held.device == bound.key]:
            self._step(held, Input.OFFLINE)

    # time

    def tick(self, now: float) -> None:
        """Do what is due."""
        for held in tuple(self._held.values()):
            if held.subscription.due is not None and held.subscription.due <= now:
                self._step(held, Input.DUE)
        for call_id in [call_id for call_id, (_, until) in self._former.items() if until <= now]:
            del self._former[call_id]

    def _step(self, held: _Held, given: Input, *, pause: float | None = None) -> None:
        before = held.subscription.state
        if given in (Input.OFFLINE, Input.RETURNED):
            self._leave_dialog(held)
        actions = held.subscription.step(given, now=self._clock(), pause=pause)
        for action in actions:
            if action in (Action.SUBSCRIBE, Action.REFRESH, Action.UNSUBSCRIBE):
                self._send(held, action)
            elif action in (Action.NOW, Action.LATER):
                self._leave_dialog(held)
        state = held.subscription.state
        if state is State.ENDED:
            self._drop(held)
        if state is not before:
            log.info("subscription", device=held.device, kind=held.wanted.kind, state=state.value)
            self.on_change(held.device, held.wanted, state)

    def _leave_dialog(self, held: _Held) -> None:
        """What still comes in the old dialog is answered and ignored for a while."""
        call_id = held.subscription.call_id
        if self._calls.pop(call_id, None) is not None:
            self._former[call_id] = (held.device, self._clock() + _FORMER_SECONDS)

    def _drop(self, held: _Held) -> None:
        self._leave_dialog(held)
        place = (held.device, held.wanted.kind, held.wanted.target)
        if self._held.get(place) is held:
            del self._held[place]

    # SUBSCRIBE

    def _send(self, held: _Held, action: Action) -> None:
        bound = self._bindings.get(held.device)
        if bound is None:
            asyncio.get_running_loop().call_soon(self._step, held, Input.OFFLINE)
            return
        subscription = held.subscription
        if action is Action.SUBSCRIBE:
            self._event = self._event % 999_999 + 1
            subscription.open(call_id=self._token(16), local_tag=self._token(8), event_id=self._event)
            self._calls[subscription.call_id] = (held.device, held.wanted.kind, held.wanted.target)
            held.registered = bound.call_id
        subscription.cseq += 1
        expires = 0 if action is Action.UNSUBSCRIBE else subscription.expires
        request = self._request(held, bound, expires)
        self._background.spawn(self._exchange(held, request, bound, subscription.call_id))

    def _request(self, held: _Held, bound: Bound, expires: int) -> Request:
        subscription = held.subscription
        profile = self._profiles.of(bound.key)
        of = profile.edition(bound.version)
        own = NameAddr(uri=Uri(user=self._identity.value, host=self._domain)).with_tag(subscription.local_tag)
        peer = NameAddr(uri=Uri(user=bound.gb_id.value, host=bound.gb_id.domain))
        if subscription.remote_tag:
            peer = peer.with_tag(subscription.remote_tag)
        fields = (
            ("From", str(own)),
            ("To", str(peer)),
            ("Call-ID", subscription.call_id),
            ("CSeq", f"{subscription.cseq} SUBSCRIBE"),
            ("Event", self._event_of(held, of)),
            ("Expires", str(expires)),
            ("Content-Type", manscdp.CONTENT_TYPE),
        )
        body = manscdp.build(self._query(held.wanted, bound), charset=profile.charset(of))
        return Request("SUBSCRIBE", bound.target, Headers(fields), body)

    def _event_of(self, held: _Held, of: Edition) -> str:
        """``Catalog;id=n`` for the directory, ``presence`` for the others (2011 also for the directory)."""
        if held.wanted.kind != "catalog":
            return "presence"
        package = self._profiles.of(held.device).catalog_package(of)
        return f"{package};id={held.subscription.event_id}"

    def _query(self, wanted: Wanted, bound: Bound) -> Message:
        sn, target = self._next_sn(), wanted.target or bound.gb_id
        if wanted.kind == "catalog":
            return CatalogQuery(sn=sn, device_id=target)
        if wanted.kind == "position":
            return MobilePositionQuery(sn=sn, device_id=target, interval=wanted.interval)
        if wanted.kind == "ptz":
            return PtzPositionQuery(sn=sn, device_id=target)
        filters = wanted.filters or AlarmQuery(start_priority=0, end_priority=0, method="0")
        return AlarmQuery(
            sn=sn,
            device_id=target,
            start_priority=filters.start_priority,
            end_priority=filters.end_priority,
            method=filters.method,
            type=filters.type,
            start_time=filters.start_time,
            end_time=filters.end_time,
        )

    async def _exchange(self, held: _Held, request: Request, bound: Bound, call_id: str) -> None:
        try:
            response = await self._transport.request(request, bound.flow, timeout=_ANSWER_SECONDS)
        except (SipTimeout, SipTransportError, ProtocolError):
            response = None
        subscription = held.subscription
        if subscription.call_id != call_id or subscription.state not in (State.ASKING, State.REFRESHING, State.LEAVING):
            return  # meanwhile the device left, or the dialog was given up
        if subscription.state is State.LEAVING:
            self._step(held, Input.DUE)
            return
        if response is None:
            subscription.last_status = None
            self._step(held, Input.FAILED)
            return
        given = verdict(response.status)
        if given is Input.ACCEPTED and _says_error(response.body):
            given = Input.UNSUPPORTED
            log.warning("subscription_refused_in_body", device=held.device, kind=held.wanted.kind, call_id=call_id)
        subscription.last_status = response.status
        if given is Input.ACCEPTED:
            to = response.headers.get("To")
            subscription.accepted(_expires(response), remote_tag=NameAddr.parse(to).tag if to else None)
        self._step(held, given, pause=_retry_after(response))

    # NOTIFY

    def take(self, event: RequestReceived) -> bool:
        """Deal with a NOTIFY; False when it belongs to no dialog of ours (481)."""
        request = event.request
        if request.method != "NOTIFY":
            return False
        former = self._former.get(request.call_id)
        held = self._held.get(self._calls[request.call_id]) if request.call_id in self._calls else None
        device = held.device if held is not None else former[0] if former is not None else None
        bound = self._bindings.get(device) if device is not None else None
        if bound is None or bound.flow.remote[0] != event.flow.remote[0]:
            return False
        if held is None:
            self.counters["ignored"] += 1
            self._transport.respond(event.transaction, 200)
            return True
        if request.to.tag is not None and request.to.tag != held.subscription.local_tag:
            return False
        self._notified(held, bound, event)
        return True

    def _notified(self, held: _Held, bound: Bound, event: RequestReceived) -> None:
        request, subscription = event.request, held.subscription
        message: Message | Unknown | None = None
        if request.body.strip():
            try:
                message = manscdp.parse(request.body)
            except ProtocolError as error:
                self.counters["malformed"] += 1
                log.warning("notify_refused", device=bound.key, call_id=request.call_id, reason=error.reason)
                self._transport.respond(event.transaction, 400)
                return
        self._answer(bound, event, message)
        subscription.remote_tag = subscription.remote_tag or request.from_.tag
        if subscription.state is State.LEAVING:
            self.counters["ignored"] += 1
            return
        said = subscription_state(request.headers.get("Subscription-State"))
        first = subscription.notified == 0
        subscription.notified += 1
        if isinstance(message, Message):
            self.counters["notices"] += 1
            self.on_notice(
                Notice(bound=bound, wanted=held.wanted, message=message, first=first, call_id=request.call_id)
            )
        if said.ended is not None:
            self._step(held, said.ended, pause=said.retry_after)

    def _answer(self, bound: Bound, event: RequestReceived, message: Message | Unknown | None) -> None:
        profile = self._profiles.of(bound.key)
        of = profile.edition(bound.version)
        kind = _ACKNOWLEDGEMENTS.get(message.cmd_type) if isinstance(message, Message) else None
        if kind is None or message is None or not message.sn or not profile.body_in_answer(of):
            self._transport.respond(event.transaction, 200)
            return
        body = manscdp.build(kind(sn=message.sn, device_id=message.device_id), charset=profile.charset(of))
        headers = (("Content-Type", manscdp.CONTENT_TYPE),)
        self._transport.respond(event.transaction, 200, headers=headers, body=body)


def _says_error(body: bytes) -> bool:
    """True for the Response body of editions up to 2016 when its Result is not OK."""
    if not body.strip():
        return False
    try:
        return read_bool(manscdp_xml.decode(body).text("result") or "OK") is False
    except ProtocolError:
        return False


def _expires(response: Response) -> int | None:
    text = (response.headers.get("Expires") or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def _retry_after(response: Response) -> float | None:
    text = (response.headers.get("Retry-After") or "").split("(")[0].split(";")[0].strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None
