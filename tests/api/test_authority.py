"""Every route × role, from the table: no route outside it, and every cell answers as the table says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api.authority import AUTHORITY, Cell, GuardedRoute
from api.problems import MEDIA_TYPE
from sharing.people import Role
from tests.api.fakes import World, key

ANONYMOUS = "anonymous"
CALLERS = (ANONYMOUS, *(role.value for role in Role))
EVENTS = "GET /api/v1/events"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One application for the whole matrix; every call gets a session of its own."""
    return World(tmp_path_factory.mktemp("console"))


def registered(world: World) -> Iterator[tuple[str, str, object]]:
    for context in iter_route_contexts(world.app.routes):
        for method in sorted(context.methods or ()):
            yield method, str(context.path), context.original_route


def test_every_route_has_a_cell_and_every_cell_a_route(world: World) -> None:
    assert {f"{method} {path}" for method, path, _ in registered(world)} == set(AUTHORITY)


def test_every_route_is_guarded(world: World) -> None:
    assert [path for _, path, route in registered(world) if not isinstance(route, GuardedRoute)] == []


def test_control_a_route_without_a_cell_cannot_be_made() -> None:
    async def handler() -> None: ...

    with pytest.raises(KeyError):
        GuardedRoute("/api/v1/forgotten", handler, methods=["GET"])


def test_control_an_unguarded_route_is_found(world: World) -> None:
    async def handler() -> None: ...

    world.app.router.routes.insert(0, APIRoute("/api/v1/back-door", handler, methods=["GET"]))
    assert {f"{method} {path}" for method, path, _ in registered(world)} != set(AUTHORITY)


def test_the_powers_are_separated() -> None:
    def may(route: str) -> frozenset[Role]:
        return AUTHORITY[route].roles

    assert may("POST /api/v1/streams") == may("POST /api/v1/streams/{key}/tickets") == {Role.WATCHER}
    assert may("GET /api/v1/ledger/entries") == {Role.AUDITOR}
    assert may("POST /api/v1/users") == may("POST /api/v1/devices") == {Role.ADMINISTRATOR}


def concrete(route: str) -> tuple[str, str]:
    method, path = route.split(" ", 1)
    prefix = {"users": "usr", "devices": "dev", "channels": "chn", "streams": "lea"}
    section = path.split("/")[3] if path.startswith("/api/v1/") else ""
    path = path.replace("{key}", key(prefix.get(section, "usr"))).replace("{seq}", "999")
    return method, path.replace("{asset}", "start.js").replace("{path:path}", "wall")


async def ask(world: World, caller: str, route: str) -> httpx.Response:
    method, path = concrete(route)
    token = None if caller == ANONYMOUS else world.people.open(world.users[Role(caller)])
    async with world.client(token) as client:
        return await client.request(method, path, json={} if method in ("POST", "PATCH") else None)


def expected(cell: Cell, caller: str) -> str:
    if cell.anonymous:
        return "handled"
    if caller == ANONYMOUS:
        return "401"
    return "handled" if Role(caller) in cell.roles else "403"


# A handler that was reached says 2xx, or that the named thing is not there, or that the empty body is wrong.
HANDLED = {200, 201, 202, 204, 404, 422}
PUBLIC_EXTRA = {"GET /metrics": {403}, "GET /{path:path}": {503}, "HEAD /{path:path}": {503}}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("route", sorted(set(AUTHORITY) - {EVENTS}))
async def test_each_cell(shared: World, route: str, caller: str) -> None:
    want = expected(AUTHORITY[route], caller)
    response = await ask(shared, caller, route)
    if want == "handled":
        assert response.status_code in HANDLED | PUBLIC_EXTRA.get(route, set())
    else:
        assert str(response.status_code) == want
    if response.status_code >= 400 and not route.endswith("{path:path}"):
        assert response.headers["content-type"] == MEDIA_TYPE
        assert response.json()["status"] == response.status_code


async def test_the_event_stream_needs_a_session(world: World) -> None:
    response = await ask(world, ANONYMOUS, EVENTS)
    assert response.status_code == 401


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("route", sorted(set(AUTHORITY) - {EVENTS}))
async def test_a_one_time_password_opens_only_ones_own_account(shared: World, route: str, role: Role) -> None:
    fresh = shared.people.open(shared.people.add(f"new-{role}-{route}", role, must_change=True))
    method, path = concrete(route)
    async with shared.client(fresh) as client:
        response = await client.request(method, path, json={} if method in ("POST", "PATCH") else None)
    cell = AUTHORITY[route]
    if cell.anonymous or cell.before_password_change:
        assert response.status_code != 403 or route == "GET /metrics"
    else:
        assert response.status_code == 403
        code = "password_change_required" if role in cell.roles else "forbidden"
        assert response.json()["code"] == code


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong-token-of-some-length",
        "bearer",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer " + "x" * 4000,
        "Bearer tok\u00e9n-with-a-strange-character",
    ],
)
async def test_whatever_is_no_token_is_401_in_the_same_bytes(world: World, header: str) -> None:
    async with world.client() as client:
        bare = await client.get("/api/v1/me")
        response = await client.get("/api/v1/me", headers=[(b"authorization", header.encode("latin-1"))])
    assert response.status_code == bare.status_code == 401
    assert response.content == bare.content
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_token_in_the_url_or_a_cookie_opens_nothing(world: World) -> None:
    token = world.tokens[Role.ADMINISTRATOR]
    async with world.client() as client:
        assert (await client.get("/api/v1/me", params={"token": token, "access_token": token})).status_code == 401
        assert (
            await client.get("/api/v1/me", headers={"cookie": f"token={token}; session={token}"})
        ).status_code == 401


async def test_two_authorization_headers_are_refused(world: World) -> None:
    token = f"Bearer {world.tokens[Role.WATCHER]}".encode()
    async with world.client() as client:
        response = await client.get("/api/v1/me", headers=[(b"authorization", token), (b"authorization", token)])
    assert response.status_code == 401


async def test_authority_is_decided_before_the_body_is_read(world: World) -> None:
    async with world.client() as client:
        response = await client.post(
            "/api/v1/devices", content=b"{not json", headers={"content-type": "application/json"}
        )
    assert response.status_code == 401


async def test_an_expired_session_and_a_disabled_account_end_at_once(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        assert (await client.get("/api/v1/me")).status_code == 200
        async with world.as_(Role.ADMINISTRATOR) as admin:
            user = world.users[Role.WATCHER].key
            assert (await admin.patch(f"/api/v1/users/{user}", json={"disabled": True})).status_code == 200
        assert (await client.get("/api/v1/me")).status_code == 401
    world.clock.now += 43200
    async with world.as_(Role.ADMINISTRATOR) as admin:
        assert (await admin.get("/api/v1/me")).status_code == 401
