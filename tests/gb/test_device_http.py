"""Controls, device queries, quirks, subscriptions, alarms and snapshot uploads over HTTP, against devices in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from catalog.model import ListedItem
from ops.observe import make_registry
from sharing.lease import Refusal
from sharing.people import Role
from sipserver.protocol.ids import DeviceKey, GbId
from sipserver.protocol.manscdp import DeviceConfig, DeviceControl, Preset, PresetQuery, PresetResponse
from sipserver.protocol.ptz import STOP, Move, encode
from tests.api import fakes
from tests.api.signals import signals_of
from tests.gb import harness
from tests.gb.editions import asked, obeys, of_edition
from tests.gb.office import Office, office

JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
DUTY = {"purpose": "DUTY_WATCH"}


@dataclass(slots=True)
class Scene:
    """A platform with one camera that is registered, and those who call."""

    world: fakes.World
    gb: harness.World
    office: Office
    key: DeviceKey
    device: harness.FakeDevice
    channel: str

    async def call(self, role: Role | None, method: str, path: str, **more: Any) -> httpx.Response:
        token = None if role is None else self.world.tokens[role]
        async with self.world.client(token) as client:
            return await client.request(method, f"/api/v1{path}", **more)

    def frames(self) -> list[str]:
        return [m.ptz for m in self.device.asked if isinstance(m, DeviceControl) and m.ptz]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    gb = harness.World()
    desk = office(gb)
    key, device = await of_edition(gb)
    gb.store.catalogs[key] = {harness.CAMERA: ListedItem(gb_id=harness.CAMERA, name="c")}
    world = fakes.World(tmp_path)
    known = world.store.rows.pop(world.channel.device)
    world.store.rows[key] = dataclasses.replace(known, key=key)
    channel = dataclasses.replace(world.channel, device=key)
    world.store.items[channel.key] = channel
    world.services = dataclasses.replace(
        world.services, signals=signals_of(desk, tmp_path), clock=gb.clock, registry=make_registry()
    )
    world.app = create_app(world.services)
    yield Scene(world, gb, desk, key, device, channel.key)
    await gb.stop()


def ptz(**command: Any) -> dict[str, Any]:
    return {**DUTY, "command": command}


async def test_PTZ_12_a_session_that_logs_out_stops_its_camera(scene: Scene) -> None:
    path = f"/channels/{scene.channel}/ptz"
    answer = await scene.call(Role.WATCHER, "POST", path, json=ptz(kind="move", pan=1, pan_speed=31))
    assert (answer.status_code, answer.json()) == (200, {"done": True, "hold": 10.0})
    assert (await scene.call(Role.WATCHER, "POST", "/logout")).status_code == 204
    await harness.settle()
    assert scene.frames() == [encode(Move(pan=1, pan_speed=31)), encode(STOP), encode(STOP)]


async def test_PTZ_05_stop_over_http(scene: Scene) -> None:
    path = f"/channels/{scene.channel}/ptz"
    assert (await scene.call(Role.WATCHER, "POST", path, json=ptz(kind="stop"))).status_code == 200
    assert scene.frames() == [encode(STOP), encode(STOP)]


async def test_a_refused_movement_says_code_and_article_and_sends_nothing(scene: Scene) -> None:
    scene.world.sharing.refusal = Refusal(
        code="E_ACTION_NOT_GRANTED", http_status=403, sip_status=403, reason="no", articles=("N13",)
    )
    answer = await scene.call(Role.WATCHER, "POST", f"/channels/{scene.channel}/ptz", json=ptz(kind="move", pan=1))
    assert answer.status_code == 403
    assert (answer.json()["code"], answer.json()["articles"]) == ("E_ACTION_NOT_GRANTED", ["N13"])
    assert scene.device.asked == []


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.AUDITOR])
async def test_who_does_not_watch_does_not_move(scene: Scene, role: Role) -> None:
    answer = await scene.call(role, "POST", f"/channels/{scene.channel}/ptz", json=ptz(kind="stop"))
    assert answer.status_code == 403
    assert scene.device.asked == []


@pytest.mark.parametrize(
    ("command", "element"),
    [
        ({"kind": "precise", "pan": 10, "tilt": -5}, "<PTZPreciseCtrl><Pan>10</Pan><Tilt>-5</Tilt>"),
        ({"kind": "key_frame"}, "<IFrameCmd>Send</IFrameCmd>"),
        ({"kind": "auxiliary", "number": 1, "on": True}, "<PTZCmd>A50F008C01000041</PTZCmd>"),
        ({"kind": "cruise", "action": "start", "group": 1}, "<PTZCmd>A50F00880100003D</PTZCmd>"),
        ({"kind": "scan", "action": "left", "group": 1}, "<PTZCmd>A50F00890101003F</PTZCmd>"),
        ({"kind": "track", "mode": "Auto"}, "<TargetTrack>Auto</TargetTrack>"),
        (
            {
                "kind": "drag_zoom",
                "box": {"length": 9, "width": 8, "mid_x": 7, "mid_y": 6, "length_x": 5, "length_y": 4},
            },
            "<DragZoomIn><Length>9</Length><Width>8</Width><MidPointX>7</MidPointX>",
        ),
    ],
)
async def test_commands_reach_the_wire(scene: Scene, command: dict[str, Any], element: str) -> None:
    answer = await scene.call(Role.WATCHER, "POST", f"/channels/{scene.channel}/ptz", json=ptz(**command))
    assert answer.status_code == 200, answer.text
    assert element in scene.device.requests[-1].body.decode("gb18030")


async def test_CTL_09_manual_tracking_without_area_is_422(scene: Scene) -> None:
    answer = await scene.call(
        Role.WATCHER, "POST", f"/channels/{scene.channel}/ptz", json=ptz(kind="track", mode="Manual")
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.TargetArea"


async def test_presets_are_set_and_listed(scene: Scene) -> None:
    path = f"/channels/{scene.channel}/presets"
    body = {**DUTY, "action": "set", "number": 3, "name": "东门"}
    assert (await scene.call(Role.WATCHER, "POST", path, json=body)).status_code == 200
    assert "<PresetName>东门</PresetName>" in scene.device.requests[-1].body.decode("gb18030")
    scene.device.script = lambda message: (
        (PresetResponse(sn=message.sn, device_id=harness.CAMERA, sum_num=1, presets=(Preset(number=3, name="东门"),)),)
        if isinstance(message, PresetQuery)
        else ()
    )
    found = await scene.call(Role.WATCHER, "GET", path, params=DUTY)
    assert found.json() == {"items": [{"PresetID": 3, "PresetName": "东门"}]}


async def test_CTL_08_cards_are_formatted_by_administrators_only(scene: Scene) -> None:
    path, body = f"/devices/{scene.key}/control", {"kind": "format_card", "card": 0}
    assert (await scene.call(Role.WATCHER, "POST", path, json=body)).status_code == 403
    assert (await scene.call(Role.ADMINISTRATOR, "POST", path, json=body)).status_code == 200
    assert asked(scene.device, DeviceControl).format_sd_card == 0


async def test_configuration_is_written_with_its_row_first(scene: Scene) -> None:
    obeys(scene.device)
    path = f"/devices/{scene.key}/config"
    body = {"config": {"BasicParam": {"HeartBeatInterval": 30, "HeartBeatCount": 5}, "FrameMirror": 1}}
    assert (await scene.call(Role.ADMINISTRATOR, "POST", path, json=body)).status_code == 200
    config = asked(scene.device, DeviceConfig)
    assert config.basic is not None
    assert (config.basic.heartbeat_interval, config.frame_mirror) == (30, 1)
    scene.world.ledger.down = True
    before = len(scene.device.asked)
    assert (await scene.call(Role.ADMINISTRATOR, "POST", path, json=body)).status_code == 503
    assert len(scene.device.asked) == before


@pytest.mark.parametrize(
    "config", [{"FrameMirror": 9}, {"NoSuch": {}}, {"BasicParam": {"Nope": 1}}, {"OSDConfig": 3}, {}]
)
async def test_bad_configuration_is_422(scene: Scene, config: dict[str, Any]) -> None:
    answer = await scene.call(Role.ADMINISTRATOR, "POST", f"/devices/{scene.key}/config", json={"config": config})
    assert answer.status_code == 422
    assert scene.device.asked == []


async def test_reboot(scene: Scene) -> None:
    assert (await scene.call(Role.ADMINISTRATOR, "POST", f"/devices/{scene.key}/reboot")).status_code == 200
    assert asked(scene.device, DeviceControl).teleboot == "Boot"


async def test_quirks_are_read_and_set(scene: Scene) -> None:
    path = f"/devices/{scene.key}/quirks"
    set_ = await scene.call(Role.ADMINISTRATOR, "PUT", path, json={"chosen": {"stop_repeats": 1}})
    assert {item["name"]: (item["value"], item["source"]) for item in set_.json()["items"]}["stop_repeats"] == (
        1,
        "chosen",
    )
    bad = await scene.call(Role.ADMINISTRATOR, "PUT", path, json={"chosen": {"stop_repeats": 99}})
    assert bad.status_code == 422
    assert scene.gb.sessions.profiles.of(scene.key).number("stop_repeats") == 1


async def test_subscriptions_are_set_and_shown(scene: Scene) -> None:
    path = f"/devices/{scene.key}/subscriptions"
    answer = await scene.call(Role.ADMINISTRATOR, "PUT", path, json={"items": [{"kind": "alarm"}]})
    assert [item["kind"] for item in answer.json()["items"]] == ["alarm"]
    await harness.settle()
    assert scene.device.requests[-1].method == "SUBSCRIBE"
    await scene.call(Role.ADMINISTRATOR, "PUT", path, json={"items": []})
    assert scene.office.settings.wanted[scene.key] == []


async def test_alarms_are_listed_and_acknowledged(scene: Scene) -> None:
    from sipserver.protocol.manscdp import Alarm

    await scene.device.exchange(Alarm(sn=1, device_id=harness.CAMERA, priority=1, method=5))
    await harness.settle()
    found = await scene.call(Role.WATCHER, "GET", "/alarms")
    (entry,) = found.json()["items"]
    assert (entry["method"], entry["method_name"], entry["acknowledged_at"]) == (5, "视频报警", None)
    done = await scene.call(Role.WATCHER, "POST", f"/alarms/{entry['key']}/acknowledge", json={"note": "看过"})
    assert done.json()["note"] == "看过"
    assert done.json()["acknowledged_at"] is not None


# snapshots


async def ordered(scene: Scene, count: int = 3) -> tuple[str, str]:
    """(path of the upload address, key of the order)."""
    obeys(scene.device)
    answer = await scene.call(
        Role.WATCHER, "POST", f"/channels/{scene.channel}/snapshots", json={**DUTY, "count": count}
    )
    assert answer.status_code == 202, answer.text
    snapshot = asked(scene.device, DeviceConfig).snapshot
    assert snapshot is not None
    assert snapshot.url is not None
    return snapshot.url.removeprefix("http://platform.test/api/v1"), answer.json()["key"]


def multipart(name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="SessionID"\r\n\r\nabc\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + content + b"\r\n--xyz--\r\n"
    )
    return body, {"Content-Type": "multipart/form-data; boundary=xyz"}


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("form", ["raw", "octets", "multipart"])
async def test_SNP_03_uploads_in_every_variant(scene: Scene, tmp_path: Path, method: str, form: str) -> None:
    path, order = await ordered(scene)
    if form == "multipart":
        body, headers = multipart("a.jpg", JPEG)
    else:
        body, headers = JPEG, {"Content-Type": "image/jpeg" if form == "raw" else "application/octet-stream"}
    answer = await scene.call(None, method, path, content=body, headers=headers, params={"SessionID": "abc"})
    assert answer.status_code == 204, answer.text
    (picture,) = scene.office.stored.pictures[order]
    assert picture.media_type == "image/jpeg"
    assert (tmp_path / picture.key).read_bytes() == JPEG


async def test_SNP_03_foreign_uploads_are_refused(scene: Scene) -> None:
    await ordered(scene)
    assert (await scene.call(None, "POST", "/snapshot-uploads/guess", content=JPEG)).status_code == 404


async def test_SNP_03_only_pictures_of_bounded_size_and_number(scene: Scene) -> None:
    path, order = await ordered(scene, count=1)
    assert (await scene.call(None, "POST", path, content=b"<html>")).status_code == 415
    assert (await scene.call(None, "POST", path, content=JPEG + bytes(2 << 20))).status_code == 413
    statuses = [
        (await scene.call(None, "POST", path, content=JPEG + bytes([number]))).status_code for number in range(5)
    ]
    assert statuses == [204, 204, 204, 409, 409]
    assert len(scene.office.stored.pictures[order]) == 3


async def test_SNP_03_the_address_is_good_for_some_minutes(scene: Scene) -> None:
    path, _ = await ordered(scene)
    scene.gb.clock.advance(601)
    assert (await scene.call(None, "POST", path, content=JPEG)).status_code == 404


@pytest.mark.parametrize(
    ("name", "file_id", "taken"),
    [
        (f"{'3402000000132' + '0' * 7}0220231115061320500" + "07.jpg", "2023111506132050007", harness.START + 0.5),
        ("camera-1.jpg", None, None),
    ],
)
async def test_SNP_04_names_of_41_characters_are_read_others_tolerated(
    scene: Scene, name: str, file_id: str | None, taken: float | None
) -> None:
    path, order = await ordered(scene)
    body, headers = multipart(name, PNG)
    assert (await scene.call(None, "POST", path, content=body, headers=headers)).status_code == 204
    (picture,) = scene.office.stored.pictures[order]
    assert picture.taken_at == taken
    assert picture.media_type == "image/png"
    if file_id is not None:
        assert picture.file_id == file_id
    assert GbId("34020000001320000000").value not in picture.file_id


async def test_SNP_01_the_picture_can_be_seen_by_those_on_duty(scene: Scene) -> None:
    path, order = await ordered(scene, count=1)
    await scene.call(None, "POST", path, content=JPEG)
    listed = (await scene.call(Role.WATCHER, "GET", f"/snapshots/{order}")).json()
    (picture,) = listed["pictures"]
    shown = await scene.call(Role.WATCHER, "GET", f"/snapshots/{order}/{picture}", params=DUTY)
    assert (shown.status_code, shown.content) == (200, JPEG)
    assert (
        await scene.call(Role.ADMINISTRATOR, "GET", f"/snapshots/{order}/{picture}", params=DUTY)
    ).status_code == 403
