"""Log in and out, one's own account, and what every answer carries."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from api.problems import MEDIA_TYPE
from sharing.people import LoginRefused, Role
from tests.api.fakes import NOW, PASSWORD, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def login(world: World, username: str, password: str, peer: str = "192.0.2.7") -> httpx.Response:
    async with world.client(peer=peer) as client:
        return await client.post("/api/v1/login", json={"username": username, "password": password})


async def test_a_login_gives_a_token_once_and_says_who(world: World) -> None:
    response = await login(world, "watcher", PASSWORD)
    assert response.status_code == 200
    answer = response.json()
    assert answer["user"]["role"] == "watcher"
    assert answer["must_change_password"] is False
    assert answer["expires_at"] == "2026-11-21T16:00:00.000Z"
    assert "set-cookie" not in response.headers
    async with world.client(answer["token"]) as client:
        me = (await client.get("/api/v1/me")).json()
    assert me == answer["user"]


async def test_an_unknown_name_and_a_wrong_password_are_the_same_answer(world: World) -> None:
    unknown = await login(world, "nobody", "wrong")
    wrong = await login(world, "watcher", "wrong")
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.content == wrong.content
    assert unknown.json()["code"] == "E_LOGIN"

    def shape(response: httpx.Response) -> dict[str, str]:
        return {name: value for name, value in response.headers.items() if name != "x-request-id"}

    assert shape(unknown) == shape(wrong)


async def test_a_locked_account_is_429_with_the_time_to_wait(world: World) -> None:
    for _ in range(5):
        await login(world, "watcher", "wrong")
    response = await login(world, "watcher", PASSWORD)
    assert response.status_code == 429
    assert response.json()["code"] == "E_LOGIN_THROTTLED"
    assert response.headers["retry-after"] == "900"


async def test_one_source_is_slowed_before_any_password_is_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0
    real = world.people.login

    async def counted(*args: object) -> object:
        nonlocal checked
        checked += 1
        world.people.failures = 0
        return await real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.people, "login", counted)
    codes = [(await login(world, f"user{number}", "wrong")).status_code for number in range(25)]
    assert checked == codes.count(401) == 20
    assert codes.count(429) == 5
    assert (await login(world, "watcher", PASSWORD, peer="192.0.2.8")).status_code == 200
    world.clock.now += 2
    assert (await login(world, "watcher", PASSWORD)).status_code == 200


async def test_a_login_that_cannot_be_recorded_is_not_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unrecorded(*args: object) -> LoginRefused:
        return LoginRefused(code="E_LEDGER_UNAVAILABLE", http_status=503)

    monkeypatch.setattr(world.people, "login", unrecorded)
    response = await login(world, "watcher", PASSWORD)
    assert response.status_code == 503
    assert response.json()["code"] == "E_LEDGER_UNAVAILABLE"


async def test_logout_ends_the_session_and_its_views(world: World) -> None:
    token = world.tokens[Role.WATCHER]
    other = world.people.open(world.users[Role.WATCHER])
    body = {"channel": world.channel.key, "purpose": "DUTY_WATCH"}
    async with world.client(token) as client, world.client(other) as elsewhere:
        mine = (await client.post("/api/v1/streams", json=body)).json()["id"]
        theirs = (await elsewhere.post("/api/v1/streams", json=body)).json()["id"]
        assert (await client.post("/api/v1/logout")).status_code == 204
        assert (await client.get("/api/v1/me")).status_code == 401
        assert (await elsewhere.get(f"/api/v1/streams/{theirs}")).json()["state"] == "open"
    assert world.play.closed == [(mine, "logout")]
    await world.completion.settled()
    assert world.sharing.completed[mine] == "logout"


async def test_a_one_time_password_must_be_changed_first(world: World) -> None:
    user = world.people.add("fresh", Role.WATCHER, must_change=True)
    async with world.client(world.people.open(user)) as client:
        refused = await client.get("/api/v1/channels")
        assert refused.json()["code"] == "password_change_required"
        assert (await client.get("/api/v1/me")).json()["must_change_password"] is True
        change = {"current_password": PASSWORD, "new_password": "another-Password-2"}
        assert (await client.post("/api/v1/me/password", json=change)).status_code == 204
        assert (await client.get("/api/v1/channels")).status_code == 200


async def test_guessing_the_current_password_is_slowed_too(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        change = {"current_password": "guess", "new_password": "another-Password-2"}
        codes = [(await client.post("/api/v1/me/password", json=change)).status_code for _ in range(22)]
    assert codes.count(422) == 20
    assert codes.count(429) == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/me", 401), ("/healthz", 200), ("/api/v1/nothing", 404), ("/api/docs", 200), ("/wall", 503)],
)
async def test_every_answer_carries_the_security_headers(world: World, path: str, status: int) -> None:
    async with world.client() as client:
        response = await client.get(path)
    assert response.status_code == status
    headers = response.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    script = headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
    assert "unsafe-inline" not in script
    assert headers["referrer-policy"] == "no-referrer"
    assert len(headers["x-request-id"]) == 16
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


async def test_answers_of_the_interface_are_never_stored(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        assert (await client.get("/api/v1/me")).headers["cache-control"] == "no-store"
        assert (await client.get("/api/v1/nothing")).headers["cache-control"] == "no-store"


async def test_no_cross_origin_preflight_is_answered(world: World) -> None:
    async with world.client() as client:
        response = await client.options(
            "/api/v1/login", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
        )
    assert response.status_code == 405
    assert not any(name.startswith("access-control") for name in response.headers)


async def test_https_gets_hsts(world: World) -> None:
    transport = httpx.ASGITransport(app=world.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://console.test") as client:
        assert "max-age=31536000" in (await client.get("/healthz")).headers["strict-transport-security"]
    async with world.client() as client:
        assert "strict-transport-security" not in (await client.get("/healthz")).headers


async def test_a_body_over_one_mebibyte_is_refused_and_one_below_is_not(world: World) -> None:
    async with world.client() as client:
        for size, status in ((1 << 20) + 1, 413), ((1 << 20) - 100, 422):
            response = await client.post(
                "/api/v1/login", content=b" " * size, headers={"content-type": "application/json"}
            )
            assert response.status_code == status
            assert response.headers["content-type"] == MEDIA_TYPE


async def test_a_chunked_body_is_bounded_too(world: World) -> None:
    async def chunks() -> object:
        for _ in range(40):
            yield b" " * 65536

    async with world.client() as client:
        response = await client.post(
            "/api/v1/login",
            content=chunks(),  # type: ignore[arg-type]
            headers={"content-type": "application/json"},
        )
    assert response.status_code == 413


async def test_validation_errors_name_fields_and_never_values(world: World) -> None:
    async with world.as_(Role.ADMINISTRATOR) as client:
        response = await client.post(
            "/api/v1/devices",
            json={"gb_id": "3402000000132000000X", "name": "n", "password": "secret value", "34020000001320000077": 1},
        )
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "invalid_request"
    fields = {error["field"] for error in problem["errors"]}
    assert fields == {"body.gb_id", "body.password", "body"}
    assert "3402000000132" not in response.text
    assert "secret value" not in response.text


async def test_an_unknown_path_is_404_for_every_method(world: World) -> None:
    async with world.client() as client:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            response = await client.request(method, "/api/v1/nothing")
            assert response.status_code == 404, method
            assert response.json()["code"] == "not_found"


async def test_a_known_path_with_another_method_is_405(world: World) -> None:
    async with world.client() as client:
        response = await client.put("/api/v1/login")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["code"] == "method_not_allowed"


async def test_an_unreachable_database_is_503_and_tells_nothing(world: World) -> None:
    world.store.down = True
    async with world.as_(Role.WATCHER) as client:
        response = await client.get("/api/v1/channels")
    assert response.status_code == 503
    assert response.json()["code"] == "store_unavailable"
    assert "away" not in response.text
    assert response.headers["retry-after"]


def test_the_clock_of_these_tests_is_noon_in_beijing() -> None:
    assert NOW % 86400 == 4 * 3600
