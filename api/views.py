"""The views of this process: one per lease, from the request to some time after its end.

A view is what `POST /streams` makes: one person looking at one channel under one lease. Several views share one live
stream of the device. Ended views stay readable for a while, so that a console can say why its picture went away.
Bounded: open views by the leases there are, ended ones by `keep`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from sharing.lease import Lease
from sipserver.protocol.ids import ChannelKey, LeaseKey, StreamKey, UserKey


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """`state`: "opening" until the device has answered, "open", "ended". Times in unix seconds.

    `audio`: whether sound was granted when it was opened; only its lease knows whether it still is.
    """

    key: LeaseKey
    user: UserKey
    session_id: str
    channel: ChannelKey
    purpose: str
    ledger_seq: int
    opened_at: float
    state: Literal["opening", "open", "ended"] = "opening"
    stream: StreamKey | None = None
    ended_at: float | None = None
    end_reason: str | None = None
    articles: tuple[str, ...] = ()
    audio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewEnded:
    """Bus event for the owner of a view: it is over, and why. `articles` when a rule ended it."""

    view: LeaseKey
    user: UserKey
    channel: ChannelKey
    at: float
    reason: str
    articles: tuple[str, ...] = ()


class Views:
    """The registry. `publish` gets one `ViewEnded` for every view that ends, exactly once."""

    def __init__(self, *, clock: Callable[[], float], publish: Callable[[ViewEnded], None], keep: int = 1000) -> None:
        self._clock = clock
        self._publish = publish
        self._keep = keep
        self._open: dict[LeaseKey, View] = {}
        self._ended: OrderedDict[LeaseKey, View] = OrderedDict()
        self._places: Counter[UserKey] = Counter()

    @contextmanager
    def place(self, user: UserKey, limit: int) -> Iterator[bool]:
        """Holds one of a user's `limit` places while a view is being opened; False when none is free."""
        taken = self._places[user] + sum(view.state == "open" for view in self.open_views(user=user))
        if taken >= limit:
            yield False
            return
        self._places[user] += 1
        try:
            yield True
        finally:
            self._places[user] -= 1
            if not self._places[user]:
                del self._places[user]

    def opening(self, lease: Lease, *, session_id: str) -> View:
        view = View(
            key=lease.key,
            user=lease.user,
            session_id=session_id,
            channel=lease.channel,
            purpose=lease.purpose,
            ledger_seq=lease.ledger_seq,
            opened_at=lease.started_at,
            audio=lease.audio,
        )
        self._open[lease.key] = view
        return view

    def opened(self, key: LeaseKey, stream: StreamKey) -> View | None:
        """The device has answered. None when the view has ended in the meantime."""
        view = self._open.get(key)
        if view is None:
            return None
        view = replace(view, state="open", stream=stream)
        self._open[key] = view
        return view

    def ended(self, key: LeaseKey, reason: str, articles: tuple[str, ...] = ()) -> View | None:
        """The lease is over, whoever ended it; the first reason counts. None when it was over already."""
        view = self._open.pop(key, None)
        if view is None:
            return None
        now = self._clock()
        view = replace(view, state="ended", ended_at=now, end_reason=reason, articles=articles)
        self._ended[key] = view
        while len(self._ended) > self._keep:
            self._ended.popitem(last=False)
        self._publish(
            ViewEnded(view=key, user=view.user, channel=view.channel, at=now, reason=reason, articles=articles)
        )
        return view

    def get(self, key: LeaseKey) -> View | None:
        """An open or recently ended view."""
        return self._open.get(key) or self._ended.get(key)

    def open_views(self, *, user: UserKey | None = None, session_id: str | None = None) -> list[View]:
        """Open views, oldest first, of one user or one session if given."""
        return [
            view
            for view in self._open.values()
            if (user is None or view.user == user) and (session_id is None or view.session_id == session_id)
        ]
