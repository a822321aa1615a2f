"""The one door to a picture: decide, write the row, and only then hand out a lease."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import structlog

from catalog.model import Channel, NodeKey
from catalog.store import CatalogStore
from sharing import policy
from sharing.lease import Action, Client, Lease, Permit, Refusal, Renewals, ViewStats
from sharing.ledger import Entry, EntryConflictError, EntryKind, Ledger, LedgerUnavailableError
from sharing.people import People, Role, User
from sipserver.protocol.ids import ChannelKey, LeaseKey, UserKey, new_key

log = structlog.get_logger("mingjian.sharing")

MAX_LEASE_SECONDS = 30.0
_DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingConfig:
    """`lease_seconds`: how far ahead a lease reaches; below the engine's 30 s, so that two clocks may differ a little.

    `unit` is the managing unit that rows name; `max_leases` bounds the open leases of this process.
    """

    lease_seconds: float = 25.0
    unit: str = ""
    max_leases: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.lease_seconds <= MAX_LEASE_SECONDS:
            raise ValueError(f"a lease lasts at most {MAX_LEASE_SECONDS:g} s")


@dataclass(frozen=True, slots=True)
class _Ending:
    """An end that still has to reach the ledger."""

    lease: Lease
    facts: dict[str, Any]


class Sharing:
    """Authorises, renews and completes leases. Nothing else in the platform may create a `Lease`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        people: People,
        store: CatalogStore,
        clock: Callable[[], float],
        config: SharingConfig | None = None,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._ledger = ledger
        self._people = people
        self._store = store
        self._clock = clock
        self._config = config or SharingConfig()
        self._token = token
        self._open: dict[LeaseKey, tuple[Lease, Client]] = {}
        self._endings: dict[LeaseKey, _Ending] = {}
        self._doubtful: set[LeaseKey] = set()

    async def authorize(
        self, user: UserKey, channel: ChannelKey, action: Action, purpose: str, client: Client
    ) -> Lease | Refusal:
        """Decide and register. The intent row is durable before the lease exists; a refusal is a row too.

        `purpose` is a purpose code, optionally "CODE: free text" ("DUTY_WATCH", 值班监看). Never raises for a refusal;
        a ledger that is down is the refusal E_LEDGER_UNAVAILABLE.
        """
        try:
            person = await self._people.user(user)
            found, hidden = await self._find(person, channel)
        except _DATABASE_ERRORS as error:
            log.error("facts_unavailable", error=type(error).__name__)
            return _refusal(policy.LEDGER_UNAVAILABLE, None)
        decision = policy.decide(self._facts(person, found, action, purpose, client, renewal=False))
        facts = self._row(decision, person, found, client, action=action, purpose=purpose)
        if not decision.allow:
            facts["hidden"] = hidden  # for the auditor only: the caller cannot tell hidden from absent
            return await self._refuse(decision, facts, user=user, channel=channel, lease=None)
        if len(self._open) >= self._config.max_leases:
            log.error("too_many_leases", limit=self._config.max_leases)
            return _refusal(policy.LEDGER_UNAVAILABLE, None)
        key = LeaseKey(new_key("lea", self._token))
        try:
            entry = await self._ledger.append(EntryKind.INTENT, facts, user=user, channel=channel, lease=key)
        except LedgerUnavailableError:
            self._doubtful.add(key)  # it may have been written all the same; `renew_all` closes it then
            return _refusal(policy.LEDGER_UNAVAILABLE, None)
        lease = Lease(
            key=key,
            user=user,
            channel=channel,
            actions=decision.actions,
            purpose=purpose,
            not_after=self._clock() + self._config.lease_seconds,
            ledger_seq=entry.seq,
            started_at=entry.at,
            obligations=decision.obligations,
        )
        self._open[key] = (lease, client)
        return lease

    async def permit(
        self,
        user: UserKey,
        channel: ChannelKey,
        action: Action,
        purpose: str,
        client: Client,
        *,
        detail: str | None = None,
    ) -> Permit | Refusal:
        """Decide and register one act that moves no media (PTZ, RECORDINFO, EVENTSUB); `detail` says which.

        As with `authorize` the row is durable first, a refusal is a row too, and a ledger that is down is a refusal.
        """
        try:
            person = await self._people.user(user)
            found, hidden = await self._find(person, channel)
        except _DATABASE_ERRORS as error:
            log.error("facts_unavailable", error=type(error).__name__)
            return _refusal(policy.LEDGER_UNAVAILABLE, None)
        decision = policy.decide(self._facts(person, found, action, purpose, client, renewal=False))
        facts = self._row(decision, person, found, client, action=action, purpose=purpose)
        facts["detail"] = detail
        if not decision.allow:
            facts["hidden"] = hidden
            return await self._refuse(decision, facts, user=user, channel=channel, lease=None)
        try:
            entry = await self._ledger.append(EntryKind.ACT, facts, user=user, channel=channel, lease=None)
        except LedgerUnavailableError:
            return _refusal(policy.LEDGER_UNAVAILABLE, None)
        return Permit(user=user, channel=channel, action=action, ledger_seq=entry.seq)

    async def renew(self, lease: LeaseKey) -> Lease | Refusal:
        """Decide again on present facts and extend `not_after`, or refuse (with a row). An ended lease is refused.

        The caller still has to `complete` a lease that was refused. Facts that cannot be read are a refusal here.
        """
        held = self._open.get(lease)
        if held is None:
            return _refusal(policy.LEASE_OVER, None)
        try:
            return await self._renew(*held, users={})
        except LedgerUnavailableError:
            return _refusal(policy.LEDGER_UNAVAILABLE, None)

    async def renew_all(self) -> Renewals:
        """Renew every open lease at once: call it every few seconds and after every change of a right (≤ 5 s, F-08).

        Also writes ends that could not be written before. Raises LedgerUnavailableError when the facts cannot be
        read: then nothing is renewed, and the leases run out by themselves.
        """
        users: dict[UserKey, User | None] = {}
        renewed: list[Lease] = []
        refused: list[tuple[Lease, Refusal]] = []
        for lease, client in list(self._open.values()):
            result = await self._renew(lease, client, users=users)
            if isinstance(result, Lease):
                renewed.append(result)
            else:
                refused.append((lease, result))
        await self._settle()
        return Renewals(renewed=tuple(renewed), refused=tuple(refused))

    async def complete(self, lease: LeaseKey, reason: str, stats: ViewStats | None = None) -> Entry | None:
        """Write the completion row, exactly once. None when the lease had ended already or never was.

        Raises LedgerUnavailableError when the row cannot be written now; `renew_all` keeps trying.
        """
        held = self._open.pop(lease, None)
        if held is None:
            return None
        seen = stats or ViewStats()
        self._endings[lease] = _Ending(
            held[0],
            {
                "reason": reason[:200],
                "started_at": held[0].started_at,
                "ended_at": self._clock(),
                "destination": "viewed_only",
                "bytes": seen.bytes,
                "frames": seen.frames,
                "dropped": seen.dropped,
                "seconds": seen.seconds,
                "viewers": seen.viewers,
            },
        )
        return await self._end(lease)

    async def recover(self) -> int:
        """At start: close every lease a crash left open with an ENDED_BY_CRASH row. Returns how many.

        Only before the first `authorize` of any process on this ledger: open leases are nobody's then.
        """
        closed = 0
        for left in await self._ledger.open_leases():
            if left.lease in self._open or left.lease in self._endings:
                continue
            closed += await self._end_by_crash(left.lease, left.user, left.channel, left.started_at)
        if closed:
            log.warning("leases_closed_after_crash", count=closed)
        return closed

    def leases(self) -> list[Lease]:
        """The open leases of this process."""
        return [lease for lease, _ in self._open.values()]

    async def within(self, user: UserKey) -> Sequence[NodeKey] | None:
        """The roots whose subtrees the user may know of: None for all (administrators), empty for none."""
        person = await self._people.user(user)
        if person is None or not person.enabled:
            return ()
        if Role.ADMINISTRATOR in person.roles:
            return None
        return person.scope if Role.WATCHER in person.roles else ()

    # Inside

    async def _find(self, person: User | None, channel: ChannelKey) -> tuple[Channel | None, bool]:
        """The channel if it is in the person's scope, and whether it exists outside; the same queries either way."""
        scope: Sequence[NodeKey] = () if person is None else person.scope
        inside = await self._store.channel(channel, within=scope)
        anywhere = await self._store.channel(channel)
        return inside, inside is None and anywhere is not None

    def _facts(
        self,
        person: User | None,
        found: Channel | None,
        action: Action,
        purpose: str,
        client: Client,
        *,
        renewal: bool,
    ) -> policy.Facts:
        user = None
        if person is not None:
            active = person.enabled and not person.must_change_password
            user = policy.UserFacts(
                active=active,
                watcher=Role.WATCHER in person.roles,
                listener=person.may_listen,
                may_control=person.may_control,
            )
        channel = None
        if found is not None:
            channel = policy.ChannelFacts(
                in_scope=True, playable=found.playable, secrecy=found.secrecy, region=found.civil_code
            )
        return policy.Facts(
            now=self._clock(),
            user=user,
            action=action,
            purpose=purpose,
            channel=channel,
            zone=client.zone,
            renewal=renewal,
        )

    def _row(
        self,
        decision: policy.Decision,
        person: User | None,
        found: Channel | None,
        client: Client,
        *,
        action: Action,
        purpose: str,
    ) -> dict[str, Any]:
        """The register's fields (N16(2)(3): reason, content, unit and name of who called) for a decision."""
        code, text = policy.purpose_of(purpose[: policy.PURPOSE_LIMIT])
        return {
            "action": action.value,
            "outcome": "allow" if decision.allow else "refuse",
            "code": decision.code,
            "articles": list(decision.articles),
            "reason": decision.reason,
            "purpose": code or purpose[: policy.PURPOSE_LIMIT],
            "reason_text": text,
            "persons": [
                {"username": person.username, "name": person.display_name, "unit": self._config.unit}
                if person is not None
                else {}
            ],
            "channel_name": found.name if found is not None else None,
            "recorder": "system",
            "destination": "viewed_only",
            "granted": sorted(decision.actions),
            "obligations": list(decision.obligations),
            "client": {"ip": client.ip, "channel": client.channel, "zone": client.zone.value},
            "profile": f"{policy.NATIONAL.id}/{policy.NATIONAL.version}",
        }

    async def _refuse(
        self,
        decision: policy.Decision,
        facts: dict[str, Any],
        *,
        user: UserKey,
        channel: ChannelKey,
        lease: LeaseKey | None,
    ) -> Refusal:
        """Register a no. What was refused stays refused even when the row cannot be written."""
        try:
            entry = await self._ledger.append(EntryKind.REFUSAL, facts, user=user, channel=channel, lease=lease)
        except LedgerUnavailableError:
            return _refusal(decision if lease else policy.LEDGER_UNAVAILABLE, None)
        return _refusal(decision, entry)

    async def _renew(self, lease: Lease, client: Client, *, users: dict[UserKey, User | None]) -> Lease | Refusal:
        try:
            if lease.user not in users:
                users[lease.user] = await self._people.user(lease.user)
            person = users[lease.user]
            found = await self._store.channel(lease.channel, within=() if person is None else person.scope)
        except _DATABASE_ERRORS as error:
            raise LedgerUnavailableError("the facts of a lease cannot be read") from error
        now = self._clock()
        decision = policy.LEASE_OVER
        (action,) = lease.actions - {Action.AUDIO}
        if now < lease.not_after:
            decision = policy.decide(self._facts(person, found, action, lease.purpose, client, renewal=True))
        if lease.key not in self._open:
            return _refusal(policy.LEASE_OVER, None)  # completed while we were asking
        if not decision.allow:
            facts = self._row(decision, person, found, client, action=action, purpose=lease.purpose)
            return await self._refuse(decision, facts, user=lease.user, channel=lease.channel, lease=lease.key)
        longer = replace(lease, not_after=now + self._config.lease_seconds)
        if lease.audio and Action.AUDIO not in decision.actions:
            longer = replace(longer, actions=decision.actions, obligations=decision.obligations)
        self._open[lease.key] = (longer, client)
        if longer.audio != lease.audio:
            await self._sound_ended(longer, person, found, client)
        return longer

    async def _sound_ended(self, lease: Lease, person: User | None, found: Channel | None, client: Client) -> None:
        """Register that the sound of a lease ended before its picture; it ends even when the row cannot be written."""
        decision = policy.audio_withdrawn(found.civil_code if found is not None else None)
        facts = self._row(decision, person, found, client, action=Action.AUDIO, purpose=lease.purpose)
        await self._refuse(decision, facts, user=lease.user, channel=lease.channel, lease=lease.key)

    async def _settle(self) -> None:
        """Write what could not be written when it was due: ends, and the ends of intents of unknown fate."""
        for key in list(self._endings):
            await self._end(key)
        if self._doubtful:
            doubtful = set(self._doubtful)
            for left in await self._ledger.open_leases():
                if left.lease in doubtful:
                    await self._end_by_crash(left.lease, left.user, left.channel, left.started_at)
            self._doubtful -= doubtful

    async def _end(self, key: LeaseKey) -> Entry | None:
        ending = self._endings.pop(key, None)
        if ending is None:
            return None
        lease = ending.lease
        try:
            return await self._ledger.append(
                EntryKind.END, ending.facts, user=lease.user, channel=lease.channel, lease=key
            )
        except EntryConflictError:  # an earlier try was written although it was not acknowledged
            return None
        except BaseException:  # not written, or the caller gave up waiting: it stays due
            self._endings[key] = ending
            raise

    async def _end_by_crash(self, key: LeaseKey, user: UserKey, channel: ChannelKey, started_at: float) -> bool:
        facts = {"reason": "ENDED_BY_CRASH", "started_at": started_at, "destination": "viewed_only"}
        try:
            await self._ledger.append(EntryKind.END_BY_CRASH, facts, user=user, channel=channel, lease=key)
        except EntryConflictError:
            return False
        return True


def _refusal(decision: policy.Decision, entry: Entry | None) -> Refusal:
    return Refusal(
        code=decision.code,
        http_status=decision.http_status,
        sip_status=decision.sip_status,
        reason=decision.reason,
        articles=decision.articles,
        ledger_seq=None if entry is None else entry.seq,
    )
