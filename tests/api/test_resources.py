"""Users, devices, channels and the ledger over the HTTP interface."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from api.events import kind_of
from sharing.ledger import EntryKind
from sharing.people import Role
from sipserver.queries import QueryError
from tests.api.fakes import CAMERA_CODE, PASSWORD, World, key

NEW_CODE = "34020000001320000042"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_an_account_is_made_with_a_one_time_password_shown_once(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        made = await client.post(
            "/api/v1/users", json={"username": "zhiban1", "display_name": "值班一", "role": "watcher"}
        )
        assert made.status_code == 201
        user = made.json()
        assert re.fullmatch(r"(?:[A-Za-z2-9]{5}-){3}[A-Za-z2-9]{5}", user["password"])
        assert user["must_change_password"] is True
        assert (await client.get(f"/api/v1/users/{user['key']}")).json()["password"] is None
        listed = (await client.get("/api/v1/users")).json()["items"]
        assert [item["password"] for item in listed] == [None] * 4
        again = await client.post("/api/v1/users", json={"username": "zhiban1", "role": "watcher"})
    assert again.status_code == 409
    assert again.json()["code"] == "user_exists"


async def test_users_are_paged(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        seen = []
        cursor = None
        for _ in range(3):
            page = (
                await client.get("/api/v1/users", params={"limit": 1, **({"cursor": cursor} if cursor else {})})
            ).json()
            seen += [item["username"] for item in page["items"]]
            cursor = page["next_cursor"]
    assert seen == ["administrator", "auditor", "watcher"]
    assert cursor is None


async def test_an_account_is_changed_reset_and_withdrawn(world: World) -> None:
    user = world.users[Role.WATCHER].key
    async with world.as_(Role.ADMINISTRATOR) as client:
        changed = await client.patch(f"/api/v1/users/{user}", json={"scope": [world.channel.device]})
        assert changed.json()["scope"] == [world.channel.device]
        reset = await client.patch(f"/api/v1/users/{user}", json={"reset_password": True})
        assert reset.json()["password"]
        assert (await client.delete(f"/api/v1/users/{user}")).status_code == 204
        assert (await client.get(f"/api/v1/users/{user}")).status_code == 404


async def test_sound_is_a_right_that_is_given_and_taken(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        plain = await client.post("/api/v1/users", json={"username": "zhiban1", "role": "watcher"})
        assert plain.json()["may_listen"] is False
        made = await client.post("/api/v1/users", json={"username": "zhiban2", "role": "watcher", "may_listen": True})
        assert made.json()["may_listen"] is True
        path = f"/api/v1/users/{made.json()['key']}"
        assert (await client.patch(path, json={"display_name": "值班二"})).json()["may_listen"] is True
        assert (await client.patch(path, json={"may_listen": False})).json()["may_listen"] is False
        assert (await client.get(path)).json()["may_listen"] is False
        refused = await client.patch(path, json={"may_listen": "loud"})
        assert refused.status_code == 422


@pytest.mark.parametrize("role", [Role.WATCHER, Role.AUDITOR])
async def test_nobody_but_an_administrator_gives_himself_sound(world: World, role: Role) -> None:
    async with world.as_(role) as client:
        answer = await client.patch(f"/api/v1/users/{world.users[role].key}", json={"may_listen": True})
    assert answer.status_code == 403
    assert not world.people.known[world.users[role].key].may_listen


async def test_roles_say_who_may_watch(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        roles = (await client.get("/api/v1/roles")).json()["items"]
    assert {role["role"]: role["may_watch"] for role in roles} == {
        "administrator": False,
        "watcher": True,
        "auditor": False,
    }


async def test_a_device_is_admitted_with_a_row_and_a_password_shown_once(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        made = await client.post("/api/v1/devices", json={"gb_id": NEW_CODE, "name": "西门"})
        assert made.status_code == 201
        device = made.json()
        assert device["gb_id"] == NEW_CODE
        assert len(device["password"]) >= 20
        assert (await client.get(f"/api/v1/devices/{device['key']}")).json()["password"] is None
        again = await client.post("/api/v1/devices", json={"gb_id": NEW_CODE, "name": "西门"})
    assert again.status_code == 409
    assert again.json()["code"] == "device_exists"
    assert NEW_CODE not in again.text
    (row,) = world.ledger.rows
    assert (row.kind, row.facts["action"], row.facts["device"]) == (EntryKind.ADMIN, "DEVICE_ADDED", device["key"])
    assert NEW_CODE not in json.dumps(dict(row.facts))


async def test_a_device_without_its_row_is_not_admitted(world: World) -> None:
    world.ledger.down = True
    before = set(world.store.rows)
    async with world.as_(Role.ADMINISTRATOR) as client:
        response = await client.post("/api/v1/devices", json={"gb_id": NEW_CODE, "name": "西门"})
        removal = await client.delete(f"/api/v1/devices/{world.channel.device}")
    assert response.status_code == removal.status_code == 503
    assert response.json()["code"] == "E_LEDGER_UNAVAILABLE"
    assert set(world.store.rows) == before
    assert world.devices.forgotten == []


@pytest.mark.parametrize(
    "code", ["3402000000132000004", "34020000003000000001", "34020000002160000001", "3402000000132000004x", ""]
)
async def test_what_is_no_devices_code_is_refused(world: World, code: str) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        response = await client.post("/api/v1/devices", json={"gb_id": code, "name": "x"})
    assert response.status_code == 422
    assert not code or code not in response.text


async def test_a_withdrawn_device_loses_registration_and_rights(world: World) -> None:
    device = world.channel.device
    async with world.as_(Role.ADMINISTRATOR) as client:
        assert (await client.delete(f"/api/v1/devices/{device}")).status_code == 204
        assert (await client.delete(f"/api/v1/devices/{device}")).status_code == 404
    assert world.devices.forgotten == [device]
    assert world.rights_changes == 1
    assert world.ledger.rows[0].facts["action"] == "DEVICE_REMOVED"


async def test_one_catalogue_query_of_a_device_at_a_time(world: World) -> None:
    world.devices.gate = asyncio.Event()
    path = f"/api/v1/devices/{world.channel.device}/catalog-sync"
    async with world.as_(Role.ADMINISTRATOR) as client:
        assert (await client.post(path)).status_code == 202
        second = await client.post(path)
        assert (second.status_code, second.json()["code"]) == (409, "sync_running")
        world.devices.gate.set()
        await world.app.state.background.settled()
        assert (await client.post(path)).status_code == 202
        await world.app.state.background.settled()
    assert len(world.devices.synced) == 2


async def test_an_offline_device_is_not_asked(world: World) -> None:
    channel = world.store.add(NEW_CODE, online=False)
    async with world.as_(Role.ADMINISTRATOR) as client:
        sync = await client.post(f"/api/v1/devices/{channel.device}/catalog-sync")
        status = await client.get(f"/api/v1/devices/{channel.device}/status")
    assert sync.json()["code"] == status.json()["code"] == "device_offline"
    assert world.devices.synced == []


async def test_a_device_says_how_it_is(world: World) -> None:
    path = f"/api/v1/devices/{world.channel.device}/status"
    async with world.as_(Role.ADMINISTRATOR) as client:
        status = (await client.get(path)).json()
        assert (status["online"], status["clock_offset"]) == (True, 2.0)
        for error, status_code in (("no_answer", 504), ("device_offline", 409), ("refused", 502), ("too_many", 503)):
            world.devices.error = QueryError(error)  # type: ignore[arg-type]
            response = await client.get(path)
            assert (response.status_code, response.json()["code"]) == (status_code, error)


async def test_a_failed_catalogue_query_is_announced(world: World) -> None:
    world.devices.error = QueryError("no_answer")
    with world.bus.subscribe() as bus:
        async with world.as_(Role.ADMINISTRATOR) as client:
            assert (await client.post(f"/api/v1/devices/{world.channel.device}/catalog-sync")).status_code == 202
        event = await bus.next()
    assert (kind_of(event), event.code) == ("catalog_sync_failed", "no_answer")


async def test_stopping_cancels_what_runs_in_the_background(world: World) -> None:
    world.devices.gate = asyncio.Event()
    async with world.as_(Role.ADMINISTRATOR) as client:
        await client.post(f"/api/v1/devices/{world.channel.device}/catalog-sync")
    async with world.app.router.lifespan_context(world.app):
        assert len(world.app.state.background) == 1
    assert len(world.app.state.background) == 0


async def test_channels_outside_the_scope_do_not_exist(world: World) -> None:
    async with world.as_(Role.WATCHER) as watcher, world.as_(Role.ADMINISTRATOR) as admin:
        mine = (await watcher.get("/api/v1/channels")).json()["items"]
        everything = (await admin.get("/api/v1/channels")).json()["items"]
        hidden = await watcher.get(f"/api/v1/channels/{world.hidden.key}")
        absent = await watcher.get(f"/api/v1/channels/{key('chn')}")
        assert hidden.status_code == 404
        assert hidden.content == absent.content
        assert (await admin.get(f"/api/v1/channels/{world.hidden.key}")).status_code == 200
        of_device = await watcher.get("/api/v1/channels", params={"device": world.hidden.device})
        assert of_device.json() == {"items": [], "next_cursor": None}
        tree = (await watcher.get("/api/v1/channels/tree", params={"mode": "division"})).json()["items"]
    assert [item["key"] for item in mine] == [world.channel.key]
    assert len(everything) == 2
    assert [(node["key"], node["status"]) for node in tree] == [(world.channel.key, "online")]
    assert mine[0]["ptz_type"] == 1


async def test_no_answer_about_channels_holds_an_address_code(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        for path in ("/api/v1/channels", "/api/v1/channels/tree", f"/api/v1/channels/{world.channel.key}"):
            assert CAMERA_CODE not in (await client.get(path)).text


async def test_the_ledger_is_read_with_names_and_proved(world: World) -> None:
    async with world.as_(Role.WATCHER) as watcher:
        await watcher.post("/api/v1/streams", json={"channel": world.channel.key, "purpose": "DUTY_WATCH"})
    async with world.as_(Role.AUDITOR) as client:
        (entry,) = (await client.get("/api/v1/ledger/entries")).json()["items"]
        assert (entry["kind"], entry["user_name"], entry["channel_name"]) == ("intent", "watcher", "东门枪机")
        assert entry["purpose"] == "DUTY_WATCH"
        root = (await client.get("/api/v1/ledger/root")).json()
        proof = (await client.get("/api/v1/ledger/entries/0/proof")).json()
        assert proof["root_hash"] == root["root_hash"]
        assert proof["tree_size"] == root["tree_size"] == 1
        assert (await client.get("/api/v1/ledger/entries/7/proof")).status_code == 404
        world.ledger.down = True
        assert (await client.get("/api/v1/ledger/root")).json()["code"] == "E_LEDGER_UNAVAILABLE"


async def test_a_cursor_that_is_not_ours_is_422(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        for path in ("/api/v1/devices", "/api/v1/channels"):
            response = await client.get(path, params={"cursor": "bm90LW91cnM"})
            assert response.status_code == 422
            assert response.json()["errors"][0]["field"] == "query.cursor"


async def test_text_with_control_characters_never_reaches_the_store(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        for name in ("a\x00b", "a\nb", "\u202egnp.exe", "a\u2028b"):
            response = await client.post("/api/v1/devices", json={"gb_id": NEW_CODE, "name": name})
            assert response.status_code == 422, repr(name)
        assert (await client.get("/api/v1/channels", params={"q": "a\x00"})).status_code == 422
    async with world.client() as anonymous:
        login = await anonymous.post("/api/v1/login", json={"username": "a\x00", "password": PASSWORD})
    assert login.status_code == 422
