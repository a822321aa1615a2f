"""The registration of a simulated device as a table: which state follows which event (GB/T 28181 §9.1, §9.6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from sipserver.protocol.digest import answer, parse_challenge
from sipserver.protocol.errors import RemoteProtocolError
from sipserver.protocol.message import Request, Response


class State(Enum):
    """Where the device stands with its platform."""

    OFFLINE = "offline"  # no flow to the platform
    REGISTERING = "registering"
    REGISTERED = "registered"
    REFRESHING = "refreshing"  # registered, a new REGISTER under way
    WAITING = "waiting"  # failed, pause before the next attempt
    LEAVING = "leaving"  # REGISTER with Expires 0 under way
    STOPPED = "stopped"


class Happening(Enum):
    """What moves the registration."""

    CONNECTED = "connected"
    ACCEPTED = "accepted"
    FAILED = "failed"
    DUE = "due"  # refresh or retry is due
    SILENT = "silent"  # keepalives unanswered or refused
    LOST = "lost"  # the flow is gone
    STOP = "stop"


S, H = State, Happening
TRANSITIONS: Final[dict[tuple[State, Happening], State]] = {
    (S.OFFLINE, H.CONNECTED): S.REGISTERING,
    (S.OFFLINE, H.STOP): S.STOPPED,
    (S.REGISTERING, H.ACCEPTED): S.REGISTERED,
    (S.REGISTERING, H.FAILED): S.WAITING,
    (S.REGISTERING, H.LOST): S.OFFLINE,
    (S.REGISTERING, H.STOP): S.STOPPED,
    (S.REGISTERED, H.DUE): S.REFRESHING,
    (S.REGISTERED, H.SILENT): S.REGISTERING,
    (S.REGISTERED, H.LOST): S.OFFLINE,
    (S.REGISTERED, H.STOP): S.LEAVING,
    (S.REFRESHING, H.ACCEPTED): S.REGISTERED,
    (S.REFRESHING, H.FAILED): S.WAITING,
    (S.REFRESHING, H.SILENT): S.REGISTERING,
    (S.REFRESHING, H.LOST): S.OFFLINE,
    (S.REFRESHING, H.STOP): S.LEAVING,
    (S.WAITING, H.DUE): S.REGISTERING,
    (S.WAITING, H.LOST): S.OFFLINE,
    (S.WAITING, H.STOP): S.STOPPED,
    (S.LEAVING, H.ACCEPTED): S.STOPPED,
    (S.LEAVING, H.FAILED): S.STOPPED,
    (S.LEAVING, H.LOST): S.STOPPED,
    (S.LEAVING, H.DUE): S.STOPPED,
}
ONLINE: Final = frozenset({S.REGISTERED, S.REFRESHING})


def follow(state: State, happening: Happening) -> State:
    """The next state; pairs that the table does not list change nothing."""
    return TRANSITIONS.get((state, happening), state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a challenge is answered with."""

    username: str
    password: str


def with_credentials(request: Request, response: Response, login: Login, *, cnonce: str) -> Request | None:
    """The request again, answering the 401/407 in ``response``, CSeq one higher; None without a usable challenge."""
    proxy = response.status == 407
    for header in response.headers.all("Proxy-Authenticate" if proxy else "WWW-Authenticate"):
        try:
            challenge = parse_challenge(header)
        except RemoteProtocolError:
            continue
        if challenge is None or challenge.algorithm not in ("MD5", "SHA-256"):
            continue
        value = answer(
            challenge,
            username=login.username,
            password=login.password,
            method=request.method,
            uri=str(request.uri),
            cnonce=cnonce,
        )
        headers = request.headers.with_("Proxy-Authorization" if proxy else "Authorization", value)
        number, method = request.cseq
        return Request(request.method, request.uri, headers.with_("CSeq", f"{number + 1} {method}"), request.body)
    return None
