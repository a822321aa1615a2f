"""The one permission function: facts in, decision with its articles out. Pure.

First release: live duty watch (值班监看, requester class R0) by a watcher within his scope is allowed; everything else
is refused by code and article. Guards, codes and articles follow the regulations' requirements (G1, G3, G8, G9, G10,
G16; F-06, F-08, F-17, F-33). DRAFT and EXPIRED texts are never cited.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sharing.lease import Action, Zone

PURPOSE_LIMIT = 500
DUTY_WATCH = "DUTY_WATCH"
_PURPOSES = {"DUTY_WATCH": DUTY_WATCH, "值班监看": DUTY_WATCH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A policy profile: which text binds, from when (unix seconds)."""

    id: str
    version: str
    valid_from: float


NATIONAL = Profile(
    id="cn-national-799", version="1", valid_from=datetime.fromisoformat("2025-04-01T00:00:00+08:00").timestamp()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFacts:
    """Who asks. `watcher`: holds the role of duty watch; `active`: enabled, and no password change is due;
    `listener`: holds the right to sound, `may_control`: to move cameras (of use to a watcher only)."""

    active: bool
    watcher: bool
    listener: bool = False
    may_control: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFacts:
    """What is asked for. `region` is the administrative division (2-8 digits) if known."""

    in_scope: bool
    playable: bool
    secrecy: bool
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a decision may rest on. None for a user or channel that does not exist.

    `renewal`: the lease exists already, so that existence is no secret any more and a no is a revocation.
    """

    now: float
    user: UserFacts | None
    action: Action
    purpose: str
    channel: ChannelFacts | None
    zone: Zone = Zone.PRIVATE
    renewal: bool = False
    profile: Profile = NATIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Allow or not. `code`, `http_status` and `sip_status` are of the refusal; `reason` is for people.

    `actions` are what is granted; `obligations`: "register" (a ledger row first), "strip_audio" (AUDIO is not granted).
    """

    allow: bool
    code: str
    articles: tuple[str, ...]
    reason: str
    actions: frozenset[Action] = frozenset()
    obligations: tuple[str, ...] = ()
    purpose: str = ""
    http_status: int = 200
    sip_status: int = 200


_STATUS = {
    "E_NOT_FOUND": (404, 404),
    "E_PROFILE_INACTIVE": (409, 403),
    "E_PURPOSE_INVALID": (422, 403),
    "E_LEDGER_UNAVAILABLE": (503, 503),
}

# Articles by (region prefix, citation); an empty prefix binds everywhere.
_INTERNAL_ACCESS = (("", "N16(2)(2)"), ("50", "CQ22(1)"), ("52", "GZ18(3)"), ("1302", "TS27(2)"))
_REGISTER = (("", "N16(2)(3)"), ("50", "CQ23(1)"), ("52", "GZ17(4)"), ("1302", "TS27(3)"))
_BASES: dict[str, tuple[tuple[str, str], ...]] = {
    "access": _INTERNAL_ACCESS,
    "register": _REGISTER,
    "purpose": (*_REGISTER[:1], ("50", "CQ7"), ("52", "GZ5"), ("1302", "TS27(3)")),
    "audio": (("", "N8"), ("52", "GZ3")),
    "range": (("", "N13"), ("50", "CQ12(2)"), ("52", "GZ10"), ("1302", "TS19")),
    "publish": (("", "N22"), ("", "N23")),
    "organ": (("", "N20"), ("50", "CQ25"), ("52", "GZ15"), ("1302", "TS26")),
    "secrecy": (("", "N15"), ("50", "CQ15")),
    "profile": (("", "N34"),),
}
# What duty watch includes: the live picture, what the device has recorded and reports (not the recordings themselves).
_ON_DUTY = frozenset({Action.VIEW_LIVE, Action.RECORDINFO, Action.EVENTSUB})
_REFUSED_ACTIONS = {
    Action.AUDIO: ("E_AUDIO_NOT_GRANTED", "audio", "sound is a right of its own, and it has not been granted"),
    Action.PTZ: ("E_ACTION_NOT_GRANTED", "range", "cameras keep their filed range; moving them is not granted"),
    Action.PUBLISH: ("E_ACTION_NOT_GRANTED", "publish", "publication is not granted"),
    Action.COPY: ("E_ACTION_NOT_GRANTED", "access", "duty watch is for viewing only"),
    Action.OBTAIN: ("E_ACTION_NOT_GRANTED", "organ", "footage is obtained on a request, not on duty watch"),
    Action.FORWARD: ("E_ACTION_NOT_GRANTED", "organ", "pictures are passed on on a request, not on duty watch"),
}


def articles_of(basis: str, region: str | None) -> tuple[str, ...]:
    """The articles of a basis that bind in a region."""
    where = region or ""
    return tuple(article for prefix, article in _BASES[basis] if where.startswith(prefix))


def refuse(code: str, basis: str | None, reason: str, *, region: str | None = None) -> Decision:
    """A no with its code, statuses and articles."""
    http_status, sip_status = _STATUS.get(code, (403, 403))
    return Decision(
        allow=False,
        code=code,
        articles=() if basis is None else articles_of(basis, region),
        reason=reason,
        http_status=http_status,
        sip_status=sip_status,
    )


NOT_FOUND = refuse("E_NOT_FOUND", None, "there is no such channel")
LEDGER_UNAVAILABLE = refuse(
    "E_LEDGER_UNAVAILABLE", "register", "the access ledger cannot be written, so nothing is shown"
)
LEASE_OVER = refuse("E_GRANT_EXPIRED", "access", "the lease has ended; open the picture again")


def purpose_of(text: str) -> tuple[str | None, str]:
    """The purpose code of "CODE" or "CODE: free text" (None when it is not one we know), and the text."""
    code, _, rest = text.replace("：", ":").partition(":")
    return _PURPOSES.get(code.strip().upper()), rest.strip()


def decide(facts: Facts) -> Decision:
    """Decide. The order of the guards is what keeps hidden channels hidden: role and purpose come before existence."""
    for guard in _GUARDS:
        decision = guard(facts)
        if decision is not None:
            return decision
    region = facts.channel.region if facts.channel else None
    listens = facts.user is not None and facts.user.listener
    return Decision(
        allow=True,
        code="OK",
        articles=articles_of("access", region),
        reason="duty watch within scope",
        actions=frozenset({facts.action, Action.AUDIO} if listens else {facts.action}),
        obligations=("register",) if listens else ("register", "strip_audio"),
        purpose=DUTY_WATCH,
    )


def audio_withdrawn(region: str | None) -> Decision:
    """The no about the sound of a lease that had it: the picture goes on, the sound ends (F-33)."""
    reason = "the right to sound was withdrawn; the picture goes on"
    return refuse("E_AUDIO_NOT_GRANTED", "audio", reason, region=region)


def _profile(facts: Facts) -> Decision | None:
    if facts.now < facts.profile.valid_from:
        return refuse("E_PROFILE_INACTIVE", "profile", "no policy profile is in force at this time")
    return None


def _user(facts: Facts) -> Decision | None:
    if facts.user is None or not facts.user.active or not facts.user.watcher:
        code = "E_GRANT_REVOKED" if facts.renewal else "E_ACTION_NOT_GRANTED"
        return refuse(code, "access", "only an active account with the role of duty watch may see pictures")
    return None


def _action(facts: Facts) -> Decision | None:
    if facts.action in _ON_DUTY:
        return None
    if facts.action is Action.PTZ and facts.user is not None and facts.user.may_control:
        return None
    default = ("E_ACTION_NOT_GRANTED", "access", "this action is not granted to duty watch")
    return refuse(*_REFUSED_ACTIONS.get(facts.action, default))


def _purpose(facts: Facts) -> Decision | None:
    if len(facts.purpose) > PURPOSE_LIMIT or purpose_of(facts.purpose)[0] is None:
        return refuse("E_PURPOSE_INVALID", "purpose", f"the purpose must be a known code, such as {DUTY_WATCH}")
    return None


def _scope(facts: Facts) -> Decision | None:
    if facts.channel is not None and facts.channel.in_scope:
        return None
    if facts.renewal:
        return refuse("E_GRANT_REVOKED", "access", "the channel is no longer in the scope of the account")
    return NOT_FOUND


def _kind(facts: Facts) -> Decision | None:
    if facts.channel is not None and not facts.channel.playable:
        return refuse("E_SCOPE_CAMERA", "access", "this is not a video channel", region=facts.channel.region)
    return None


def _zone(facts: Facts) -> Decision | None:
    if facts.channel is not None and facts.channel.secrecy and facts.zone is Zone.INTERNET:
        reason = "a secret channel is not shown outside the private network"
        return refuse("E_NETWORK_ZONE", "secrecy", reason, region=facts.channel.region)
    return None


_GUARDS: tuple[Callable[[Facts], Decision | None], ...] = (
    _profile,
    _user,
    _action,
    _purpose,
    _scope,
    _kind,
    _zone,
)
