"""Live views over the HTTP interface: order, refusals, ends of every kind, ownership, tickets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from media.session import MediaError
from sharing.lease import Action, Refusal
from sharing.ledger import EntryKind
from sharing.people import Role
from sipserver.play import PlayError
from sipserver.protocol.ids import LeaseKey
from tests.api.fakes import CAMERA_CODE, World, key


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def body(world: World, **more: Any) -> dict[str, Any]:
    return {"channel": world.channel.key, "purpose": "DUTY_WATCH", **more}


async def opened(world: World, client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.post("/api/v1/streams", json=body(world))
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_view_is_recorded_then_asked_for_then_ticketed(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        answer = await opened(world, client)
    lease = answer["id"]
    assert world.ledger.rows[answer["ledger_seq"]].kind is EntryKind.INTENT
    assert world.play.opened == [lease]
    assert [(ticket[1], ticket[2]) for ticket in world.play.tickets] == [
        ("flv", "192.0.2.7"),
        ("ws-fmp4", "192.0.2.7"),
        ("http-fmp4", "192.0.2.7"),
    ]
    assert answer["urls"]["flv"].startswith("http://console.test:8081/live/")
    assert answer["urls"]["ws_fmp4"].startswith("ws://console.test:8081/live/")
    assert answer["state"] == "open"
    assert answer["expires_at"] == "2026-11-21T04:00:30.000Z"
    assert CAMERA_CODE not in json.dumps(answer)


@pytest.mark.parametrize(("may_listen", "audio"), [(True, "granted"), (False, "stripped")])
async def test_a_view_says_whether_it_has_sound(world: World, may_listen: bool, audio: str) -> None:
    user = world.users[Role.WATCHER]
    world.people.known[user.key] = replace(user, may_listen=may_listen)
    async with world.as_(Role.WATCHER) as client:
        answer = await opened(world, client)
        assert answer["audio"] == audio
        assert (await client.get("/api/v1/streams")).json()["items"][0]["audio"] == audio
        # What the lease has now counts while the view is open, what it was opened with afterwards.
        lease = world.sharing.open[LeaseKey(answer["id"])]
        world.sharing.open[lease.key] = replace(lease, actions=frozenset({Action.VIEW_LIVE}))
        assert (await client.get(f"/api/v1/streams/{lease.key}")).json()["audio"] == "stripped"
        await client.delete(f"/api/v1/streams/{lease.key}")
        assert (await client.get(f"/api/v1/streams/{lease.key}")).json()["audio"] == audio


async def test_a_configured_media_origin_is_used_and_tickets_are_then_not_bound_to_the_peer(tmp_path: Path) -> None:
    world = World(tmp_path, media_origin="https://media.example")
    async with world.as_(Role.WATCHER) as client:
        answer = await opened(world, client)
    assert answer["urls"]["ws_fmp4"].startswith("wss://media.example/live/")
    assert {ticket[2] for ticket in world.play.tickets} == {None}


@pytest.mark.parametrize("host", ["evil.example/x", "a b", "x" * 300, '"><script>'])
async def test_a_host_that_is_none_never_becomes_an_address(world: World, host: str) -> None:
    async with world.as_(Role.WATCHER) as client:
        response = await client.post("/api/v1/streams", json=body(world), headers={"host": host})
    assert response.status_code == 400
    assert host not in response.text
    assert world.play.opened == []
    assert world.ledger.rows == []


async def test_a_refusal_is_403_with_code_and_articles_and_asks_no_camera(world: World) -> None:
    world.sharing.refusal = Refusal(
        code="E_ACTION_NOT_GRANTED", http_status=403, sip_status=403, reason="Outside the roster.", articles=("GZ18",)
    )
    async with world.as_(Role.WATCHER) as client:
        response = await client.post("/api/v1/streams", json=body(world))
    problem = response.json()
    assert response.status_code == 403
    assert (problem["code"], problem["articles"]) == ("E_ACTION_NOT_GRANTED", ["GZ18"])
    assert problem["detail"] == "Outside the roster."
    assert world.play.opened == []


async def test_a_hidden_channel_answers_like_one_that_does_not_exist(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        hidden = await client.post("/api/v1/streams", json={**body(world), "channel": world.hidden.key})
        absent = await client.post("/api/v1/streams", json={**body(world), "channel": key("chn")})
        malformed = await client.post("/api/v1/streams", json={**body(world), "channel": CAMERA_CODE})
    assert hidden.status_code == absent.status_code == malformed.status_code == 404
    assert hidden.content == absent.content == malformed.content


async def test_without_the_ledger_there_is_no_picture(world: World) -> None:
    world.ledger.down = True
    async with world.as_(Role.WATCHER) as client:
        response = await client.post("/api/v1/streams", json=body(world))
    assert response.status_code == 503
    assert response.json()["code"] == "E_LEDGER_UNAVAILABLE"
    assert world.play.opened == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PlayError("device_no_answer", 504), 504),
        (PlayError("device_refused", 502), 502),
        (PlayError("channel_not_playable", 409), 409),
        (PlayError("device_offline", 503), 503),
        (RuntimeError("a fault of ours"), 500),
    ],
)
async def test_a_camera_that_does_not_play_ends_the_lease(world: World, error: Exception, status: int) -> None:
    world.play.error = error
    async with world.as_(Role.WATCHER) as client:
        response = await client.post("/api/v1/streams", json=body(world))
        assert response.status_code == status
        assert response.json()["code"] == getattr(error, "code", "internal_error")
        assert "fault of ours" not in response.text
        await world.completion.settled()
        assert (await client.get("/api/v1/streams")).json()["items"] == []
    assert not world.sharing.open
    assert len(world.sharing.completed) == 1


async def test_a_ticket_that_cannot_be_made_ends_the_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> str:
        raise MediaError("tickets_full", "no place")

    monkeypatch.setattr(world.play, "ticket", full)
    async with world.as_(Role.WATCHER) as client:
        response = await client.post("/api/v1/streams", json=body(world))
    assert response.status_code == 503
    assert response.json()["code"] == "tickets_full"
    await world.completion.settled()
    assert not world.play.live
    assert list(world.sharing.completed.values()) == ["tickets_full"]


async def raw_post(world: World, disconnect: asyncio.Event) -> asyncio.Task[None]:
    """POST /streams as a server would call the application, with a connection that can be cut."""
    payload = json.dumps(body(world)).encode()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": payload, "more_body": False}
        await disconnect.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return None

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/v1/streams",
        "raw_path": b"/api/v1/streams",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"console.test:8080"),
            (b"content-type", b"application/json"),
            (b"authorization", f"Bearer {world.tokens[Role.WATCHER]}".encode()),
        ],
        "client": ("192.0.2.7", 1),
        "server": ("console.test", 8080),
    }
    task = asyncio.create_task(world.app(scope, receive, send))
    await asyncio.wait_for(world.play.asked.wait(), 5)
    return task


async def test_a_caller_who_leaves_while_waiting_ends_lease_and_invite(world: World) -> None:
    world.play.gate = asyncio.Event()
    gone = asyncio.Event()
    task = await raw_post(world, gone)
    assert len(world.services.views.open_views()) == 1
    gone.set()
    await asyncio.wait_for(task, 5)
    await world.completion.settled()
    assert world.play.cancelled == 1
    assert not world.play.live
    assert list(world.sharing.completed.values()) == ["viewer_left"]
    assert world.services.views.open_views() == []
    assert world.play.tickets == []


async def test_a_server_that_stops_while_waiting_ends_the_lease_too(world: World) -> None:
    world.play.gate = asyncio.Event()
    task = await raw_post(world, asyncio.Event())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.completion.settled()
    assert world.play.cancelled == 1
    assert list(world.sharing.completed.values()) == ["viewer_left"]


async def test_a_camera_that_never_answers_is_bounded_by_our_own_clock(tmp_path: Path) -> None:
    world = World(tmp_path, open_timeout=0.01)
    world.play.gate = asyncio.Event()
    async with world.as_(Role.WATCHER) as client:
        response = await client.post("/api/v1/streams", json=body(world))
    assert response.status_code == 504
    assert response.json()["code"] == "open_timeout"
    await world.completion.settled()
    assert not world.sharing.open


async def test_only_the_owner_and_an_administrator_see_and_end_a_view(world: World) -> None:
    stranger = world.people.open(world.people.add("other", Role.WATCHER))
    async with (
        world.as_(Role.WATCHER) as owner,
        world.client(stranger) as other,
        world.as_(Role.ADMINISTRATOR) as admin,
    ):
        view = (await opened(world, owner))["id"]
        path = f"/api/v1/streams/{view}"
        absent = await other.get(f"/api/v1/streams/{key('lea')}")
        for method, target in (("GET", path), ("DELETE", path), ("POST", f"{path}/tickets")):
            response = await other.request(method, target)
            assert response.status_code == 404
            assert response.content == absent.content
        assert (await other.get("/api/v1/streams")).json()["items"] == []
        assert world.play.closed == []
        assert [item["id"] for item in (await admin.get("/api/v1/streams")).json()["items"]] == [view]
        seen = await admin.get(path)
        assert seen.status_code == 200
        assert "urls" not in seen.json()
        assert (await admin.post(f"{path}/tickets")).status_code == 403
        assert (await admin.delete(path)).status_code == 204
        assert world.play.closed == [(view, "revoked")]
        ended = (await owner.get(path)).json()
    assert (ended["state"], ended["end_reason"]) == ("ended", "revoked")


async def test_ending_a_view_writes_its_row_before_the_answer_and_twice_is_no_error(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        view = (await opened(world, client))["id"]
        assert (await client.delete(f"/api/v1/streams/{view}")).status_code == 204
        assert world.sharing.completed[LeaseKey(view)] == "viewer_closed"
        assert (await client.delete(f"/api/v1/streams/{view}")).status_code == 204
        assert (await client.get("/api/v1/streams")).json()["items"] == []
    assert world.play.closed == [(view, "viewer_closed")]


async def test_fresh_tickets_are_decided_anew(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        view = (await opened(world, client))["id"]
        first = await client.post(f"/api/v1/streams/{view}/tickets", json={})
        assert first.status_code == 201
        assert first.json()["expires_at"] == "2026-11-21T04:00:30.000Z"
        made = len(world.play.tickets)
        world.sharing.refusal = Refusal(
            code="E_GRANT_REVOKED", http_status=403, sip_status=403, reason="Revoked.", articles=("N16",)
        )
        refused = await client.post(f"/api/v1/streams/{view}/tickets", json={})
        assert refused.status_code == 403
        assert refused.json()["articles"] == ["N16"]
        assert len(world.play.tickets) == made
        ended = (await client.get(f"/api/v1/streams/{view}")).json()
        assert (ended["end_reason"], ended["articles"]) == ("E_GRANT_REVOKED", ["N16"])
        again = await client.post(f"/api/v1/streams/{view}/tickets", json={})
        assert again.status_code == 409
    assert world.play.live == set()


async def test_one_account_has_a_bounded_number_of_views_even_in_parallel(tmp_path: Path) -> None:
    world = World(tmp_path, max_views_per_user=3)
    world.play.gate = asyncio.Event()
    async with world.as_(Role.WATCHER) as client:
        asking = [asyncio.create_task(client.post("/api/v1/streams", json=body(world))) for _ in range(6)]
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert [task.result().json()["code"] for task in done] == ["too_many_streams"] * 3
        world.play.gate.set()
        assert [(await task).status_code for task in waiting] == [201] * 3
        assert (await client.post("/api/v1/streams", json=body(world))).status_code == 409


async def test_the_devices_own_transport_is_used_unless_the_request_says_otherwise(world: World) -> None:
    async with world.as_(Role.WATCHER) as client:
        await client.post("/api/v1/streams", json=body(world))
        await client.post("/api/v1/streams", json=body(world, transport="tcp-passive"))
        assert (await client.post("/api/v1/streams", json=body(world, transport="sctp"))).status_code == 422
    assert world.play.transports == [None, "tcp-passive"]


async def test_the_record_of_ended_views_is_bounded(world: World) -> None:
    world.services.views._keep = 2
    async with world.as_(Role.WATCHER) as client:
        views = [(await opened(world, client))["id"] for _ in range(3)]
        for view in views:
            await client.delete(f"/api/v1/streams/{view}")
        assert [(await client.get(f"/api/v1/streams/{view}")).status_code for view in views] == [404, 200, 200]
