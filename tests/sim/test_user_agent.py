"""The simulated user agent against a platform written out by hand, with a written clock."""

from __future__ import annotations

import hashlib
import re

import pytest

from ops.sim.footage import Footage
from ops.sim.registration import ONLINE, TRANSITIONS, Happening, State, follow
from ops.sim.user_agent import Connect, MediaGo, MediaStop, MediaWanted
from tests.sim.scripted import DEVICE, DOMAIN, NONCE, PASSWORD, SERVER, Script, Text, camera, config, script

CHALLENGE = f'WWW-Authenticate: Digest realm="{DOMAIN}", nonce="{NONCE}"'


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - RFC 2617


def state_of(sim: Script) -> State:
    return sim.agent.state


# --- registration -----------------------------------------------------------------------------------------------------


def test_the_first_register_names_server_and_itself() -> None:
    sim = script()
    sim.connect()
    request = sim.one()
    assert request.start == f"REGISTER sip:{SERVER}@{DOMAIN} SIP/2.0"
    assert f"<sip:{DEVICE}@{DOMAIN}>" in request.headers["from"]
    assert request.headers["to"] == f"<sip:{DEVICE}@{DOMAIN}>"
    assert request.headers["contact"] == f"<sip:{DEVICE}@192.0.2.10:5061>"
    assert request.headers["expires"] == "3600"
    assert request.headers["x-gb-ver"] == "3.0"
    assert "authorization" not in request.headers


def test_the_challenge_is_answered_as_in_the_published_vector() -> None:
    sim = script()
    sim.connect()
    first = sim.one()
    sim.answer(first, "401 Unauthorized", CHALLENGE)
    second = sim.one()
    # the value of a real capture of a camera registering
    assert 'response="97cae60143bf336443d0bc5e669571a9"' in second.headers["authorization"]
    assert second.headers["call-id"] == first.headers["call-id"]
    assert second.headers["from"] == first.headers["from"]
    number, before = (int(message.headers["cseq"].split()[0]) for message in (second, first))
    assert number == before + 1
    assert second.headers["via"] != first.headers["via"]


def test_a_challenge_with_qop_gets_the_longer_answer() -> None:
    sim = script()
    sim.connect()
    sim.answer(sim.one(), "401 Unauthorized", CHALLENGE + ', qop="auth"')
    header = sim.one().headers["authorization"]
    given = dict(re.findall(r'(\w+)="?([^",]+)"?', header))
    first = md5(f"{DEVICE}:{DOMAIN}:{PASSWORD}")
    second = md5(f"REGISTER:sip:{SERVER}@{DOMAIN}")
    assert given["response"] == md5(f"{first}:{NONCE}:{given['nc']}:{given['cnonce']}:auth:{second}")


def test_registered_means_a_heartbeat_at_once_and_then_each_interval() -> None:
    sim = script(config(keepalive=20))
    sim.register()
    assert sim.agent.state is State.REGISTERED
    for _ in range(3):
        sim.pass_time(19.9)
        assert sim.take() == []
        sim.pass_time(0.1)
        beat = sim.one()
        assert beat.method == "MESSAGE"
        assert b"<CmdType>Keepalive</CmdType>" in beat.body
        assert f"<DeviceID>{DEVICE}</DeviceID>".encode() in beat.body
        sim.answer(beat, "200 OK")


def test_heartbeats_are_numbered_upwards() -> None:
    sim = script(config(keepalive=20))
    sim.register()
    numbers = []
    for _ in range(3):
        sim.pass_time(20)
        beat = sim.one()
        numbers.append(int(beat.body.split(b"<SN>")[1].split(b"<")[0]))
        sim.answer(beat, "200 OK")
    assert numbers == [2, 3, 4]


def test_the_registration_is_refreshed_before_it_expires_with_the_same_call() -> None:
    sim = script(config(keepalive=10_000))
    sim.register(expires=3600)
    sim.pass_time(3600 * 0.8 - 1)
    assert sim.take() == []
    sim.pass_time(1)
    refresh = sim.one()
    assert refresh.method == "REGISTER"
    assert "authorization" not in refresh.headers
    assert state_of(sim) is State.REFRESHING
    assert state_of(sim) in ONLINE
    sim.answer(refresh, "401 Unauthorized", CHALLENGE.replace(NONCE, "another"))
    again = sim.one()
    assert again.headers["call-id"] == refresh.headers["call-id"]
    sim.answer(again, "200 OK", "Expires: 3600")
    assert state_of(sim) is State.REGISTERED
    sim.collect()
    assert sim.notes[-1] == "refreshed"


def test_the_granted_expiry_counts_not_the_wanted_one() -> None:
    sim = script(config(keepalive=10_000))
    sim.register(expires=100)
    sim.pass_time(80)
    assert sim.one().method == "REGISTER"


def test_a_wrong_password_is_not_tried_in_a_storm() -> None:
    sim = script()
    sim.connect()
    sim.answer(sim.one(), "401 Unauthorized", CHALLENGE)
    sim.answer(sim.one(), "401 Unauthorized", CHALLENGE)
    sim.answer(sim.one(), "401 Unauthorized", CHALLENGE)
    assert sim.take() == []
    assert sim.agent.state is State.WAITING
    assert sim.notes == ["register_failed 401"]
    sim.pass_time(59.9)
    assert sim.take() == []
    sim.pass_time(13)  # at most a fifth of the pause comes on top at random
    assert sim.take()[0].method == "REGISTER"


def test_a_refusal_waits_and_repeated_refusals_give_up_when_told_so() -> None:
    sim = script(config(give_up=2))
    sim.connect()
    sim.answer(sim.one(), "403 Forbidden")
    assert sim.exit_code is None
    sim.pass_time(75)
    sim.answer(sim.take()[0], "403 Forbidden")
    assert sim.exit_code == 4
    assert sim.agent.state is State.STOPPED


def test_a_silent_platform_is_tried_again_after_timer_f_and_the_pause() -> None:
    sim = script()
    sim.connect()
    sim.pass_time(31.9)
    copies = sim.take()
    assert len(copies) > 5  # T1, 2·T1 … capped at T2
    assert {copy.headers["via"] for copy in copies} == {copies[0].headers["via"]}
    sim.pass_time(0.2)
    assert sim.agent.state is State.WAITING
    sim.pass_time(75)
    fresh = sim.take()[0]
    assert fresh.headers["via"] != copies[0].headers["via"]


def test_three_unanswered_heartbeats_mean_register_again() -> None:
    sim = script(config(keepalive=60))
    sim.register()
    sim.pass_time(60 * 3 + 40)
    sent = sim.take()
    assert sim.agent.state is State.REGISTERING
    assert "keepalive_unanswered" in sim.notes
    beats = {message.headers["call-id"] for message in sent if message.method == "MESSAGE"}
    assert len(beats) == 3
    assert sent[-1].method == "REGISTER"


def test_a_refused_heartbeat_means_register_again_at_once() -> None:
    sim = script(config(keepalive=60))
    sim.register()
    sim.pass_time(60)
    sim.answer(sim.one(), "403 Forbidden")
    assert sim.one().method == "REGISTER"
    assert sim.notes[-1] == "keepalive_refused"


def test_a_lost_connection_is_opened_again_and_the_device_registers_anew() -> None:
    sim = script(config(transport="tcp"), transport="tcp")
    assert isinstance(sim.agent.next_action(), Connect)
    sim.register()
    sim.agent.connection_lost(now=sim.now)
    assert sim.agent.state is State.OFFLINE
    assert sim.take() == []
    sim.actions.clear()
    sim.pass_time(75)
    sim.collect()
    assert [type(action) for action in sim.actions] == [Connect]
    sim.connect()
    assert sim.one().method == "REGISTER"


def test_an_impossible_connection_is_tried_again() -> None:
    sim = script(config(transport="tcp"), transport="tcp")
    sim.collect()
    sim.actions.clear()
    sim.agent.connect_failed(now=sim.now)
    sim.pass_time(75)
    sim.collect()
    assert Connect() in sim.actions


def test_stopping_unregisters_and_ends_with_code_0() -> None:
    sim = script()
    sim.register()
    sim.agent.stop(now=sim.now)
    leave = sim.one()
    assert leave.method == "REGISTER"
    assert leave.headers["expires"] == "0"
    sim.answer(leave, "401 Unauthorized", CHALLENGE)
    again = sim.one()
    assert again.headers["expires"] == "0"
    sim.answer(again, "200 OK")
    assert sim.exit_code == 0


def test_stopping_without_an_answer_ends_with_code_3() -> None:
    sim = script()
    sim.register()
    sim.agent.stop(now=sim.now)
    sim.pass_time(2.9)
    assert sim.exit_code is None
    sim.pass_time(0.2)
    assert sim.exit_code == 3


def test_stopping_before_registration_ends_at_once() -> None:
    sim = script()
    sim.connect()
    sim.agent.stop(now=sim.now)
    assert sim.exit_code == 0


def test_every_state_can_be_left_by_stopping() -> None:
    for state in State:
        if state not in (State.STOPPED, State.LEAVING):
            assert follow(state, Happening.STOP) in (State.STOPPED, State.LEAVING)
    assert all(follow(State.STOPPED, happening) is State.STOPPED for happening in Happening)
    assert State.STOPPED not in {state for state, _ in TRANSITIONS}


# --- queries ----------------------------------------------------------------------------------------------------------


def replies(sim: Script) -> tuple[Text, list[Text]]:
    """The SIP answer to a query and the business messages that follow, each answered 200."""
    answer, *rest = sim.take()
    messages: list[Text] = []
    while rest:
        assert len(rest) == 1, "annex M: one at a time"
        messages += rest
        sim.answer(rest[0], "200 OK")
        rest = sim.take()
    return answer, messages


@pytest.mark.parametrize(
    ("cmd_type", "expected"),
    [
        ("DeviceInfo", ["<Manufacturer>Mingjian Sim</Manufacturer>", "<Result>OK</Result>"]),
        ("DeviceStatus", ["<Online>ONLINE</Online>", "<Status>OK</Status>", "<DeviceTime>2025-06-15T"]),
        ("RecordInfo", ["<SumNum>0</SumNum>"]),
        ("PresetQuery", ["<SumNum>0</SumNum>"]),
        ("ConfigDownload", ["<HeartBeatInterval>60</HeartBeatInterval>"]),
        ("Catalog", ["<SumNum>1</SumNum>", "<Name>中山北路路口</Name>", "<Status>ON</Status>"]),
    ],
)
def test_queries_get_an_empty_200_and_their_answer_with_the_same_number(cmd_type: str, expected: list[str]) -> None:
    sim = script()
    sim.register()
    sim.query(cmd_type, 17430, DEVICE)
    answer, (message,) = replies(sim)
    assert (answer.status, answer.body) == (200, b"")
    text = message.body.decode("gb18030")
    assert "<Response>" in text
    assert f"<CmdType>{cmd_type}</CmdType>" in text
    assert "<SN>17430</SN>" in text
    for part in expected:
        assert part in text
    assert "<RecordList" not in text
    assert message.headers["to"] == f"<sip:{SERVER}@{DOMAIN}>"
    assert message.headers["content-type"] == "Application/MANSCDP+xml"


def test_a_question_about_somebody_else_is_answered_with_an_error() -> None:
    sim = script()
    sim.register()
    sim.query("DeviceInfo", 3, "34020000001320000099")
    _, (message,) = replies(sim)
    assert b"<Result>ERROR</Result>" in message.body


def test_broken_xml_is_400_and_an_unknown_command_just_200() -> None:
    sim = script()
    sim.register()
    sim.ask("MESSAGE", DEVICE, b"<Query><CmdType>", "Content-Type: Application/MANSCDP+xml")
    assert sim.one().status == 400
    sim.query("Astrology", 1, DEVICE)
    assert sim.one().status == 200
    sim.ask("SUBSCRIBE", DEVICE, b"", "Event: Catalog;id=1", "Expires: 600")
    assert sim.one().status == 489


def test_the_platforms_heartbeat_setting_is_obeyed() -> None:
    sim = script(config(keepalive=60))
    sim.register()
    body = f"<Control><CmdType>DeviceConfig</CmdType><SN>5</SN><DeviceID>{DEVICE}</DeviceID>"
    body += "<BasicParam><HeartBeatInterval>15</HeartBeatInterval></BasicParam></Control>"
    sim.ask("MESSAGE", DEVICE, body.encode(), "Content-Type: Application/MANSCDP+xml")
    replies(sim)
    sim.pass_time(60)
    sim.answer(sim.one(), "200 OK")
    sim.pass_time(15)
    assert b"Keepalive" in sim.one().body


# --- calls ------------------------------------------------------------------------------------------------------------


def offer(
    media: str = "RTP/AVP", *, setup: str | None = None, name: str = "Play", ssrc: str | None = "0200003312"
) -> bytes:
    lines = ["v=0", f"o={SERVER} 0 0 IN IP4 192.0.2.20", f"s={name}", "c=IN IP4 192.0.2.20", "t=0 0"]
    lines += [f"m=video 30000 {media} 96 97 98 100", "a=recvonly", "a=rtpmap:96 PS/90000"]
    if setup:
        lines += [f"a=setup:{setup}", "a=connection:new"]
    if ssrc:
        lines.append(f"y={ssrc}")
    return ("\r\n".join(lines) + "\r\n").encode()


SUBJECT = f"Subject: {DEVICE}:0200003312,{SERVER}:0"
SDP = "Content-Type: application/sdp"


@pytest.fixture
def sim(short: Footage) -> Script:
    ready = script(inventory=camera(footage=short))
    ready.register()
    ready.actions.clear()
    return ready


def to_header(answer: Text) -> str:
    return f"To: {answer.headers['to']}"


def wanted(sim: Script) -> MediaWanted:
    sim.collect()
    (action,) = [action for action in sim.actions if isinstance(action, MediaWanted)]
    return action


def answered_call(sim: Script) -> tuple[str, Text]:
    call_id = sim.ask("INVITE", DEVICE, offer(), SUBJECT, SDP)
    assert sim.one().status == 100
    sim.agent.accept(wanted(sim).call, host="192.0.2.10", port=15060, now=sim.now)
    return call_id, sim.one()


@pytest.mark.parametrize(
    ("media", "setup", "role", "answered"),
    [
        ("RTP/AVP", None, "udp", ["m=video 15060 RTP/AVP 96"]),
        ("TCP/RTP/AVP", "passive", "tcp-active", ["m=video 15060 TCP/RTP/AVP 96", "a=setup:active"]),
        ("TCP/RTP/AVP", "active", "tcp-passive", ["m=video 15060 TCP/RTP/AVP 96", "a=setup:passive"]),
    ],
)
def test_an_invite_is_answered_with_the_mirrored_transport(
    sim: Script, media: str, setup: str | None, role: str, answered: list[str]
) -> None:
    sim.ask("INVITE", DEVICE, offer(media, setup=setup), SUBJECT, SDP)
    assert sim.one().status == 100
    call = wanted(sim).call
    assert (call.role, call.remote) == (role, ("192.0.2.20", 30000))
    sim.agent.accept(call, host="192.0.2.10", port=15060, now=sim.now)
    answer = sim.one()
    assert answer.status == 200
    lines = answer.body.decode().split("\r\n")
    for line in (
        *answered,
        "s=Play",
        "a=sendonly",
        "a=rtpmap:96 PS/90000",
        "y=0200003312",
        f"o={DEVICE} 0 0 IN IP4 192.0.2.10",
    ):
        assert line in lines
    assert lines.index("y=0200003312") == len(lines) - 3  # y= then f= last
    assert lines[-2].startswith("f=v/2/")


def test_media_goes_at_the_ack_and_not_before(sim: Script) -> None:
    call_id, answer = answered_call(sim)
    assert not any(isinstance(action, MediaGo) for action in sim.actions)
    sim.ask("ACK", DEVICE, b"", to_header(answer), call=call_id)
    sim.collect()
    (go,) = [action for action in sim.actions if isinstance(action, MediaGo)]
    assert go.ssrc.value == 200_003_312
    assert go.call.footage.units[0].key


def test_a_bye_of_the_platform_stops_the_media(sim: Script) -> None:
    call_id, answer = answered_call(sim)
    sim.ask("ACK", DEVICE, b"", to_header(answer), call=call_id)
    sim.ask("BYE", DEVICE, b"", to_header(answer), call=call_id, cseq=2)
    assert sim.one().status == 200
    assert MediaStop(dialog=wanted(sim).call.dialog, reason="peer_bye") in sim.actions
    assert sim.agent.calls == ()


def test_the_device_can_hang_up(sim: Script) -> None:
    call_id, answer = answered_call(sim)
    sim.ask("ACK", DEVICE, b"", to_header(answer), call=call_id)
    sim.agent.hang_up(wanted(sim).call.dialog, now=sim.now)
    bye = sim.one()
    assert bye.method == "BYE"
    assert bye.headers["call-id"] == call_id
    assert bye.headers["to"].endswith(";tag=platform")
    sim.answer(bye, "200 OK")
    assert sim.take() == []


def test_a_cancelled_invite_is_487_and_wants_no_media(short: Footage) -> None:
    sim = script(config(answer_delay=3.0), camera(footage=short))
    sim.register()
    call_id = sim.ask("INVITE", DEVICE, offer(), SUBJECT, SDP)
    assert sim.one().status == 100
    branch = "z9hG4bKp0"
    cancel = f"CANCEL sip:{DEVICE}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch={branch}\r\n"
    cancel += f"From: <sip:{SERVER}@{DOMAIN}>;tag=platform\r\nTo: <sip:{DEVICE}@{DOMAIN}>\r\nCall-ID: {call_id}\r\n"
    sim.send((cancel + "CSeq: 1 CANCEL\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n").encode())
    assert sorted(message.status for message in sim.take()) == [200, 487]
    sim.pass_time(4)
    sim.collect()
    assert not any(isinstance(action, MediaWanted) for action in sim.actions)
    assert sim.agent.calls == ()


def test_an_answer_that_is_held_back_comes_later(short: Footage) -> None:
    sim = script(config(answer_delay=3.0), camera(footage=short))
    sim.register()
    sim.ask("INVITE", DEVICE, offer(), SUBJECT, SDP)
    sim.pass_time(2.9)
    sim.collect()
    assert not any(isinstance(action, MediaWanted) for action in sim.actions)
    sim.pass_time(0.2)
    assert wanted(sim).call.channel.value == DEVICE


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("34020000001320000077", offer(), 404),
        (DEVICE, offer(name="Playback"), 488),
        (DEVICE, b"", 488),
        (DEVICE, b"v=0\r\ns=Play\r\n", 488),
        (DEVICE, offer().replace(b" 96 97", b" 97"), 415),
    ],
)
def test_calls_that_cannot_be_served_are_refused(sim: Script, target: str, body: bytes, status: int) -> None:
    sim.ask("INVITE", target, body, SDP)
    assert [message.status for message in sim.take()] == [100, status]
    assert sim.agent.calls == ()


def test_the_channel_is_found_by_the_subject_when_the_uri_names_something_else(sim: Script) -> None:
    sim.ask("INVITE", "34020000001110000001", offer(), SUBJECT, SDP)
    assert wanted(sim).call.channel.value == DEVICE


def test_an_offer_without_y_gets_one(sim: Script) -> None:
    sim.ask("INVITE", DEVICE, offer(ssrc=None), SDP)
    sim.take()
    sim.agent.accept(wanted(sim).call, host="192.0.2.10", port=15060, now=sim.now)
    assert re.search(rb"\r\ny=020000\d{4}\r\n", sim.one().body)


def test_the_answer_can_deviate_in_its_ssrc(short: Footage) -> None:
    for changes, pattern in (({"omit_y": True}, None), ({"own_ssrc": 200_009_999}, b"y=0200009999")):
        sim = script(config(**changes), camera(footage=short))
        sim.register()
        _, answer = answered_call(sim)
        assert (pattern in answer.body) if pattern else (b"y=" not in answer.body)


def test_the_same_stream_asked_for_again_replaces_the_old_one(sim: Script) -> None:
    call_id, answer = answered_call(sim)
    sim.ask("ACK", DEVICE, b"", to_header(answer), call=call_id)
    first = wanted(sim).call.dialog
    sim.ask("INVITE", DEVICE, offer(), SUBJECT, SDP)
    sent = sim.take()
    assert [message.method for message in sent] == ["SIP/2.0", "BYE"]
    assert MediaStop(dialog=first, reason="hung_up") in sim.actions
    assert len(sim.agent.calls) == 1


def test_too_many_calls_are_busy(short: Footage) -> None:
    sim = script(config(max_calls=1), camera(footage=short))
    sim.register()
    answered_call(sim)
    sim.ask("INVITE", DEVICE, offer(), SUBJECT.replace("3312", "3313"), SDP)
    assert [message.status for message in sim.take()] == [100, 486]


def test_before_registration_nothing_is_served(short: Footage) -> None:
    sim = script(inventory=camera(footage=short))
    sim.connect()
    sim.take()
    sim.ask("INVITE", DEVICE, offer(), SUBJECT, SDP)
    assert [message.status for message in sim.take()] == [100, 403]
    sim.query("DeviceInfo", 1, DEVICE)
    assert sim.one().status == 403


def test_stopping_hangs_up_first(sim: Script) -> None:
    call_id, answer = answered_call(sim)
    sim.ask("ACK", DEVICE, b"", to_header(answer), call=call_id)
    sim.agent.stop(now=sim.now)
    assert [message.method for message in sim.take()] == ["BYE", "REGISTER"]
