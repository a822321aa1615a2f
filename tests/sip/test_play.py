"""Live play from the viewer's wish to the device's BYE, on a written clock (conformance rows INV-01 … INV-28)."""

from __future__ import annotations

import asyncio

import pytest

from catalog.events import StreamEnded, StreamStarted
from sipserver.play import PlayConfig, PlayError, StreamState
from sipserver.protocol.endpoint import DialogEnded, InviteConfirmed
from sipserver.protocol.ids import GbId, Ssrc
from sipserver.streams import VIEWER_LEFT, NumberPool

from .harness import CAMERA, PLATFORM
from .play_fakes import DEVICE, Answer, Stage, channel_of, expected_ssrc

ANY = "0.0.0.0"  # noqa: S104 - what devices write into c=


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_offer_and_subject_of_a_live_call(stage: Stage) -> None:
    stream = await stage.open()
    request, offer = stage.invites[0].request, stage.offer()
    assert stream.state is StreamState.LIVE
    assert stream.ssrc == expected_ssrc(1)
    assert stream.ssrc.text == "0200000001"
    assert request.headers.get("Subject") == f"{CAMERA.value}:0200000001,{PLATFORM.value}:1"
    assert request.uri.user == request.to.uri.user == CAMERA.value
    assert (offer.owner, offer.session_name, offer.start, offer.stop) == (PLATFORM.value, "Play", 0, 0)
    assert offer.connection_ip == "192.0.2.1"
    media = offer.primary
    assert media is not None
    assert (media.kind, media.port, media.protocol, media.direction) == ("video", 30000, "RTP/AVP", "recvonly")
    assert 96 in media.formats
    lines = request.body.decode().split("\r\n")
    assert [line[:2] for line in lines[-3:]] == ["y=", "f=", ""], "y= and f= last, in this order, then CRLF"
    assert stage.media.opened == [{"ssrc": 200000001, "transport": "udp", "sources": ["192.0.2.10"]}]


async def test_tcp_passive_offer(stage: Stage) -> None:
    stream = await stage.open(transport="tcp-passive")
    media = stage.offer().primary
    assert media is not None
    assert (media.protocol, media.setup, media.connection) == ("TCP/RTP/AVP", "passive", "new")
    assert stream.transport == "tcp-passive"
    assert stage.media.opened[0]["transport"] == "tcp-passive"


async def test_answer_that_would_also_wait_for_the_dial_ends_the_call_with_bye(stage: Stage) -> None:
    stage.answer = Answer(setup="passive")
    with pytest.raises(PlayError, match="answer_unusable"):
        await stage.open(transport="tcp-passive")
    assert any(isinstance(event, InviteConfirmed) for event in stage.device_events), "a 200 is always acknowledged"
    assert any(isinstance(event, DialogEnded) for event in stage.device_events)
    await stage.assert_nothing_is_left()


async def test_five_viewers_make_one_invite(stage: Stage) -> None:
    leases = [stage.lease() for _ in range(5)]
    tasks = [asyncio.create_task(stage.play.open(lease, channel_of())) for lease in leases]
    await stage.step()
    streams = [await task for task in tasks]
    assert len({stream.key for stream in streams}) == 1
    assert len(stage.invites) == 1
    assert sorted(stage.media.leases) == sorted(lease.key for lease in leases)
    stage.media_event("source_started", streams[0].key)
    for lease in leases[:4]:
        await stage.play.close(lease.key, reason="viewer_closed")
    await stage.advance(60)
    assert [stream.leases for stream in stage.play.streams()] == [(leases[4].key,)], "one viewer is left"


async def test_last_viewer_leaves_and_the_bye_comes_after_the_grace(stage: Stage) -> None:
    lease = stage.lease()
    stream = await stage.open(lease)
    stage.media_event("first_frame", stream.key)
    await stage.play.close(lease.key, reason="viewer_closed")
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "viewer_closed")]
    assert stage.ended_leases[0][2].bytes == 1000
    await stage.advance(9.9)
    assert stage.wire.seen("device", "BYE") == 0
    await stage.advance(0.2)
    assert stage.wire.seen("device", "BYE") == 1
    assert isinstance(stage.published[-1], StreamEnded)
    await stage.assert_nothing_is_left()


async def test_viewer_who_comes_back_within_the_grace_gets_the_same_stream(stage: Stage) -> None:
    first = stage.lease()
    stream = await stage.open(first)
    stage.media_event("first_frame", stream.key)
    await stage.play.close(first.key, reason="viewer_closed")
    await stage.advance(5)
    second = await stage.open()
    assert second.key == stream.key
    await stage.advance(60)
    assert len(stage.invites) == 1
    assert stage.play.load()["streams"] == 1


@pytest.mark.parametrize("reason", sorted(VIEWER_LEFT))
async def test_a_viewer_who_leaves_lets_the_engine_go_on_receiving(stage: Stage, reason: str) -> None:
    lease = stage.lease()
    await stage.open(lease)
    await stage.play.close(lease.key, reason=reason)
    assert stage.media.released == [(lease.key, reason)]
    assert stage.media.revoked == []


@pytest.mark.parametrize("reason", ["E_GRANT_REVOKED", "revoked", "request_failed", "open_timeout"])
async def test_a_view_that_was_cut_is_revoked(stage: Stage, reason: str) -> None:
    lease = stage.lease()
    await stage.open(lease)
    await stage.play.close(lease.key, reason=reason)
    assert stage.media.revoked == [(lease.key, reason)]
    assert stage.media.released == []


async def test_the_end_of_a_stream_revokes_every_lease_of_it(stage: Stage) -> None:
    lease = stage.lease()
    await stage.open(lease)
    stage.play.device_offline(DEVICE)
    assert stage.media.revoked == [(lease.key, "device_offline")]


async def test_a_key_picture_is_asked_for_only_when_none_is_at_hand(stage: Stage) -> None:
    stream = await stage.open()
    await stage.open()
    assert stage.key_frames_asked == [], "the first one is on its way anyway"
    stage.media_event("first_frame", stream.key)
    await stage.open()
    assert stage.key_frames_asked == []
    stage.media.warm = False
    await stage.open()
    assert stage.key_frames_asked == [(DEVICE, CAMERA)]


async def test_other_y_in_the_answer_switches_the_expected_ssrc(stage: Stage) -> None:
    stage.answer = Answer(y="0100004711")
    stream = await stage.open()
    assert stream.ssrc == Ssrc(100004711)
    assert stage.media.sessions[stream.key]["ssrc"] == 100004711


@pytest.mark.parametrize(
    "answer",
    [Answer(y=None), Answer(session_name="Embedded Net DVR"), Answer(y="not a number"), Answer(address=ANY)],
    ids=["no y", "odd s", "rubbish y", "c is 0.0.0.0"],
)
async def test_odd_but_usable_answers(stage: Stage, answer: Answer) -> None:
    stage.answer = answer
    stream = await stage.open()
    assert stream.ssrc == expected_ssrc(1)
    assert stage.media.sessions[stream.key]["sources"] == ["192.0.2.10"]


async def test_media_address_of_the_answer_becomes_a_source(stage: Stage) -> None:
    stage.answer = Answer(address="198.51.100.7")
    stream = await stage.open()
    assert stage.media.sessions[stream.key]["sources"] == ["192.0.2.10", "198.51.100.7"]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff\x00" * 50, b"v=0\r\ns=Play\r\nm=video 0 RTP/AVP 96\r\n"])
async def test_answer_without_usable_sdp_is_acknowledged_and_hung_up(stage: Stage, body: bytes) -> None:
    stage.answer = Answer(body=body)
    with pytest.raises(PlayError) as caught:
        await stage.open()
    assert (caught.value.code, caught.value.http_status) == ("answer_unusable", 502)
    assert stage.wire.seen("device", "ACK") == 1
    assert stage.wire.seen("device", "BYE") == 1
    await stage.assert_nothing_is_left()


async def test_ssrc_of_the_answer_that_another_stream_uses_ends_the_call(stage: Stage) -> None:
    stage.answer = Answer(y="0100004711")
    stage.media.taken_ssrcs = {100004711}
    with pytest.raises(PlayError, match="answer_unusable"):
        await stage.open()
    await stage.assert_nothing_is_left()


async def test_200_twice_gives_two_acks_and_one_session(stage: Stage) -> None:
    lost: list[bytes] = []

    def lose_first_ack(data: bytes, to: str) -> bool:
        if to == "device" and data.startswith(b"ACK") and not lost:
            lost.append(data)
            return True
        return False

    stage.wire.drop = lose_first_ack
    await stage.open()
    await stage.advance(2)
    assert stage.wire.seen("device", "ACK") == 2
    assert list(stage.wire.statuses("platform", "INVITE")).count(200) == 2
    assert len(stage.media.sessions) == 1
    assert stage.play.load()["streams"] == 1


@pytest.mark.parametrize(
    ("status", "code", "http_status"),
    [
        (404, "channel_unknown_to_device", 502),
        (415, "media_not_supported", 502),
        (480, "device_unavailable", 503),
        (486, "device_busy", 503),
        (488, "media_not_supported", 502),
        (500, "device_unavailable", 502),
        (403, "device_refused", 502),
        (499, "device_refused", 502),
    ],
)
async def test_rejection_becomes_a_stable_code(stage: Stage, status: int, code: str, http_status: int) -> None:
    stage.answer = Answer(status=status)
    lease = stage.lease()
    with pytest.raises(PlayError) as caught:
        await stage.open(lease)
    assert (caught.value.code, caught.value.http_status, caught.value.sip_status) == (code, http_status, status)
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, code)]
    await stage.advance(120)
    assert len(stage.invites) == 1, "no retry storm"
    await stage.assert_nothing_is_left()


async def test_viewer_leaves_before_the_answer(stage: Stage) -> None:
    stage.answer = Answer(status=None)
    lease = stage.lease()
    opening = asyncio.create_task(stage.play.open(lease, channel_of()))
    await stage.step()
    await stage.play.close(lease.key, reason="viewer_closed")
    await stage.step()
    with pytest.raises(PlayError, match="viewer_left"):
        await opening
    assert stage.wire.seen("device", "CANCEL") == 1
    assert stage.cancelled_at_device() == 1
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "viewer_closed")]
    await stage.assert_nothing_is_left()


async def test_cancelled_request_task_ends_the_lease_and_cancels_the_call(stage: Stage) -> None:
    stage.answer = Answer(status=None)
    lease = stage.lease()
    opening = asyncio.create_task(stage.play.open(lease, channel_of()))
    await stage.step()
    opening.cancel()
    await stage.step()
    assert opening.cancelled()
    assert [reason for _, reason, _ in stage.ended_leases] == ["viewer_left"]
    assert stage.wire.seen("device", "CANCEL") == 1
    await stage.assert_nothing_is_left()


async def test_one_of_two_waiting_viewers_leaves_and_the_other_gets_the_picture(stage: Stage) -> None:
    stage.answer = Answer(status=None)
    leases = [stage.lease(), stage.lease()]
    tasks = [asyncio.create_task(stage.play.open(lease, channel_of())) for lease in leases]
    await stage.step()
    tasks[0].cancel()
    await stage.step()
    stage.reply(stage.invites[0], 200)
    await stage.step()
    assert (await tasks[1]).leases == (leases[1].key,)
    assert stage.wire.seen("device", "CANCEL") == 0


async def test_late_200_after_cancel_is_acknowledged_and_hung_up(stage: Stage) -> None:
    stage.answer = Answer(status=None)
    lease = stage.lease()
    opening = asyncio.create_task(stage.play.open(lease, channel_of()))
    await stage.step()
    stage.reply(stage.invites[0], 200)  # on its way …
    await stage.play.close(lease.key, reason="viewer_closed")  # … when the viewer leaves
    await stage.step()
    with pytest.raises(PlayError, match="viewer_left"):
        await opening
    assert stage.wire.seen("device", "ACK") == 1
    assert stage.wire.seen("device", "BYE") == 1
    await stage.assert_nothing_is_left()


async def test_silent_device_is_cancelled_after_the_answer_timeout(stage: Stage) -> None:
    stage.answer = Answer(status=None)
    opening = asyncio.create_task(stage.play.open(stage.lease(), channel_of()))
    await stage.advance(14.9)
    assert not opening.done()
    await stage.advance(0.2)
    with pytest.raises(PlayError) as caught:
        await opening
    assert (caught.value.code, caught.value.http_status) == ("device_no_answer", 504)
    assert stage.wire.seen("device", "CANCEL") == 1
    await stage.assert_nothing_is_left()


async def test_unreachable_device_frees_everything() -> None:
    stage = Stage(config=PlayConfig(answer_timeout=100))
    stage.wire.drop = lambda data, to: True
    opening = asyncio.create_task(stage.play.open(stage.lease(), channel_of()))
    await stage.advance(33)
    with pytest.raises(PlayError, match="device_no_answer"):
        await opening
    await stage.assert_nothing_is_left()


async def test_connection_lost_while_asking() -> None:
    stage = Stage(stream=True)
    stage.answer = Answer(status=None)
    opening = asyncio.create_task(stage.play.open(stage.lease(), channel_of()))
    await stage.step()
    stage.wire.platform.connection_lost(stage.wire.to_device, now=stage.wire.now)
    await stage.step()
    with pytest.raises(PlayError, match="device_unreachable"):
        await opening
    assert stage.play.load() == dict.fromkeys(stage.play.load(), 0)


async def test_source_lost_ends_the_call_and_tells_the_viewers(stage: Stage) -> None:
    leases = [stage.lease(), stage.lease()]
    stream = await stage.open(leases[0])
    await stage.open(leases[1])
    stage.media_event("source_started", stream.key)
    stage.media_event("first_frame", stream.key)
    assert isinstance(stage.published[0], StreamStarted)
    stage.media_event("source_lost", stream.key)
    await stage.step()
    assert {(key, reason) for key, reason, _ in stage.ended_leases} == {(le.key, "source_lost") for le in leases}
    assert stage.wire.seen("device", "BYE") == 1
    ended = stage.published[-1]
    assert isinstance(ended, StreamEnded)
    assert ended.reason == "source_lost"
    await stage.assert_nothing_is_left()


async def test_stream_that_never_brings_a_packet_ends(stage: Stage) -> None:
    lease = stage.lease()
    await stage.open(lease)
    await stage.advance(19.9)
    assert stage.ended_leases == []
    await stage.advance(0.2)
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "no_media")]
    assert stage.wire.seen("device", "BYE") == 1
    await stage.assert_nothing_is_left()


async def test_packets_stop_the_watch_for_the_first_packet(stage: Stage) -> None:
    stream = await stage.open()
    stage.media_event("source_started", stream.key)
    await stage.advance(300)
    assert stage.play.load()["streams"] == 1


async def test_device_that_is_not_registered(stage: Stage) -> None:
    stage.online = False
    lease = stage.lease()
    with pytest.raises(PlayError) as caught:
        await stage.open(lease)
    assert (caught.value.code, caught.value.http_status) == ("device_offline", 503)
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "device_offline")]
    assert stage.media.opened == []
    await stage.assert_nothing_is_left()


async def test_device_goes_offline_while_streaming_and_while_asked(stage: Stage) -> None:
    lease = stage.lease()
    await stage.open(lease)
    stage.online = False
    stage.play.device_offline(DEVICE)
    await stage.step()
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "device_offline")]
    stage.online = True
    stage.answer = Answer(status=None)
    opening = asyncio.create_task(stage.play.open(stage.lease(), channel_of()))
    await stage.step()
    stage.play.device_offline(DEVICE)
    with pytest.raises(PlayError, match="device_offline"):
        await opening
    await stage.assert_nothing_is_left()


async def test_device_hangs_up(stage: Stage) -> None:
    lease = stage.lease()
    await stage.open(lease)
    dialog = stage.invites[0].dialog
    assert dialog is not None
    stage.wire.device.bye(dialog, now=stage.wire.now)
    await stage.step()
    assert list(stage.wire.statuses("device", "BYE")) == [200]
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "device_bye")]
    await stage.assert_nothing_is_left()


async def test_engine_refuses_the_session(stage: Stage) -> None:
    stage.media.refuse = "exhausted"
    lease = stage.lease()
    with pytest.raises(PlayError) as caught:
        await stage.open(lease)
    assert (caught.value.code, caught.value.http_status) == ("media_refused", 503)
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "media_refused")]
    assert stage.wire.seen("device", "INVITE") == 0
    await stage.assert_nothing_is_left()


async def test_engine_refuses_a_second_viewer_and_the_first_goes_on(stage: Stage) -> None:
    await stage.open()
    stage.media.refuse = "lease_over"
    with pytest.raises(PlayError, match="media_refused"):
        await stage.open()
    assert stage.play.load()["leases"] == 1


async def test_expired_lease_counts_as_a_viewer_gone(stage: Stage) -> None:
    lease = stage.lease()
    stream = await stage.open(lease)
    stage.media_event("lease_expired", stream.key, lease.key)
    assert [(key, reason) for key, reason, _ in stage.ended_leases] == [(lease.key, "lease_expired")]
    await stage.assert_nothing_is_left()


async def test_channel_without_a_standard_code_is_not_asked(stage: Stage) -> None:
    with pytest.raises(PlayError, match="channel_not_playable"):
        await stage.play.open(stage.lease(), channel_of(gb_id=GbId("340200")))
    await stage.assert_nothing_is_left()


async def test_streams_beyond_the_bound_are_refused() -> None:
    stage = Stage(config=PlayConfig(max_streams=1))
    await stage.open()
    with pytest.raises(PlayError, match="streams_full"):
        await stage.play.open(stage.lease(), channel_of(2))


async def test_closing_twice_and_closing_the_unknown_do_nothing(stage: Stage) -> None:
    lease = stage.lease()
    await stage.open(lease)
    await stage.play.close(lease.key, reason="viewer_closed")
    await stage.play.close(lease.key, reason="again")
    await stage.play.close(stage.lease().key, reason="never opened")
    assert len(stage.ended_leases) == 1


async def test_stop_hangs_up_everywhere(stage: Stage) -> None:
    lease = stage.lease()
    await stage.open(lease)
    await stage.play.stop()
    await stage.step()
    assert stage.wire.seen("device", "BYE") == 1
    assert [reason for _, reason, _ in stage.ended_leases] == ["stopped"]
    await stage.assert_nothing_is_left()


async def test_number_of_a_stream_stays_taken_until_its_dialog_is_over(stage: Stage) -> None:
    await stage.open()
    stage.wire.drop = lambda data, to: data.startswith(b"BYE")
    await stage.play.stop()
    await stage.step()
    assert stage.play.load()["numbers"] == 1
    await stage.advance(33)
    assert stage.play.load()["numbers"] == 0


def test_numbers_are_unique_until_all_are_taken_and_reused_last() -> None:
    pool = NumberPool()
    numbers = [pool.take() for _ in range(10_000)]
    assert set(numbers) == set(range(10_000))
    assert pool.take() is None
    pool.give_back(7)
    assert pool.take() == 7
    fresh = NumberPool()
    first = fresh.take()
    assert first == 1
    fresh.give_back(1)
    assert fresh.take() == 2
