"""MESSAGE from devices: who is believed, what is answered, keepalives, notifications (§9.4, §9.6, annex A)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from catalog.events import ChannelChanged, DeviceOffline, DeviceOnline
from sipserver.bindings import Bound
from sipserver.presence import SessionConfig
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import (
    Alarm,
    AlarmResponse,
    CatalogItem,
    CatalogNotify,
    CatalogQuery,
    DeviceInfoResponse,
    Keepalive,
    MediaStatus,
    build,
)
from tests.gb.harness import CAMERA, DOMAIN, PLATFORM, RECORDER, START, World, settle

MakeWorld = Callable[..., World]
CHANNEL = GbId("34020000001310000011")
OTHER_CHANNEL = GbId("34020000001310000012")


def beat(sn: int = 1, **more: object) -> Keepalive:
    return Keepalive(sn=sn, device_id=CAMERA, **more)  # type: ignore[arg-type]


async def test_KPA_01_SIP_07_keepalive_gets_an_empty_200(world: World) -> None:
    key, device = await world.registered()
    world.clock.advance(50)
    answer = await device.exchange(beat())
    assert (answer.status, answer.body) == (200, b"")
    bound = world.bindings.get(key)
    assert bound is not None
    assert bound.last_seen == world.clock()
    await world.pass_time(0)
    assert world.store.seen == {key: START + 50}


async def test_SIP_07_answer_goes_out_before_the_business(world: World) -> None:
    _, device = await world.registered()
    order: list[str] = []
    world.sessions.on_alarm = lambda bound, alarm: order.append(
        f"alarm after {sum(data.startswith(b'SIP/2.0 200') for data, _ in world.sent)} answers"
    )
    before = sum(data.startswith(b"SIP/2.0 200") for data, _ in world.sent)
    respond = world.transport.respond

    def spy(*arguments: object, **more: object) -> bool:
        order.append(f"answer {arguments[1]}")
        return respond(*arguments, **more)  # type: ignore[arg-type]

    world.transport.respond = spy  # type: ignore[method-assign]
    await device.exchange(Alarm(sn=4, device_id=CAMERA, priority=1, method=2))
    assert order == ["answer 200", f"alarm after {before} answers"]


async def test_KPA_02_three_misses_take_offline(world: World) -> None:
    key, device = await world.registered()
    await world.pass_time(179)
    assert world.bindings.get(key) is not None
    await world.pass_time(2)
    assert world.bindings.get(key) is None
    assert world.events(DeviceOffline) == [DeviceOffline(device=key, at=START + 181, reason="keepalive_lost")]
    assert key not in world.store.bound
    assert (await device.exchange(beat())).status == 403


async def test_KPA_02_KPA_12_interval_and_count_are_configured(make_world: MakeWorld) -> None:
    world = make_world(sessions=SessionConfig(keepalive_interval=30, keepalive_misses=5, query_on_register=False))
    key, device = await world.registered()
    for _ in range(4):
        await world.pass_time(140)
        assert (await device.exchange(beat())).status == 200
    await world.pass_time(151)
    assert world.bindings.get(key) is None


async def test_KPA_02_offline_is_written_when_the_store_is_back(world: World) -> None:
    key, _ = await world.registered()
    world.store.down = True
    await world.pass_time(200)
    assert world.bindings.get(key) is None
    assert key in world.store.bound
    assert world.events(DeviceOffline) == []
    world.store.down = False
    await world.pass_time(1)
    assert key not in world.store.bound
    assert len(world.events(DeviceOffline)) == 1


async def test_KPA_03_error_status_keeps_online_and_marks_parts(world: World) -> None:
    key, device = await world.registered()
    await device.exchange(beat(ok=False, faulty=(CHANNEL, OTHER_CHANNEL)))
    await settle()
    assert world.bindings.get(key) is not None
    assert world.store.states == {CHANNEL: False, OTHER_CHANNEL: False}
    assert len(world.events(ChannelChanged)) == 2
    await device.exchange(beat(2, faulty=(CHANNEL,)))
    await settle()
    assert world.store.states == {CHANNEL: False, OTHER_CHANNEL: True}


@pytest.mark.parametrize(
    "inner",
    ["", "<Info></Info>", "<Info/>", "<Info><DeviceID></DeviceID></Info><Extra>1</Extra>", "<info>text</info>"],
)
async def test_KPA_04_info_variants(world: World, inner: str) -> None:
    _, device = await world.registered()
    body = f"<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>{CAMERA.value}</DeviceID><Status>OK</Status>"
    assert (await device.exchange(f"{body}{inner}</Notify>".encode())).status == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<Notify><CmdType>Keepalive</CmdType>", "xml_malformed"),
        (b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><Notify>&x;</Notify>", "xml_dtd_forbidden"),
        (b"", "xml_malformed"),
        (b"<Notify><SN>1</SN></Notify>", "manscdp_without_cmd_type"),
        (b"<html><CmdType>Keepalive</CmdType></html>", "manscdp_root_unknown"),
        (b"\x00\xff\xfe\x80" * 20, "xml_malformed"),
    ],
)
async def test_KPA_05_XML_07_bad_xml_is_400_with_one_line_and_no_trace(world: World, body: bytes, reason: str) -> None:
    key, device = await world.registered()
    world.clock.advance(20)
    calls = list(world.store.calls)
    with capture_logs() as lines:
        answer = await device.exchange(body)
    assert (answer.status, answer.body) == (400, b"")
    refused = [line for line in lines if line["event"] == "message_refused"]
    assert len(refused) == len(lines) == 1
    assert refused[0]["reason"] == reason
    assert refused[0]["call_id"] == answer.call_id
    assert world.store.calls == calls
    bound = world.bindings.get(key)
    assert bound is not None
    assert bound.last_seen == START


async def test_KPA_06_stranger_gets_403(world: World) -> None:
    world.store.add(CAMERA)
    device = world.device()
    answer = await device.exchange(beat())
    assert (answer.status, answer.body) == (403, b"")
    assert len(world.bindings) == 0


async def test_KPA_06_readmission_by_switch(make_world: MakeWorld) -> None:
    world = make_world(sessions=SessionConfig(readmit=True, query_on_register=False))
    key, device = await world.registered(connection=4)
    world.sessions.connection_lost(device.flow)
    await settle()
    foreign = world.device(remote=("203.0.113.9", 5060), connection=5)
    assert (await foreign.exchange(beat())).status == 403
    again = world.device(remote=("198.51.100.7", 40001), connection=6)
    assert (await again.exchange(MediaStatus(sn=1, device_id=CAMERA))).status == 403
    assert (await again.exchange(beat())).status == 200
    assert world.bindings.flow(key) == again.flow
    assert world.store.bound[key].remote == again.remote
    assert len(world.events(DeviceOnline)) == 2
    await again.register(expires=0)
    assert (await again.exchange(beat())).status == 403


async def test_KPA_07_new_port_of_the_same_host_moves_the_binding(world: World) -> None:
    key, _ = await world.registered()
    moved = world.device(remote=("198.51.100.7", 40123))
    assert (await moved.exchange(beat())).status == 200
    await settle()
    assert world.bindings.flow(key) == moved.flow
    assert world.store.bound[key].remote == moved.remote
    assert world.events(DeviceOffline) == []


async def test_KPA_07_another_host_does_not(world: World) -> None:
    key, device = await world.registered()
    thief = world.device(remote=("203.0.113.66", 5060))
    assert (await thief.exchange(beat())).status == 403
    await settle()
    assert world.bindings.flow(key) == device.flow


async def test_KPA_07_a_flow_of_another_device_does_not(world: World) -> None:
    key, device = await world.registered()
    _, neighbour = await world.registered(RECORDER, remote=("198.51.100.7", 5061))
    sender = ("From", f"<sip:{CAMERA.value}@{DOMAIN}>;tag=9")
    neighbour.say(beat(), headers=(sender,))
    assert (await neighbour.answer()).status == 403
    await settle()
    assert world.bindings.flow(key) == device.flow


async def test_large_answers_may_come_over_tcp_without_moving_the_binding(world: World) -> None:
    key, device = await world.registered()
    tcp = world.device(remote=("198.51.100.7", 50000), connection=9)
    assert (await tcp.exchange(CatalogNotify(sn=1, device_id=CAMERA))).status == 200
    assert world.bindings.flow(key) == device.flow


async def test_in_dialog_sender_with_another_code_is_known_by_its_flow(world: World) -> None:
    _, device = await world.registered()
    seen: list[str | None] = []
    world.sessions.on_media_status = lambda dialog, message: seen.append(dialog)
    uri = world.bindings.all()[0].target
    dialog = world.transport.invite(target=uri, to=CAMERA, flow=device.flow, sdp=b"v=0\r\n", subject="x")
    await settle()
    invite = next(data for data, _ in world.sent[::-1] if data.startswith(b"INVITE"))
    call_id = next(line for line in invite.decode().split("\r\n") if line.startswith("Call-ID")).split(": ")[1]
    sender = ("From", f"<sip:{CHANNEL.value}@{DOMAIN}>;tag=9")
    device.say(MediaStatus(sn=1, device_id=CHANNEL), headers=(sender, ("Call-ID", call_id)))
    assert (await device.answer()).status == 200
    assert seen == [dialog]


async def test_XML_09_unknown_command_is_answered_and_ignored(world: World) -> None:
    _, device = await world.registered()
    body = f"<Query><CmdType>FooQuery</CmdType><SN>1</SN><DeviceID>{CAMERA.value}</DeviceID></Query>"
    with capture_logs() as lines:
        assert (await device.exchange(body.encode())).status == 200
    assert [line["kind"] for line in lines] == ["FooQuery"]
    assert CAMERA.value not in str(lines)


@pytest.mark.parametrize("number", ["", "<SN></SN>", "<SN>0</SN>", "<SN>abc</SN>", "<SN>-4</SN>"])
async def test_XML_10_response_without_sn_is_400_heartbeat_is_taken(world: World, number: str) -> None:
    _, device = await world.registered()
    rest = f"{number}<DeviceID>{CAMERA.value}</DeviceID><Result>OK</Result>"
    response = f"<Response><CmdType>DeviceInfo</CmdType>{rest}</Response>"
    assert (await device.exchange(response.encode())).status == 400
    notify = f"<Notify><CmdType>Keepalive</CmdType>{rest}</Notify>"
    assert (await device.exchange(notify.encode())).status == 200


async def test_XML_14_unasked_response_is_200_and_ignored(world: World) -> None:
    _, device = await world.registered()
    calls = list(world.store.calls)
    assert (await device.exchange(DeviceInfoResponse(sn=7, device_id=CAMERA, model="X"))).status == 200
    await settle()
    assert world.store.calls == calls


async def test_XML_02_alarm_is_acknowledged_to_its_sender(world: World) -> None:
    _, device = await world.registered()
    alarms: list[tuple[Bound, Alarm]] = []
    world.sessions.on_alarm = lambda bound, alarm: alarms.append((bound, alarm))
    alarm = Alarm(sn=5, device_id=CHANNEL, priority=1, method=5, time=START)
    assert (await device.exchange(alarm)).status == 200
    await settle()
    assert alarms[0][1] == alarm
    assert device.asked == [AlarmResponse(sn=5, device_id=CHANNEL, result=True)]
    assert device.requests[0].to.uri.user == CAMERA.value
    assert device.requests[0].from_.uri.user == PLATFORM.value


async def test_catalogue_notifications(make_world: MakeWorld) -> None:
    world = make_world()
    key, device = await world.registered()
    items = (
        CatalogItem(device_id=CHANNEL, event="OFF"),
        CatalogItem(device_id=OTHER_CHANNEL, event=None, name="New"),
    )
    await device.exchange(CatalogNotify(sn=1, device_id=CAMERA, sum_num=2, items=items))
    await settle()
    assert world.store.states == {CHANNEL: False}
    assert set(world.store.catalogs[key]) == {OTHER_CHANNEL}
    assert "apply_catalog complete=True" not in world.store.calls
    await device.exchange(
        CatalogNotify(sn=2, device_id=CAMERA, items=(CatalogItem(device_id=OTHER_CHANNEL, event="DEL"),))
    )
    await settle()
    assert set(world.store.catalogs[key]) == set()
    await world.pass_time(10)
    assert any(isinstance(message, CatalogQuery) for message in device.asked)


async def test_foreign_content_is_415(world: World) -> None:
    _, device = await world.registered()
    device.request("MESSAGE", (("Content-Type", "multipart/mixed;boundary=x"),), b"--x\r\n\0\r\n--x--")
    answer = await device.answer()
    assert (answer.status, answer.headers.get("Accept")) == (415, "Application/MANSCDP+xml")


@pytest.mark.parametrize(("method", "status"), [("SUBSCRIBE", 489), ("NOTIFY", 481), ("INFO", 481), ("PUBLISH", 405)])
async def test_SIP_05_what_nobody_serves_is_refused_with_allow(world: World, method: str, status: int) -> None:
    _, device = await world.registered()
    device.request(method, (("To", f"<sip:{PLATFORM.value}@{DOMAIN}>;tag=1"), ("Event", "x")))
    answer = await device.answer()
    assert answer.status == status
    if status == 405:
        assert "MESSAGE" in (answer.headers.get("Allow") or "")


async def test_SIP_06_options(world: World) -> None:
    device = world.device()
    device.request("OPTIONS")
    answer = await device.answer()
    assert answer.status == 200
    for method in ("INVITE", "ACK", "INFO", "CANCEL", "BYE", "OPTIONS", "MESSAGE"):
        assert method in (answer.headers.get("Allow") or "")


async def test_no_address_code_in_any_log_line(world: World) -> None:
    with capture_logs() as lines:
        _, device = await world.registered()
        await device.exchange(beat(ok=False, faulty=(CHANNEL,)))
        await device.exchange(b"<broken")
        await device.register(password="wrong")
        await world.device(remote=("203.0.113.1", 1)).exchange(beat())
        await world.pass_time(500)
        world.store.down = True
        await device.register()
    text = str(lines)
    assert len(lines) >= 6
    assert CAMERA.value not in text
    assert CHANNEL.value not in text


async def test_refusals_of_strangers_are_logged_at_most_once_a_second(world: World) -> None:
    device = world.device()
    with capture_logs() as lines:
        for _ in range(20):
            await device.exchange(beat())
        world.clock.advance(2)
        await device.exchange(beat())
    assert [line["refusals"] for line in lines] == [1, 20]


async def test_large_body_is_parsed_beside_the_loop(world: World) -> None:
    key, device = await world.registered(connection=3)
    items = tuple(
        CatalogItem(device_id=GbId(f"3402000000131{number:07d}"), event="ADD", name="x" * 200) for number in range(1500)
    )
    body = build(CatalogNotify(sn=1, device_id=CAMERA, sum_num=1500, items=items))
    assert len(body) > 256 * 1024
    device.say(body)
    async with asyncio.timeout(20):
        await world.store.applied.wait()
    assert len(world.store.catalogs[key]) == 1500
    assert (await device.answer()).status == 200
