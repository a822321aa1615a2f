"""The permission function, cell by cell: one combination is allowed, everything else refused by code and article."""

import dataclasses
import itertools

import pytest

from sharing import policy
from sharing.lease import Action, Zone
from sharing.policy import ChannelFacts, Facts, UserFacts, decide, purpose_of
from tests.fixtures_db import NOON

WATCHER = UserFacts(active=True, watcher=True)
LISTENER = UserFacts(active=True, watcher=True, listener=True)
ON_DUTY = (Action.VIEW_LIVE, Action.RECORDINFO, Action.EVENTSUB)
CAMERA = ChannelFacts(in_scope=True, playable=True, secrecy=False)
GOOD = Facts(now=NOON, user=WATCHER, action=Action.VIEW_LIVE, purpose="DUTY_WATCH", channel=CAMERA)


def with_(**changes: object) -> Facts:
    return dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]


def test_duty_watch_within_scope_is_allowed() -> None:
    decision = decide(GOOD)
    assert decision.allow
    assert decision.actions == {Action.VIEW_LIVE}
    assert decision.obligations == ("register", "strip_audio")
    assert decision.articles == ("N16(2)(2)",)


def test_sound_comes_with_the_picture_for_who_may_listen() -> None:
    decision = decide(with_(user=LISTENER))
    assert decision.allow
    assert decision.actions == {Action.VIEW_LIVE, Action.AUDIO}
    assert decision.obligations == ("register",)


@pytest.mark.parametrize("renewal", [True, False])
@pytest.mark.parametrize("watcher", [True, False])
@pytest.mark.parametrize("listener", [True, False])
def test_sound_is_stripped_or_granted_never_both_and_never_without_a_picture(
    watcher: bool, listener: bool, renewal: bool
) -> None:
    user = UserFacts(active=True, watcher=watcher, listener=listener)
    decision = decide(with_(user=user, renewal=renewal))
    assert decision.allow == watcher
    assert (Action.AUDIO in decision.actions) == (watcher and listener)
    assert ("strip_audio" in decision.obligations) == (watcher and not listener)
    alone = decide(with_(user=user, action=Action.AUDIO, renewal=renewal))
    assert not alone.allow
    assert alone.actions == frozenset()


def test_withdrawn_sound_cites_its_articles() -> None:
    decision = policy.audio_withdrawn("520102")
    assert (decision.allow, decision.code, decision.articles) == (False, "E_AUDIO_NOT_GRANTED", ("N8", "GZ3"))


REFUSALS = [
    (with_(user=None), "E_ACTION_NOT_GRANTED", 403, ("N16(2)(2)",)),
    (with_(user=UserFacts(active=False, watcher=True)), "E_ACTION_NOT_GRANTED", 403, ("N16(2)(2)",)),
    (with_(user=UserFacts(active=True, watcher=False)), "E_ACTION_NOT_GRANTED", 403, ("N16(2)(2)",)),
    (with_(action=Action.AUDIO), "E_AUDIO_NOT_GRANTED", 403, ("N8",)),
    (with_(action=Action.PTZ), "E_ACTION_NOT_GRANTED", 403, ("N13",)),
    (with_(action=Action.COPY), "E_ACTION_NOT_GRANTED", 403, ("N16(2)(2)",)),
    (with_(action=Action.OBTAIN), "E_ACTION_NOT_GRANTED", 403, ("N20",)),
    (with_(action=Action.PUBLISH), "E_ACTION_NOT_GRANTED", 403, ("N22", "N23")),
    (with_(action=Action.VIEW_PLAYBACK), "E_ACTION_NOT_GRANTED", 403, ("N16(2)(2)",)),
    (with_(purpose=""), "E_PURPOSE_INVALID", 422, ("N16(2)(3)",)),
    (with_(purpose="CURIOSITY"), "E_PURPOSE_INVALID", 422, ("N16(2)(3)",)),
    (with_(purpose="DUTY_WATCH: " + "x" * 500), "E_PURPOSE_INVALID", 422, ("N16(2)(3)",)),
    (with_(channel=None), "E_NOT_FOUND", 404, ()),
    (with_(channel=dataclasses.replace(CAMERA, in_scope=False)), "E_NOT_FOUND", 404, ()),
    (with_(channel=dataclasses.replace(CAMERA, playable=False)), "E_SCOPE_CAMERA", 403, ("N16(2)(2)",)),
    (
        with_(channel=dataclasses.replace(CAMERA, secrecy=True, region="500101"), zone=Zone.INTERNET),
        "E_NETWORK_ZONE",
        403,
        ("N15", "CQ15"),
    ),
    (with_(now=policy.NATIONAL.valid_from - 1), "E_PROFILE_INACTIVE", 409, ("N34",)),
]


@pytest.mark.parametrize(("facts", "code", "status", "articles"), REFUSALS)
def test_refusals(facts: Facts, code: str, status: int, articles: tuple[str, ...]) -> None:
    decision = decide(facts)
    assert (decision.allow, decision.code, decision.http_status, decision.articles) == (False, code, status, articles)
    assert decision.sip_status == (404 if status == 404 else 403)
    assert decision.reason


def test_only_one_combination_of_all_is_allowed() -> None:
    rights = itertools.product((True, False), repeat=4)
    users = [None, *(UserFacts(active=a, watcher=w, listener=s, may_control=c) for a, w, s, c in rights)]
    channels = [
        None,
        *(ChannelFacts(in_scope=s, playable=p, secrecy=c) for s, p, c in itertools.product((True, False), repeat=3)),
    ]
    allowed = [
        facts
        for facts in (
            with_(user=user, action=action, purpose=purpose, channel=channel, zone=zone, renewal=renewal)
            for user in users
            for action in Action
            for purpose in ("DUTY_WATCH", "OTHER")
            for channel in channels
            for zone in Zone
            for renewal in (True, False)
        )
        if decide(facts).allow
    ]
    for facts in allowed:
        assert facts.user is not None
        assert (facts.user.active, facts.user.watcher) == (True, True)
        assert facts.purpose == "DUTY_WATCH"
        assert facts.action in ON_DUTY or (facts.action is Action.PTZ and facts.user.may_control)
        assert facts.channel is not None
        assert facts.channel.in_scope
        assert facts.channel.playable
        assert not (facts.channel.secrecy and facts.zone is Zone.INTERNET)
    # with sound or not × renewal or not × (secret only in the private zone)
    # × (three acts with or without the right to control, and PTZ)
    assert len(allowed) == 2 * 2 * 3 * (len(ON_DUTY) * 2 + 1)


def test_hidden_and_absent_are_one() -> None:
    """Whatever else is asked, a channel out of scope answers as one that does not exist."""
    outside = dataclasses.replace(CAMERA, in_scope=False)
    for action in Action:
        for purpose in ("DUTY_WATCH", "?"):
            for user in (WATCHER, None, UserFacts(active=True, watcher=False)):
                for zone in Zone:
                    facts = with_(action=action, purpose=purpose, user=user, zone=zone)
                    for variant in (outside, dataclasses.replace(outside, secrecy=True, playable=False, region="50")):
                        assert decide(dataclasses.replace(facts, channel=variant)) == decide(
                            dataclasses.replace(facts, channel=None)
                        )


def test_a_running_lease_is_revoked_not_denied() -> None:
    for lost in (with_(user=None), with_(user=UserFacts(active=False, watcher=True)), with_(channel=None)):
        decision = decide(dataclasses.replace(lost, renewal=True))
        assert (decision.code, decision.http_status) == ("E_GRANT_REVOKED", 403)


@pytest.mark.parametrize(
    ("region", "articles"),
    [
        (None, ("N16(2)(2)",)),
        ("340201", ("N16(2)(2)",)),
        ("500101", ("N16(2)(2)", "CQ22(1)")),
        ("520102", ("N16(2)(2)", "GZ18(3)")),
        ("130203", ("N16(2)(2)", "TS27(2)")),
        ("530581", ("N16(2)(2)",)),  # Tengchong has expired
        ("440303", ("N16(2)(2)",)),  # Shenzhen is a draft
    ],
)
def test_local_articles_bind_locally(region: str | None, articles: tuple[str, ...]) -> None:
    decision = decide(with_(channel=dataclasses.replace(CAMERA, region=region)))
    assert decision.articles == articles


@pytest.mark.parametrize(
    ("text", "code", "rest"),
    [
        ("DUTY_WATCH", "DUTY_WATCH", ""),
        ("duty_watch: 夜班", "DUTY_WATCH", "夜班"),
        ("值班监看：三号岗", "DUTY_WATCH", "三号岗"),
        ("看看", None, ""),
        ("", None, ""),
    ],
)
def test_purposes(text: str, code: str | None, rest: str) -> None:
    assert purpose_of(text) == (code, rest)
