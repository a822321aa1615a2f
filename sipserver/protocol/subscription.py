"""A subscription of ours to one peer as a table (RFC 6665, §9.11, annex N), with its dialog and its one timer. Pure.

WAITING   nothing is out; at ``due`` a first SUBSCRIBE goes (at once, or after a failure with growing pauses)
ASKING    the first SUBSCRIBE is out; a NOTIFY may come before its answer and already belongs to the dialog
ACTIVE    accepted; at ``due`` (before the expiry) it is refreshed inside the dialog
REFRESHING a refresh is out; if it fails with 481 or by time the dialog is lost and a new one begins
LEAVING   our SUBSCRIBE with Expires 0 is out; late NOTIFYs are answered and ignored
PARKED    the peer is offline; a new dialog begins when it is back
REFUSED   the peer does not do this; not asked again until it registers anew
ENDED     nobody wants it any more
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["catalog", "alarm", "position", "ptz"]
KINDS: Final[tuple[Kind, ...]] = ("catalog", "alarm", "position", "ptz")

FIRST_PAUSE: Final = 10.0
LONGEST_PAUSE: Final = 600.0


class State(enum.Enum):
    """Where a subscription is."""

    WAITING = "waiting"
    ASKING = "asking"
    ACTIVE = "active"
    REFRESHING = "refreshing"
    LEAVING = "leaving"
    PARKED = "parked"
    REFUSED = "refused"
    ENDED = "ended"


class Input(enum.Enum):
    """What happens to it."""

    DUE = "timer"
    ACCEPTED = "2xx"
    GONE = "481 or similar: no such dialog"
    UNSUPPORTED = "not served by this peer"
    FAILED = "refused for now, or no answer"
    ENDED_RETRY = "NOTIFY terminated, subscribe again"
    ENDED_LATER = "NOTIFY terminated, try later"
    ENDED_FOR_GOOD = "NOTIFY terminated, do not come back"
    OFFLINE = "peer offline"
    RETURNED = "peer registered anew"
    CANCEL = "not wanted any more"


class Action(enum.Enum):
    """What to do."""

    SUBSCRIBE = "new dialog, send SUBSCRIBE"
    REFRESH = "send SUBSCRIBE in the dialog"
    UNSUBSCRIBE = "send Expires 0 in the dialog"
    KEEP = "count on the granted time"
    NOW = "try again at once"
    LATER = "try again after a pause"


_S, _I, _A = State, Input, Action
_LOST = (_S.WAITING, (_A.NOW,))
_PAUSE = (_S.WAITING, (_A.LATER,))
_NO = (_S.REFUSED, ())
_AWAY = (_S.PARKED, ())
_BACK = (_S.WAITING, (_A.NOW,))

TABLE: Final[dict[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (_S.WAITING, _I.DUE): (_S.ASKING, (_A.SUBSCRIBE,)),
    (_S.WAITING, _I.OFFLINE): _AWAY,
    (_S.WAITING, _I.RETURNED): _BACK,
    (_S.WAITING, _I.CANCEL): (_S.ENDED, ()),
    (_S.ASKING, _I.ACCEPTED): (_S.ACTIVE, (_A.KEEP,)),
    (_S.ASKING, _I.GONE): _PAUSE,
    (_S.ASKING, _I.UNSUPPORTED): _NO,
    (_S.ASKING, _I.FAILED): _PAUSE,
    (_S.ASKING, _I.ENDED_RETRY): _PAUSE,
    (_S.ASKING, _I.ENDED_LATER): _PAUSE,
    (_S.ASKING, _I.ENDED_FOR_GOOD): _NO,
    (_S.ASKING, _I.OFFLINE): _AWAY,
    (_S.ASKING, _I.RETURNED): _BACK,
    (_S.ASKING, _I.CANCEL): (_S.LEAVING, (_A.UNSUBSCRIBE,)),
    (_S.ACTIVE, _I.DUE): (_S.REFRESHING, (_A.REFRESH,)),
    (_S.ACTIVE, _I.ENDED_RETRY): _LOST,
    (_S.ACTIVE, _I.ENDED_LATER): _PAUSE,
    (_S.ACTIVE, _I.ENDED_FOR_GOOD): _NO,
    (_S.ACTIVE, _I.OFFLINE): _AWAY,
    (_S.ACTIVE, _I.RETURNED): _BACK,
    (_S.ACTIVE, _I.CANCEL): (_S.LEAVING, (_A.UNSUBSCRIBE,)),
    (_S.REFRESHING, _I.ACCEPTED): (_S.ACTIVE, (_A.KEEP,)),
    (_S.REFRESHING, _I.GONE): _LOST,
    (_S.REFRESHING, _I.UNSUPPORTED): _NO,
    (_S.REFRESHING, _I.FAILED): _PAUSE,
    (_S.REFRESHING, _I.ENDED_RETRY): _LOST,
    (_S.REFRESHING, _I.ENDED_LATER): _PAUSE,
    (_S.REFRESHING, _I.ENDED_FOR_GOOD): _NO,
    (_S.REFRESHING, _I.OFFLINE): _AWAY,
    (_S.REFRESHING, _I.RETURNED): _BACK,
    (_S.REFRESHING, _I.CANCEL): (_S.LEAVING, (_A.UNSUBSCRIBE,)),
    (_S.PARKED, _I.RETURNED): _BACK,
    (_S.PARKED, _I.CANCEL): (_S.ENDED, ()),
    (_S.REFUSED, _I.RETURNED): _BACK,
    (_S.REFUSED, _I.CANCEL): (_S.ENDED, ()),
    (_S.LEAVING, _I.DUE): (_S.ENDED, ()),
    (_S.LEAVING, _I.OFFLINE): (_S.ENDED, ()),
    (_S.LEAVING, _I.RETURNED): (_S.ENDED, ()),
}

#: Statuses of an answer to SUBSCRIBE: the dialog is gone; the peer does not do this at all.
_GONE: Final = frozenset({404, 410, 416, 481, 482, 483, 484, 485, 604})
_UNSUPPORTED: Final = frozenset({400, 403, 405, 415, 488, 489, 501, 603, 606})
#: Reasons of Subscription-State: terminated (RFC 6665 §4.1.3); an unknown or missing one means: subscribe again.
_REASONS: Final[dict[str, Input]] = {
    "probation": Input.ENDED_LATER,
    "giveup": Input.ENDED_LATER,
    "rejected": Input.ENDED_FOR_GOOD,
    "noresource": Input.ENDED_FOR_GOOD,
    "invariant": Input.ENDED_FOR_GOOD,
}


def verdict(status: int) -> Input:
    """What a final answer to SUBSCRIBE means."""
    if status < 300:
        return Input.ACCEPTED
    return Input.GONE if status in _GONE else Input.UNSUPPORTED if status in _UNSUPPORTED else Input.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Notified:
    """Subscription-State of a NOTIFY: ended (with what that means), and the seconds it says."""

    ended: Input | None
    expires: float | None
    retry_after: float | None


def subscription_state(header: str | None) -> Notified:
    """Read Subscription-State; a missing or odd one counts as active (many devices leave it out)."""
    word, *params = [part.strip() for part in (header or "").lower().split(";")]
    values = dict(part.split("=", 1) for part in params if "=" in part)
    ended = _REASONS.get(values.get("reason", "").strip(), Input.ENDED_RETRY) if word == "terminated" else None
    return Notified(
        ended=ended, expires=_seconds(values.get("expires")), retry_after=_seconds(values.get("retry-after"))
    )


def _seconds(text: str | None) -> float | None:
    word = (text or "").strip()
    return float(word) if word.isascii() and word.isdigit() and len(word) <= 9 else None


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One subscription. ``expires`` is asked for; ``granted`` what the peer gave; ``due`` the next thing to do.

    The dialog: ``call_id``, ``local_tag``, ``remote_tag`` (None until the peer has spoken), ``cseq`` of the last
    SUBSCRIBE, ``event_id`` constant for its life. ``since`` is when it became active, None while it is not.
    """

    kind: Kind
    expires: int = 600
    state: State = State.WAITING
    due: float | None = 0.0
    failures: int = 0
    granted: int = 0
    last_status: int | None = None
    call_id: str = ""
    local_tag: str = ""
    remote_tag: str | None = None
    cseq: int = 0
    event_id: int = 0
    since: float | None = None
    notified: int = 0
    former: list[str] = field(default_factory=list)

    def step(self, given: Input, *, now: float, pause: float | None = None) -> tuple[Action, ...]:
        """Look up the table; a pair outside it changes nothing. ``pause`` replaces the growing one."""
        found = TABLE.get((self.state, given))
        if found is None:
            return ()
        self.state, actions = found
        self.due = None
        for action in actions:
            if action is Action.KEEP:
                self.failures = 0
                self.since = self.since if self.since is not None else now
                self.due = now + max(1.0, self.granted - max(5.0, min(60.0, self.granted * 0.2)))
            elif action is Action.NOW:
                self.failures, self.due = 0, now
            elif action is Action.LATER:
                wait = min(FIRST_PAUSE * 2**self.failures, LONGEST_PAUSE)
                self.failures = min(self.failures + 1, 16)
                self.due = now + (wait if pause is None else max(pause, 1.0))
        if self.state not in (State.ACTIVE, State.REFRESHING):
            self.since = None
        if self.state is State.LEAVING:
            self.due = now + 64.0
        return actions

    def open(self, *, call_id: str, local_tag: str, event_id: int) -> None:
        """Begin a dialog."""
        self.call_id, self.local_tag, self.event_id = call_id, local_tag, event_id
        self.remote_tag, self.cseq, self.granted, self.notified = None, 0, 0, 0

    def accepted(self, granted: int | None, *, remote_tag: str | None) -> None:
        """Note what a 2xx says; a peer that names no Expires has granted what was asked."""
        self.granted = self.expires if granted is None or granted <= 0 else min(granted, self.expires * 10)
        self.remote_tag = self.remote_tag or remote_tag
