"""Reading the access ledger, with the proofs that let a reader check it without trusting this platform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from api.authority import GuardedRoute
from api.problems import not_found
from api.schemas import Answer, Instant, Limit, PageOf, instant, instant_or_none
from api.services import Services
from api.sessions import Backend
from sharing.ledger import Entry, EntryKind
from sipserver.protocol.ids import ChannelKey, UserKey

router = APIRouter(prefix="/api/v1/ledger", route_class=GuardedRoute, tags=["ledger"])

_HEX = Field(examples=["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"])


class EntryOut(Answer):
    """One row. `record` is what the row says; the other members are taken out of it for reading."""

    seq: int
    at: Instant
    kind: EntryKind
    user: str | None = None
    user_name: str | None = None
    channel: str | None = None
    channel_name: str | None = None
    action: str | None = Field(default=None, examples=["VIEW_LIVE"])
    purpose: str | None = Field(default=None, examples=["DUTY_WATCH"])
    code: str | None = Field(default=None, description="Stable code of a refusal.", examples=["E_PURPOSE_INVALID"])
    articles: list[str] = Field(default_factory=list)
    reason: str | None = None
    lease: str | None = None
    leaf_hash: Annotated[str, _HEX]
    record: dict[str, Any]


class RootOut(Answer):
    """Size and root of the whole ledger now (RFC 6962 section 2.1)."""

    tree_size: int
    root_hash: Annotated[str, _HEX]
    at: Instant | None = None


class ProofOut(Answer):
    """RFC 6962 section 2.1.1 audit path from one row to a root, all hashes in hex.

    `leaf_hash` = SHA-256(0x00 ‖ `leaf_input`), `leaf_input` = SHA-256(`salt` ‖ `canonical` in UTF-8).
    """

    seq: int
    leaf_index: int
    tree_size: int
    leaf_hash: Annotated[str, _HEX]
    root_hash: Annotated[str, _HEX]
    path: list[str]
    salt: str
    canonical: str


def _text(facts: Mapping[str, Any], name: str) -> str | None:
    value = facts.get(name)
    return value if isinstance(value, str) and value else None


def _person(facts: Mapping[str, Any]) -> str | None:
    """The caller's name as it was when the row was written (N16(2)(3)); a later renaming does not change the row."""
    persons = facts.get("persons")
    if isinstance(persons, list) and persons and isinstance(persons[0], dict):
        return _text(persons[0], "username")
    return None


class _Names:
    """Names for the keys of one page, each looked up once, for rows that do not say the name themselves."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.users: dict[UserKey, str | None] = {}
        self.channels: dict[ChannelKey, str | None] = {}

    async def read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.user is not None and entry.user not in self.users and _person(entry.facts) is None:
                user = await self._services.people.user(entry.user)
                self.users[entry.user] = user.username if user else None
            named = _text(entry.facts, "channel_name")
            if entry.channel is not None and entry.channel not in self.channels and named is None:
                channel = await self._services.store.channel(entry.channel)
                self.channels[entry.channel] = channel.name if channel else None


def _out(entry: Entry, names: _Names) -> EntryOut:
    facts = entry.facts
    articles = facts.get("articles")
    return EntryOut(
        seq=entry.seq,
        at=instant(entry.at),
        kind=entry.kind,
        user=entry.user,
        user_name=_person(facts) or (names.users.get(entry.user) if entry.user else None),
        channel=entry.channel,
        channel_name=_text(facts, "channel_name") or (names.channels.get(entry.channel) if entry.channel else None),
        action=_text(facts, "action"),
        purpose=_text(facts, "purpose"),
        code=_text(facts, "code"),
        articles=[str(article) for article in articles] if isinstance(articles, list | tuple) else [],
        reason=_text(facts, "reason"),
        lease=entry.lease,
        leaf_hash=entry.leaf.hex(),
        record=dict(facts),
    )


@router.get("/entries", summary="Rows, newest first")
async def entries(
    services: Backend,
    cursor: Annotated[
        int | None, Query(ge=0, le=2**53, description="`next_cursor` of the previous page; leave out for the newest.")
    ] = None,
    limit: Limit = 100,
    kind: Annotated[EntryKind | None, Query(description="Only rows of this kind.")] = None,
) -> PageOf[EntryOut]:
    """What was shown to whom and why, what was refused, and what administrators changed."""
    found, following = await services.ledger.entries(cursor=cursor, limit=limit, kind=kind)
    names = _Names(services)
    await names.read(found)
    return PageOf(
        items=[_out(entry, names) for entry in found],
        next_cursor=None if following is None else str(following),
    )


@router.get("/root", summary="The ledger's root now")
async def root(services: Backend) -> RootOut:
    """Remember it: a later root must prove that it contains this one."""
    head = await services.ledger.head()
    return RootOut(tree_size=head.size, root_hash=head.root.hex(), at=instant_or_none(head.at or None))


@router.get("/entries/{seq}/proof", summary="Proof that a row is in the ledger")
async def proof(
    seq: Annotated[int, Path(ge=0, le=2**53, description="Number of the row.")],
    services: Backend,
    size: Annotated[
        int | None, Query(ge=1, le=2**53, description="Prove against the tree of this size instead of the present one.")
    ] = None,
) -> ProofOut:
    """404 when the row is not in the tree of that size."""
    found = await services.ledger.inclusion(seq, size=size)
    if found is None:
        raise not_found()
    return ProofOut(
        seq=found.seq,
        leaf_index=found.seq,
        tree_size=found.head.size,
        leaf_hash=found.leaf.hex(),
        root_hash=found.head.root.hex(),
        path=[step.hex() for step in found.path],
        salt=found.salt.hex(),
        canonical=found.record,
    )
