"""The served OpenAPI document against the running routes: missing and garbage input is never a fault of ours."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from api.authority import AUTHORITY
from api.problems import MEDIA_TYPE
from api.throttle import SourceLimit
from sharing.people import Role
from tests.api.fakes import World, key
from tests.api.real import RealWorld
from tests.fixtures_db import FakeClock

GARBAGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    "",
    " ",
    "x" * 5000,
    "\x00",
    "\u202e",
    "\ud800",
    "'; DROP TABLE users; --",
    "../../etc/passwd",
    "%00",
    "${jndi:ldap://x}",
    [],
    [[]],
    {},
    {"a": {"b": {}}},
)
RAW_BODIES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b'{"__proto__":1}',
    b'{"key":"\\ud800"}',
    b"1e999",
    b"NaN",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("console"))


@pytest.fixture(scope="module")
async def database_world(pool: asyncpg.Pool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealWorld]:
    made = await RealWorld.start(pool, FakeClock(), tmp_path_factory.mktemp("real"))
    await made.populate()
    yield made
    await made.stop()


@pytest.fixture(params=["stand-ins", "database"])
def target(request: pytest.FixtureRequest, world: World, database_world: RealWorld) -> World | RealWorld:
    """The same garbage against the stand-ins, which are strict about types, and against the real store."""
    return world if request.param == "stand-ins" else database_world


def operations(world: World | RealWorld) -> list[tuple[str, str, dict[str, Any]]]:
    document = world.app.openapi()
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def body_schema(world: World | RealWorld, operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return resolved(world.app.openapi(), content["schema"]) if content else None


GOOD: dict[str, dict[str, Any]] = {
    "POST /api/v1/login": {"username": "nobody", "password": "wrong"},
    "POST /api/v1/me/password": {"current_password": "a", "new_password": "b"},
    "POST /api/v1/users": {"username": "n", "role": "watcher"},
    "PATCH /api/v1/users/{key}": {},
    "POST /api/v1/devices": {"gb_id": "34020000001320000009", "name": "n"},
    "POST /api/v1/streams": {"channel": "chn_" + "a" * 20, "purpose": "DUTY_WATCH"},
    "POST /api/v1/channels/{key}/ptz": {"purpose": "DUTY_WATCH", "command": {"kind": "stop"}},
    "POST /api/v1/channels/{key}/presets": {"purpose": "DUTY_WATCH", "action": "call", "number": 1},
    "POST /api/v1/channels/{key}/snapshots": {"purpose": "DUTY_WATCH"},
    "POST /api/v1/alarms/{alarm}/acknowledge": {"note": "n"},
    "POST /api/v1/devices/{key}/config": {"config": {"FrameMirror": 1}},
    "POST /api/v1/devices/{key}/control": {"kind": "guard_set"},
    "POST /api/v1/devices/{key}/upgrade": {"firmware": "V2", "url": "http://x.test/f", "manufacturer": "m"},
    "PUT /api/v1/devices/{key}/quirks": {"chosen": {}},
    "PUT /api/v1/devices/{key}/subscriptions": {"items": []},
}


def bodies(world: World | RealWorld, route: str, operation: dict[str, Any]) -> Iterator[bytes]:
    schema = body_schema(world, operation)
    yield from RAW_BODIES
    for value in GARBAGE:
        yield json.dumps(value).encode()
    for name in schema["properties"] if schema else ():
        for value in GARBAGE:
            body = copy.deepcopy(GOOD[route])
            body[name] = value
            yield json.dumps(body).encode()
    yield json.dumps({**GOOD.get(route, {}), "unknown_member": 1}).encode()


async def token_for(world: World | RealWorld, route: str) -> str:
    return await world.token(sorted(AUTHORITY[route].roles)[0])


def judge(operation: dict[str, Any], response: httpx.Response, what: str) -> None:
    assert response.status_code < 500, what
    if response.status_code >= 400:
        assert response.headers["content-type"] == MEDIA_TYPE, what
        problem = response.json()
        assert problem["status"] == response.status_code
        assert {"type", "title", "code", "detail"} <= set(problem)
    assert str(response.status_code) in operation["responses"] or response.status_code in (400, 415), what


def routes_with(*, body: bool) -> list[str]:
    changing = {"POST", "PATCH", "PUT"}
    return sorted(route for route in AUTHORITY if (route.split()[0] in changing) == body and "/api/v1/" in route)


@pytest.mark.parametrize("route", routes_with(body=True))
async def test_garbage_bodies_are_refused_in_order(target: World | RealWorld, route: str) -> None:
    method, path = route.split(" ", 1)
    operation = next(op for m, p, op in operations(target) if (m, p) == (method, path))
    path = path.replace("{key}", key("usr"))
    token = await token_for(target, route)
    for number, body in enumerate(bodies(target, route, operation)):
        if route.endswith("/logout"):
            token = await token_for(target, route)
        target.app.state.login_limit = SourceLimit()
        # every attempt from another source, so that no lock stands before what is to be tested
        async with target.client(token, peer=f"10.1.{number // 250}.{number % 250}") as client:
            response = await client.request(method, path, content=body, headers={"content-type": "application/json"})
        judge(operation, response, f"{route} {body[:80]!r}")
    assert number >= len(RAW_BODIES) + len(GARBAGE)


QUERIES = ("", " ", "-1", "0", "99999999999999999999999", "x" * 2000, "\x00", "%", "'--", "null", "NaN", "中", "[]")


@pytest.mark.parametrize("route", [route for route in routes_with(body=False) if not route.endswith("/events")])
async def test_garbage_queries_and_paths_are_refused_in_order(target: World | RealWorld, route: str) -> None:
    method, path = route.split(" ", 1)
    operation = next(op for m, p, op in operations(target) if (m, p) == (method, path))
    names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    async with target.client(await token_for(target, route)) as client:
        for value in QUERIES:
            where = path.replace("{key}", "usr_" + "a" * 20).replace("{seq}", "0")
            for name in names:
                response = await client.request(method, where, params={name: value})
                judge(operation, response, f"{route}?{name}={value!r}")
            if "{" in path:
                quoted = "".join(f"%{octet:02X}" for octet in value.encode()) or "%20"
                where = path.replace("{key}", quoted).replace("{seq}", quoted)
                response = await client.request(method, where)
                judge(operation, response, f"{route} {value!r}")


async def test_control_a_server_fault_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> list[Any]:
        raise RuntimeError("boom")

    monkeypatch.setattr(world.people, "users", broken)
    async with world.client(await token_for(world, "GET /api/v1/users")) as client:
        response = await client.get("/api/v1/users")
    assert response.status_code == 500
    assert response.headers["content-type"] == MEDIA_TYPE
    assert "boom" not in response.text


def test_the_document_is_complete(world: World) -> None:
    document = world.app.openapi()
    assert document["openapi"].startswith("3.1")
    documented = {f"{method} {path}" for method, path, _ in operations(world)}
    hidden = {"GET /metrics", "GET /api/openapi.json", "GET /api/docs", "GET /api/docs/{asset}"}
    assert documented == {route for route in AUTHORITY if not route.endswith("{path:path}")} - hidden
    for method, path, operation in operations(world):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        assert ("x-roles" in operation) != AUTHORITY[where].anonymous, where
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["name"] == "status", where
    assert "HTTPValidationError" not in json.dumps(document)


def test_every_schema_says_what_it_is(world: World) -> None:
    schemas = world.app.openapi()["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def test_every_reference_resolves(world: World) -> None:
    document = world.app.openapi()

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert found
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert found <= known


def snapshot(world: World) -> str:
    return repr(
        (
            sorted(world.people.known.items()),
            sorted(world.people.sessions),
            sorted(world.store.rows.items(), key=lambda item: item[0]),
            world.ledger.rows,
            sorted(world.sharing.open),
            world.play.opened,
            world.play.closed,
            world.play.tickets,
            world.devices.synced,
            world.devices.forgotten,
            [view.key for view in world.services.views.open_views()],
        )
    )


async def test_nothing_changes_state_by_get(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.as_(Role.WATCHER) as watcher:
        opened = await watcher.post("/api/v1/streams", json={"channel": world.channel.key, "purpose": "DUTY_WATCH"})
    view = opened.json()["id"]
    keys = {
        "users": world.users[Role.WATCHER].key,
        "devices": world.channel.device,
        "channels": world.channel.key,
        "streams": view,
    }
    before = snapshot(world)
    answered = 0
    for route in AUTHORITY:
        method, path = route.split(" ", 1)
        if method not in ("GET", "HEAD") or path == "/api/v1/events":
            continue
        section = path.split("/")[3] if path.startswith("/api/v1/") else ""
        target = path.replace("{key}", keys.get(section, "")).replace("{seq}", "0").replace("{asset}", "start.js")
        for token in (None, *world.tokens.values()):
            async with world.client(token, peer="127.0.0.1") as client:
                response = await client.request(method, target.replace("{path:path}", ""))
                answered += response.status_code == 200
    assert answered > 25
    assert snapshot(world) == before


def test_control_the_snapshot_sees_a_change(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = snapshot(world)
    world.play.closed.append((next(iter(world.sharing.open), "lea_x"), "x"))  # type: ignore[arg-type]
    assert snapshot(world) != before
