"""REGISTER (§9.1, RFC 3261 §10): stateless challenge, digest check, durable binding, then the 200.

Order of checks, cheap to dear: addresses → credentials present → nonce ours and fresh (HMAC, proves the source
address) → failure throttle → store → digest → single use. An unknown address code and a wrong password run the same
path and give the same bytes. Failures are counted per (source prefix, address code) and only with a fresh nonce, so
nobody can lock out a device from elsewhere or with a forged source; the host a device is bound to is never throttled.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol

import structlog

from catalog.events import DeviceOffline, DeviceOnline, DomainEvent
from catalog.model import Device
from catalog.store import DuplicateDeviceError, UnknownDeviceError
from sipserver.bindings import STORE_DOWN, Bindings, Bound, Store, Transport
from sipserver.protocol import gbtime
from sipserver.protocol.digest import (
    DigestCredentials,
    NonceIssuer,
    NonceVerdict,
    ReplaySet,
    challenge_headers,
    parse_authorization,
    verify,
)
from sipserver.protocol.errors import ProtocolError
from sipserver.protocol.events import RequestReceived
from sipserver.protocol.ids import GbId
from sipserver.protocol.message import Request

log = structlog.get_logger("mingjian.sip")

#: Edition we speak: GB/T 28181-2022 (annex I).
GB_VERSION: Final = "3.0"
#: Name of a device that registered by the shared password, until an administrator gives it one.
NEW_DEVICE_NAME: Final = "新接入设备"
_MAX_CONTACT: Final = 512
_NONCE_SHOWN = re.compile(rb'nonce="([0-9a-f]{40})"')
_SENDER_SHOWN = re.compile(rb"\n(?:From|f)[ \t]*:[^\r\n]{0,200}?sips?:([0-9A-Za-z._~+-]{1,64})@", re.IGNORECASE)


class ReplayGuardUnavailable(Exception):
    """The shared guard cannot be asked; the registrar falls back to its own memory."""


class ReplayGuard(Protocol):
    """Remembers which nonces have succeeded, for all nodes of the platform."""

    async def claim(self, nonce: str) -> bool:
        """True for the first claim within the life of a nonce. Raises ReplayGuardUnavailable."""


class MemoryReplayGuard:
    """A guard for one process; bounded (when full it refuses, and the device is challenged again)."""

    def __init__(self, clock: Callable[[], float], *, lifetime: float = 60.0, limit: int = 200_000) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._set = ReplaySet(limit)

    async def claim(self, nonce: str) -> bool:
        """True for the first claim."""
        now = self._clock()
        # The issuer allows some skew between nodes; twice the life outlives every nonce it would still take.
        return self._set.first_use(nonce, now=now, expires=now + 2 * self._lifetime)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrarConfig:
    """Policy of the registrar; times in seconds.

    ``shared_password``: accepted for devices without a password of their own; with it, unknown devices are admitted and
    provisioned (``admit_unknown``), if ``allowed`` is None or contains their address code. ``allowed`` limits known
    devices too. ``duplicate``: what happens when a bound device registers from another host.
    """

    realm: str
    shared_password: str | None = None
    admit_unknown: bool = True
    allowed: frozenset[str] | None = None
    default_expires: int = 3_600
    max_expires: int = 86_400
    min_expires: int = 30
    algorithms: tuple[str, ...] = ("MD5",)
    duplicate: Literal["last-wins", "refuse"] = "last-wins"
    failures_allowed: float = 5.0
    failure_refill: float = 30.0
    throttle_entries: int = 10_000
    waiting_per_device: int = 4
    retry_after: int = 60


class FailureThrottle:
    """Token buckets per (source prefix, address code): ``allowed`` failures, one more every ``refill`` seconds. Pure.

    ``prefixes``: bits of IPv4 and IPv6 addresses that count as one source. IPv4 in full by default: one bad camera
    must not shut out its neighbours in the same network.
    Bounded: the least recently used of more than ``entries`` is forgotten.
    """

    def __init__(self, *, allowed: float, refill: float, entries: int, prefixes: tuple[int, int] = (32, 64)) -> None:
        self._prefixes = prefixes
        self._allowed = allowed
        self._refill = refill
        self._entries = entries
        self._spent: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def blocked(self, ip: str, name: str, *, now: float) -> bool:
        """True when that prefix has used up its failures for that name."""
        return self._now_spent(self._key(ip, name), now) >= self._allowed

    def failed(self, ip: str, name: str, *, now: float) -> None:
        """Count a failure."""
        key = self._key(ip, name)
        self._spent[key] = (self._now_spent(key, now) + 1, now)
        self._spent.move_to_end(key)
        while len(self._spent) > self._entries:
            self._spent.popitem(last=False)

    def succeeded(self, ip: str, name: str) -> None:
        """A success clears what was counted."""
        self._spent.pop(self._key(ip, name), None)

    def __len__(self) -> int:
        return len(self._spent)

    def _now_spent(self, key: tuple[str, str], now: float) -> float:
        spent, since = self._spent.get(key, (0.0, now))
        return max(0.0, spent - (now - since) / self._refill)

    def _key(self, ip: str, name: str) -> tuple[str, str]:
        return _prefix(ip, self._prefixes), name


@lru_cache(maxsize=4_096)
def _prefix(ip: str, widths: tuple[int, int]) -> str:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    return str(ipaddress.ip_network((address, widths[address.version == 6]), strict=False))


class _Refused(Exception):
    """A REGISTER ends here with that status; ``reason`` is for the log."""

    def __init__(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class Registrar:
    """Answers every REGISTER. ``on_bound(bound, fresh)`` is called after each successful binding; ``fresh`` when the
    device was offline, has moved, or was not heard of since the platform started.

    ``counters``: challenged, accepted, refused, throttled, unregistered, store_down, replayed.
    """

    def __init__(
        self,
        transport: Transport,
        store: Store,
        replay: ReplayGuard,
        *,
        clock: Callable[[], float],
        config: RegistrarConfig,
        nonces: NonceIssuer,
        bindings: Bindings,
        publish: Callable[[DomainEvent], None],
        on_bound: Callable[[Bound, bool], None] = lambda bound, fresh: None,
    ) -> None:
        self._transport = transport
        self._store = store
        self._replay = replay
        self._own_memory = MemoryReplayGuard(clock, lifetime=nonces.lifetime)
        self._clock = clock
        self._config = config
        self._nonces = nonces
        self._bindings = bindings
        self._publish = publish
        self.on_bound = on_bound
        self.counters: Counter[str] = Counter()
        self._throttle = FailureThrottle(
            allowed=config.failures_allowed, refill=config.failure_refill, entries=config.throttle_entries
        )
        # Verified against for unknown devices, so that they cost the same time as known ones; nobody knows it.
        self._dummy = secrets.token_hex(16)

    def handle(self, event: RequestReceived) -> None:
        """Deal with one REGISTER: the challenge at once, everything that needs the store in a task of its own."""
        try:
            gb_id = _who(event.request)
            expires = self._expires(event.request)
            credentials = self._credentials(event, gb_id)
        except _Refused as refused:
            self._refuse(event, refused)
            return
        except ProtocolError as error:
            self._refuse(event, _Refused(error.status or 400, error.reason))
            return
        if self._bindings.locks.waiting(gb_id) >= self._config.waiting_per_device:
            # A storm from one device: those already queued will answer for the latest state.
            self._refuse(event, _Refused(503, "register_storm", ("Retry-After", "5")))
            return
        self._transport.run(event, self._register(event, gb_id, credentials, expires))

    def _credentials(self, event: RequestReceived, gb_id: GbId) -> DigestCredentials:
        """Credentials with a nonce that is ours, fresh and was given to this address and device, else a challenge."""
        header = next((value for value in event.request.headers.all("Authorization") if _is_digest(value)), None)
        credentials = parse_authorization(header) if header is not None else None
        if credentials is None:
            raise self._challenge(event, gb_id, stale=False)
        verdict = self._nonces.check(credentials.nonce, now=self._clock(), ip=event.flow.remote[0], device=gb_id)
        if verdict is not NonceVerdict.FRESH:
            raise self._challenge(event, gb_id, stale=verdict is NonceVerdict.STALE)
        if self._throttle.blocked(event.flow.remote[0], gb_id.value, now=self._clock()) and not self._is_home(
            event, gb_id
        ):
            self.counters["throttled"] += 1
            raise _Refused(403, "register_throttled")
        return credentials

    def proves_address(self, data: bytes, ip: str) -> bool:
        """True when an unparsed REGISTER shows a living nonce that this address was given: whoever sent it was there
        to receive our challenge. A few microseconds; for Admission."""
        nonce, sender = _NONCE_SHOWN.search(data), _SENDER_SHOWN.search(data)
        if nonce is None or sender is None:
            return False
        device = sender[1].decode("latin-1")
        verdict = self._nonces.check(nonce[1].decode("ascii"), now=self._clock(), ip=ip, device=device)
        return verdict is NonceVerdict.FRESH

    def _is_home(self, event: RequestReceived, gb_id: GbId) -> bool:
        bound = self._bindings.by_gb(gb_id)
        return bound is not None and bound.flow.remote[0] == event.flow.remote[0]

    def _challenge(self, event: RequestReceived, gb_id: GbId, *, stale: bool) -> _Refused:
        self.counters["challenged"] += 1
        nonce = self._nonces.issue(self._clock(), event.flow.remote[0], gb_id)
        headers = challenge_headers(
            realm=self._config.realm, nonce=nonce, algorithms=self._config.algorithms, stale=stale
        )
        return _Refused(401, "challenge", *headers)

    def _expires(self, request: Request) -> int:
        """Seconds granted; 0 unregisters (also for ``Contact: *``). 423 below the minimum (RFC 3261 §10.3)."""
        wanted = request.expires
        if wanted != 0 and "*" in request.headers.values("Contact"):
            raise _Refused(400, "contact_star_needs_expires_0")
        if wanted is None:
            return self._config.default_expires
        if 0 < wanted < self._config.min_expires:
            raise _Refused(423, "expires_too_brief", ("Min-Expires", str(self._config.min_expires)))
        return min(wanted, self._config.max_expires)

    async def _register(
        self, event: RequestReceived, gb_id: GbId, credentials: DigestCredentials, expires: int
    ) -> None:
        async with self._bindings.locks.hold(gb_id):
            try:
                device = await self._authenticate(event, gb_id, credentials)
                if expires:
                    await self._bind(event, gb_id, device, expires)
                else:
                    await self._unbind(event, device)
            except _Refused as refused:
                self._refuse(event, refused)
            except UnknownDeviceError:
                # Withdrawn by an administrator since we looked.
                self._refuse(event, _Refused(403, "device_withdrawn"))
            except DuplicateDeviceError:
                # Another node provisions the same device at this moment; the next try finds it.
                self._refuse(event, _Refused(503, "provisioned_elsewhere", ("Retry-After", "5")))
            except STORE_DOWN as error:
                # Nothing was bound that is not durable: the device tries again, at this node or another one.
                self.counters["store_down"] += 1
                log.error("register_store_down", call_id=event.request.call_id, error=type(error).__name__)
                self._refuse(event, _Refused(503, "store_down", ("Retry-After", str(self._config.retry_after))))

    async def _authenticate(self, event: RequestReceived, gb_id: GbId, credentials: DigestCredentials) -> Device:
        """The device, provisioned on the spot if policy admits it. 403 for a wrong password or an unknown code."""
        device, password = await self._store.registrant(gb_id)
        config = self._config
        admitted = config.allowed is None or gb_id.value in config.allowed
        if password is None and config.shared_password is not None:
            admitted = admitted and (device is not None or config.admit_unknown)
            password = config.shared_password
        elif device is None or password is None:
            admitted = False
        correct = verify(credentials, event.request.method, self._dummy if password is None else password)
        ip = event.flow.remote[0]
        if not (correct and admitted):
            self._throttle.failed(ip, gb_id.value, now=self._clock())
            raise _Refused(403, "credentials_wrong" if admitted else "not_admitted")
        if not await self._claim(credentials.nonce):
            self.counters["replayed"] += 1
            raise self._challenge(event, gb_id, stale=True)
        self._throttle.succeeded(ip, gb_id.value)
        if device is not None:
            return device
        log.info("device_provisioned_by_registration", call_id=event.request.call_id)
        return await self._store.provision_device(gb_id, name=NEW_DEVICE_NAME, password=None, now=self._clock())

    async def _claim(self, nonce: str) -> bool:
        """Once on this node and, while the shared guard can be asked, once on the platform."""
        if not await self._own_memory.claim(nonce):
            return False
        try:
            return await self._replay.claim(nonce)
        except ReplayGuardUnavailable:
            log.warning("replay_guard_unavailable")
            return True

    async def _bind(self, event: RequestReceived, gb_id: GbId, device: Device, expires: int) -> None:
        request, now = event.request, self._clock()
        before = self._bindings.get(device.key)
        moved = before is not None and before.flow != event.flow
        if before is not None and moved:
            self._check_duplicate(event, before)
        bound = Bound(
            key=device.key,
            gb_id=gb_id,
            flow=event.flow,
            contact=(request.headers.get("Contact") or "")[:_MAX_CONTACT],
            call_id=request.call_id[:_MAX_CONTACT],
            version=(request.headers.get("X-GB-Ver") or "")[:8] or None,
            registered_at=now,
            expires_at=now + expires,
            last_seen=now,
        )
        was_offline = await self._store.bind(device.key, bound.stored())
        if self._bindings.is_lost(event.flow):
            # The connection went while the row was written: nobody is there to be bound.
            await self._store.offline(device.key, now=now)
            self._bindings.remove(device.key, "transport_lost")
            raise _Refused(503, "connection_lost")
        self._bindings.put(bound)
        self.counters["accepted"] += 1
        self._accept(event, expires)
        if was_offline or before is None:
            log.info("device_online", device=device.key, call_id=request.call_id, transport=event.flow.transport)
            self._publish(DeviceOnline(device=device.key, at=now))
        self.on_bound(bound, was_offline or before is None or moved or not before.confirmed)

    def _check_duplicate(self, event: RequestReceived, before: Bound) -> None:
        """A device that is bound elsewhere registers here: a move, or two devices with one code (REG-21)."""
        if before.flow.remote[0] == event.flow.remote[0]:
            return
        silent = self._clock() - before.last_seen
        log.warning("device_registered_from_second_host", device=before.key, silent_seconds=int(silent))
        if self._config.duplicate == "refuse":
            raise _Refused(403, "duplicate_device")

    async def _unbind(self, event: RequestReceived, device: Device) -> None:
        now = self._clock()
        was_online = await self._store.offline(device.key, now=now)
        self._bindings.remove(device.key, "unregistered")
        self.counters["unregistered"] += 1
        self._accept(event, 0)
        if was_online:
            log.info("device_unregistered", device=device.key, call_id=event.request.call_id)
            self._publish(DeviceOffline(device=device.key, at=now, reason="unregistered"))

    def _accept(self, event: RequestReceived, expires: int) -> None:
        """200 with what GB/T 28181 asks of it: Contact echoed, Expires granted, Date in Beijing time, X-GB-Ver."""
        headers = [("Contact", value) for value in event.request.headers.all("Contact") if value != "*"]
        headers += [
            ("Expires", str(expires)),
            ("Date", gbtime.format_date_header(self._clock())),
            ("X-GB-Ver", GB_VERSION),
        ]
        self._transport.respond(event.transaction, 200, headers=headers)

    def _refuse(self, event: RequestReceived, refused: _Refused) -> None:
        if refused.status != 401:
            self.counters["refused"] += 1
            log.warning(
                "register_refused",
                code=refused.status,
                reason=refused.reason,
                call_id=event.request.headers.get("Call-ID"),
                source=event.flow.remote[0],
            )
        headers = (*refused.headers, ("X-GB-Ver", GB_VERSION))
        self._transport.respond(event.transaction, refused.status, headers=headers)


def _is_digest(header: str) -> bool:
    return header.strip()[:7].lower() in ("digest ", "digest\t")


def _who(request: Request) -> GbId:
    """The address of record: the user part of From; its host is whatever the device writes (ID-08).

    400 when From or To are no SIP addresses, 403 when the user part cannot be an address code.
    """
    sender, target = request.from_.uri, request.to.uri
    if not (sender.is_sip and target.is_sip):
        raise _Refused(400, "address_of_record_not_sip")
    try:
        return GbId.parse(sender.username or "")
    except ProtocolError as error:
        raise _Refused(403, error.reason) from error
