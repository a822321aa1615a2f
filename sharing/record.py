"""What a ledger row commits to: its canonical record, and the leaf made of it. Pure.

record = canonical JSON of {v, kind, at, user, channel, lease, facts}; leaf = SHA-256(0x00 ‖ SHA-256(salt ‖ record)).
The leaf holds no personal data: the salt keeps a short record from being guessed from its hash.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sharing import audit
from sipserver.protocol.ids import ChannelKey, LeaseKey, UserKey

FORMAT = 1
SALT_SIZE = 16
RECORD_LIMIT = 65_536
"""Longest record in characters; also a constraint of the table."""


class RecordError(ValueError):
    """Facts that cannot be written down the same way twice (a type JSON does not have, NaN, too long)."""


class EntryKind(StrEnum):
    """What a row says happened."""

    SYSTEM = "system"
    INTENT = "intent"
    ACT = "act"
    REFUSAL = "refusal"
    END = "end"
    END_BY_CRASH = "end_by_crash"
    LOGIN = "login"
    LOGIN_REFUSED = "login_refused"
    LOGOUT = "logout"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A row before it has a place: everything its leaf commits to."""

    kind: EntryKind
    at: float
    user: UserKey | None
    channel: ChannelKey | None
    lease: LeaseKey | None
    facts: Mapping[str, Any]


def canonical(draft: Draft) -> str:
    """The record as text: keys sorted, no blanks, UTF-8 characters as they are. Raises RecordError."""
    body = {
        "v": FORMAT,
        "kind": draft.kind.value,
        "at": draft.at,
        "user": draft.user,
        "channel": draft.channel,
        "lease": draft.lease,
        "facts": _plain(draft.facts),
    }
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text) > RECORD_LIMIT:
        raise RecordError(f"a ledger record is limited to {RECORD_LIMIT} characters")
    return text


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecordError("a ledger record has no place for NaN or infinity")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise RecordError("keys of a ledger record are strings")
        return {_storable(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise RecordError(f"a ledger record has no place for {type(value).__name__}")


def _storable(text: str) -> str:
    """PostgreSQL text holds neither U+0000 nor lone surrogates: make them visible instead of failing on them."""
    return text.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode("utf-8")


def parse(record: str) -> Draft:
    """Read a record back. Raises RecordError when it is none of ours."""
    try:
        body = json.loads(record)
        if body["v"] != FORMAT:
            raise RecordError(f"record format {body['v']!r} is unknown")
        return Draft(
            kind=EntryKind(body["kind"]),
            at=body["at"],
            user=body["user"],
            channel=body["channel"],
            lease=body["lease"],
            facts=body["facts"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError("a ledger record cannot be read") from error


def commitment(salt: bytes, record: str) -> bytes:
    """SHA-256(salt ‖ record): what the leaf is made of."""
    return hashlib.sha256(salt + record.encode()).digest()


def leaf(salt: bytes, record: str) -> bytes:
    """RFC 6962 leaf hash of the commitment."""
    return audit.leaf_hash(commitment(salt, record))
