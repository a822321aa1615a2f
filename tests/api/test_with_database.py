"""The interface over real accounts, decisions, catalog and ledger: from the first password to the proof of a row."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from catalog.model import NodeKey
from sharing import audit
from sharing.people import Role
from tests.api.real import CODES, PASSWORD, RealWorld
from tests.fixtures_db import FakeClock


@pytest.fixture(scope="module")
async def world(pool: asyncpg.Pool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealWorld]:
    made = await RealWorld.start(pool, FakeClock(), tmp_path_factory.mktemp("console"))
    await made.populate()
    yield made
    await made.stop()


async def login(world: RealWorld, username: str, password: str, peer: str = "192.0.2.7") -> httpx.Response:
    async with world.client(peer=peer) as client:
        return await client.post("/api/v1/login", json={"username": username, "password": password})


def shape(response: httpx.Response) -> Any:
    headers = sorted((name, value) for name, value in response.headers.items() if name != "x-request-id")
    return response.status_code, response.content, headers


async def test_an_unknown_name_and_a_wrong_password_cost_and_answer_the_same(world: RealWorld) -> None:
    known = world.users[Role.WATCHER].username
    seen = []
    for name in (known, "nobody-at-all"):
        before = world.hasher.checks
        for _ in range(7):
            response = await login(world, name, "wrong", peer="198.51.100.9")
            seen.append((name, shape(response), world.hasher.checks - before))
    mine = [entry[1:] for entry in seen if entry[0] == known]
    nobody = [entry[1:] for entry in seen if entry[0] != known]
    assert mine == nobody
    assert [answer[0] for answer, _ in mine] == [401] * 5 + [429] * 2
    assert mine[-1][1] == 5
    assert (await login(world, known, f"{PASSWORD}-changed", peer="198.51.100.9")).status_code == 429
    assert (await login(world, known, f"{PASSWORD}-changed", peer="198.51.100.10")).status_code == 200


async def test_the_lock_ends_after_its_time(world: RealWorld) -> None:
    known = world.users[Role.AUDITOR].username
    for _ in range(6):
        last = await login(world, known, "wrong", peer="198.51.100.20")
    world.clock.advance(int(last.headers["retry-after"]) + 1)
    assert (await login(world, known, f"{PASSWORD}-changed", peer="198.51.100.20")).status_code == 200


async def test_a_session_ends_by_idling_and_absolutely(world: RealWorld) -> None:
    token = await world.token(Role.WATCHER)
    async with world.client(token) as client:
        for _ in range(3):
            world.clock.advance(600)
            assert (await client.get("/api/v1/me")).status_code == 200
        world.clock.advance(901)
        assert (await client.get("/api/v1/me")).status_code == 401
    token = await world.token(Role.WATCHER)
    async with world.client(token) as client:
        for _ in range(12 * 6 - 1):
            world.clock.advance(600)
            assert (await client.get("/api/v1/me")).status_code == 200
        world.clock.advance(600)
        assert (await client.get("/api/v1/me")).status_code == 401


async def test_from_the_one_time_password_to_the_proof_of_the_row(world: RealWorld) -> None:
    device = (await world.store.devices()).items[0]
    channel = await world.channel_of(device)
    async with world.client(await world.token(Role.ADMINISTRATOR)) as admin:
        made = await admin.post("/api/v1/users", json={"username": "夜班", "role": "watcher", "scope": [device.key]})
    assert made.status_code == 201, made.text
    one_time = made.json()["password"]
    first = (await login(world, "夜班", one_time, peer="203.0.113.1")).json()
    assert first["must_change_password"] is True
    body = {"channel": channel.key, "purpose": "DUTY_WATCH: 夜班巡看"}
    async with world.client(first["token"]) as client:
        assert (await client.post("/api/v1/streams", json=body)).json()["code"] == "password_change_required"
        weak = await client.post("/api/v1/me/password", json={"current_password": one_time, "new_password": "short"})
        assert (weak.status_code, weak.json()["code"]) == (422, "password_weak")
        change = {"current_password": one_time, "new_password": "Night-shift-0815"}
        assert (await client.post("/api/v1/me/password", json=change)).status_code == 204
        opened = await client.post("/api/v1/streams", json=body)
        assert opened.status_code == 201, opened.text
        view = opened.json()
        assert (await client.delete(f"/api/v1/streams/{view['id']}")).status_code == 204
    async with world.client(await world.token(Role.AUDITOR)) as auditor:
        rows = (await auditor.get("/api/v1/ledger/entries", params={"limit": 500})).json()["items"]
        kinds = [row["kind"] for row in rows if row["lease"] == view["id"]]
        assert kinds == ["end", "intent"]
        intent = next(row for row in rows if row["seq"] == view["ledger_seq"])
        assert (intent["user_name"], intent["channel_name"], intent["purpose"]) == ("夜班", channel.name, "DUTY_WATCH")
        proof = (await auditor.get(f"/api/v1/ledger/entries/{view['ledger_seq']}/proof")).json()
    record, salt = proof["canonical"].encode(), bytes.fromhex(proof["salt"])
    leaf = audit.leaf_hash(hashlib.sha256(salt + record).digest())
    assert leaf.hex() == proof["leaf_hash"] == intent["leaf_hash"]
    audit.verify_inclusion(
        leaf=leaf,
        index=proof["seq"],
        size=proof["tree_size"],
        path=[bytes.fromhex(step) for step in proof["path"]],
        root=bytes.fromhex(proof["root_hash"]),
    )
    assert (await world.ledger.verify()).ok


async def test_refusals_are_rows_and_cite_their_articles(world: RealWorld) -> None:
    devices = (await world.store.devices()).items
    scope: set[str] = set(world.users[Role.WATCHER].scope)
    inside = await world.channel_of(next(device for device in devices if device.key in scope))
    outside = await world.channel_of(next(device for device in devices if device.key not in scope))
    async with world.client(await world.token(Role.WATCHER)) as client:
        purpose = await client.post("/api/v1/streams", json={"channel": inside.key, "purpose": "curiosity"})
        hidden = await client.post("/api/v1/streams", json={"channel": outside.key, "purpose": "DUTY_WATCH"})
        absent = await client.post("/api/v1/streams", json={"channel": "chn_" + "a" * 20, "purpose": "DUTY_WATCH"})
    assert (purpose.status_code, purpose.json()["code"]) == (422, "E_PURPOSE_INVALID")
    assert purpose.json()["articles"]
    assert hidden.status_code == 404
    assert hidden.content == absent.content
    async with world.client(await world.token(Role.AUDITOR)) as auditor:
        rows = (await auditor.get("/api/v1/ledger/entries", params={"kind": "refusal", "limit": 3})).json()["items"]
    assert [row["code"] for row in rows] == ["E_NOT_FOUND", "E_NOT_FOUND", "E_PURPOSE_INVALID"]


async def test_a_narrower_scope_hides_channels_at_once(world: RealWorld) -> None:
    device = (await world.store.devices()).items[0]
    user = await world.person("shrinking", Role.WATCHER, (NodeKey(device.key),))
    token = (await login(world, "shrinking", f"{PASSWORD}-changed", peer="203.0.113.2")).json()["token"]
    changes = world.rights_changes
    async with world.client(token) as client, world.client(await world.token(Role.ADMINISTRATOR)) as admin:
        assert len((await client.get("/api/v1/channels")).json()["items"]) == 1
        assert len((await client.get("/api/v1/channels/tree")).json()["items"]) == 1
        await admin.patch(f"/api/v1/users/{user.key}", json={"scope": []})
        assert (await client.get("/api/v1/channels")).json() == {"items": [], "next_cursor": None}
        assert (await client.get("/api/v1/channels/tree")).json() == {"items": [], "next_cursor": None}
        assert world.rights_changes == changes + 1
        await admin.patch(f"/api/v1/users/{user.key}", json={"disabled": True})
        assert (await client.get("/api/v1/me")).status_code == 401


async def test_a_password_change_ends_the_other_sessions(world: RealWorld) -> None:
    await world.person("two-sessions", Role.AUDITOR)
    secret = f"{PASSWORD}-changed"
    tokens = [(await login(world, "two-sessions", secret, peer="203.0.113.3")).json()["token"] for _ in range(2)]
    async with world.client(tokens[0]) as here, world.client(tokens[1]) as there:
        change = {"current_password": secret, "new_password": "Another-secret-99"}
        assert (await here.post("/api/v1/me/password", json=change)).status_code == 204
        assert (await here.get("/api/v1/me")).status_code == 200
        assert (await there.get("/api/v1/me")).status_code == 401
        assert (await here.post("/api/v1/logout")).status_code == 204
        assert (await here.get("/api/v1/me")).status_code == 401


async def test_the_last_administrator_cannot_go(world: RealWorld) -> None:
    me = world.users[Role.ADMINISTRATOR].key
    async with world.client(await world.token(Role.ADMINISTRATOR)) as admin:
        for response in (
            await admin.delete(f"/api/v1/users/{me}"),
            await admin.patch(f"/api/v1/users/{me}", json={"disabled": True}),
            await admin.patch(f"/api/v1/users/{me}", json={"role": "watcher"}),
        ):
            assert (response.status_code, response.json()["code"]) == (409, "last_administrator")


async def test_devices_come_and_go_and_are_paged(world: RealWorld) -> None:
    async with world.client(await world.token(Role.ADMINISTRATOR)) as admin:
        made = [
            await admin.post("/api/v1/devices", json={"gb_id": f"3402000000132000010{n}", "name": f"门{n}"})
            for n in range(3)
        ]
        assert [response.status_code for response in made] == [201] * 3
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = (
                await admin.get("/api/v1/devices", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
            ).json()
            seen += [item["key"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 5
        for response in made:
            assert (await admin.delete(f"/api/v1/devices/{response.json()['key']}")).status_code == 204
        again = await admin.post("/api/v1/devices", json={"gb_id": CODES[0], "name": "again"})
        assert again.status_code == 409
