"""The lease: the only thing a picture flows for, and the refusal that stands in its place.

A lease exists only after its intent row is durable in the ledger (requirements I43, guard G16), is short
(`not_after` at most 30 s ahead, E23) and is renewed by deciding again.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from sipserver.protocol.ids import ChannelKey, LeaseKey, UserKey


class Action(StrEnum):
    """What one wants to do with a camera (the regulations' verbs, requirements §0)."""

    VIEW_LIVE = "VIEW_LIVE"
    VIEW_PLAYBACK = "VIEW_PLAYBACK"
    COPY = "COPY"
    OBTAIN = "OBTAIN"
    FORWARD = "FORWARD"
    META = "META"
    PUBLISH = "PUBLISH"
    PTZ = "PTZ"
    AUDIO = "AUDIO"
    RECORDINFO = "RECORDINFO"
    EVENTSUB = "EVENTSUB"


class Zone(StrEnum):
    """The network a client comes from (F-17)."""

    PRIVATE = "PRIVATE"
    INTERNET = "INTERNET"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Where a request came from: `channel` is "console", "rest" or "sip". The address goes to the ledger only."""

    ip: str | None = None
    channel: str = "rest"
    zone: Zone = Zone.PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Permission to move media of one channel until `not_after` (unix seconds).

    `ledger_seq` is the position of the intent row it rests on. `obligations` are duties of whoever serves the picture:
    "strip_audio" (F-33) when AUDIO is not among `actions`. A renewal may take AUDIO away, never add it.
    """

    key: LeaseKey
    user: UserKey
    channel: ChannelKey
    actions: frozenset[Action]
    purpose: str
    not_after: float
    ledger_seq: int
    started_at: float
    obligations: tuple[str, ...] = ()

    @property
    def audio(self) -> bool:
        """Whether sound may be given out."""
        return Action.AUDIO in self.actions


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A no: stable `code`, HTTP and SIP status, and the `articles` it rests on (empty for a hidden object, by design).

    `ledger_seq` is None only when the ledger itself could not be written (`E_LEDGER_UNAVAILABLE`).
    """

    code: str
    http_status: int
    sip_status: int
    reason: str
    articles: tuple[str, ...] = ()
    ledger_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Permission for one act on one channel that moves no media, such as turning it; its row is at `ledger_seq`."""

    user: UserKey
    channel: ChannelKey
    action: Action
    ledger_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewStats:
    """What was delivered under a lease, for its completion row: bytes, frames, dropped frames, seconds of picture."""

    bytes: int = 0
    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0
    viewers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewals:
    """The result of deciding again about every open lease."""

    renewed: tuple[Lease, ...] = ()
    refused: tuple[tuple[Lease, Refusal], ...] = field(default_factory=tuple)
