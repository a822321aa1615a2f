"""Killed twenty times between the decision and the first picture: no picture without its row, no lease left open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.stage import camera_answers
from tests.e2e.double import Double, double_at, keepalive
from tests.e2e.pictures import watching
from tests.e2e.rig import PATIENCE, Client
from tests.e2e.sender import Sender, accept, footage, pictures
from tests.e2e.served import Mortal, sign_in

KILLS = 20
CODE, PASSWORD = "34020000001320000941", "a-mortal-Camera-4"
# Where a view can be when the process dies. Each is an event somebody outside can see.
MOMENTS = ("sent", "asked", "accepted", "acknowledged", "answered", "connected", "header", "picture")


@dataclass(slots=True)
class Watched:
    """What one viewer got: under which lease (None: he was never told one), how many octets of media."""

    lease: str | None = None
    octets: int = 0


@dataclass(slots=True)
class Site:
    """The platform process, a device that outlives it, and the people."""

    served: Mortal
    device: Double
    channel: str
    watcher: Client
    auditor: Client
    history: list[Watched] = field(default_factory=list)


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    served = Mortal(tmp_path_factory.mktemp("platform"))
    await served.start()
    try:
        async with (
            served.http() as admin_http,
            served.http() as watcher_http,
            served.http() as auditor_http,
            double_at(served.sip, CODE, PASSWORD) as device,
        ):
            admin = await sign_in(admin_http, "admin", served.first_password, "Own-and-long-1")
            made = await admin.http.post("/devices", json={"gb_id": CODE, "name": "门", "password": PASSWORD})
            assert made.status_code == 201, made.text
            scope = [made.json()["key"]]
            camera_answers(device)
            assert (await device.register())[1].status == 200
            people = {}
            for name, http in (("watcher", watcher_http), ("auditor", auditor_http)):
                body = {"username": name, "display_name": name, "role": name}
                user = await admin.http.post("/users", json=body | ({"scope": scope} if name == "watcher" else {}))
                assert user.status_code == 201, user.text
                people[name] = await sign_in(http, name, user.json()["password"], "Own-and-long-2")
            channels = (await people["watcher"].http.get("/channels")).json()["items"]
            yield Site(served, device, channels[0]["key"], people["watcher"], people["auditor"])
    finally:
        await served.stop()


async def view_until(site: Site, moment: str, films: Path) -> Watched:
    """Ask for the picture and kill the platform when the view has got as far as `moment`."""
    seen = Watched()
    asking = asyncio.create_task(posted(site))
    with suppress(httpx.HTTPError, ConnectionError, asyncio.IncompleteReadError):
        await steps(site, moment, asking, seen, films)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert await site.served.gone() == -9
    return seen


async def posted(site: Site) -> dict[str, Any]:
    return await site.watcher.open(site.channel, transport="udp")


async def steps(site: Site, moment: str, asking: asyncio.Task[dict[str, Any]], seen: Watched, films: Path) -> None:
    """One after the other, the last one is the kill."""

    def reached(name: str) -> bool:
        if name == moment:
            site.served.kill()
        return name == moment

    if moment == "sent":
        for _ in range(len(site.history)):  # a little later in the request's life each time
            await asyncio.sleep(0)
        site.served.kill()
        return
    invite = await site.device.next("INVITE")
    if reached("asked"):
        return
    offer = accept(site.device, invite)
    if reached("accepted"):
        return
    await site.device.next("ACK")
    if reached("acknowledged"):
        return
    view = await asking
    seen.lease = view["id"]
    if reached("answered"):
        return
    async with watching(view["urls"]["flv"]) as viewer:
        if reached("connected"):
            return
        with Sender(offer, footage(films, "h264")) as source:
            source.send(pictures(footage(films, "h264"), 5))
            await viewer.header()
            seen.octets += 13
            if reached("header"):
                return
            seen.octets += len((await viewer.picture()).data)
            reached("picture")
            seen.octets += len(await viewer.rest())


async def rows_of(auditor: Client) -> list[dict[str, Any]]:
    """The whole ledger, oldest first."""
    rows: list[dict[str, Any]] = []
    cursor: str | int | None = None
    while True:
        params = {"limit": 500} | ({"cursor": cursor} if cursor is not None else {})
        page = (await auditor.http.get("/ledger/entries", params=params)).json()
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows[::-1]


def unaccounted(history: Iterable[Watched], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong: media without an intent row, leases without exactly one end."""
    intents: list[str] = []
    ends: list[str] = []
    for row in rows:
        if row["kind"] == "intent":
            intents.append(row["lease"])
        elif row["kind"] in ("end", "end_by_crash"):
            ends.append(row["lease"])
    wrong = [f"media without a row: {seen}" for seen in history if seen.octets and seen.lease not in intents]
    wrong += [f"lease without its end: {lease}" for lease in intents if ends.count(lease) != 1]
    return wrong + [f"end without an intent: {lease}" for lease in ends if lease not in intents]


async def test_killed_between_decision_and_first_picture(site: Site, films: Path) -> None:
    footage(films, "h264")
    for number in range(KILLS):
        site.history.append(await view_until(site, MOMENTS[number % len(MOMENTS)], films))
        for waiting in site.device.asked.values():
            while not waiting.empty():
                waiting.get_nowait()
        await site.served.start()
        assert (await site.device.say(keepalive(CODE))).status == 200
    rows = await rows_of(site.auditor)
    assert unaccounted(site.history, rows) == []
    crashed = [row for row in rows if row["kind"] == "end_by_crash"]
    # every view that had got beyond the row when the process died; "sent" may have died before it
    certain = sum(MOMENTS[number % len(MOMENTS)] != "sent" for number in range(KILLS))
    assert certain <= len(crashed) <= KILLS
    assert sum(seen.octets > 0 for seen in site.history) >= KILLS // len(MOMENTS) * 2


async def test_the_ledger_verifies_after_all_that(site: Site) -> None:
    assert await site.served.stop() == 0
    child = await site.served.command("ledger", "verify")
    async with asyncio.timeout(PATIENCE):
        output, words = await child.communicate()
    assert child.returncode == 0, words.decode()
    fact = json.loads(output)
    assert fact["ok"] is True
    assert fact["size"] > KILLS


def test_control_a_picture_without_a_row_is_found() -> None:
    rows = [
        {"kind": "intent", "lease": "lea_a"},
        {"kind": "end_by_crash", "lease": "lea_a"},
        {"kind": "intent", "lease": "lea_b"},
        {"kind": "end", "lease": "lea_b"},
    ]
    good = [Watched("lea_a", 5), Watched("lea_b", 0), Watched(None, 0)]
    assert unaccounted(good, rows) == []
    assert unaccounted([*good, Watched("lea_c", 1)], rows) == ["media without a row: Watched(lease='lea_c', octets=1)"]
    assert unaccounted([*good, Watched(None, 1)], rows) == ["media without a row: Watched(lease=None, octets=1)"]
    assert unaccounted(good, rows[:-1]) == ["lease without its end: lea_b"]
    assert unaccounted(good, [*rows, rows[-1]]) == ["lease without its end: lea_b"]
    assert unaccounted(good, rows[1:])[0] == "media without a row: Watched(lease='lea_a', octets=5)"
