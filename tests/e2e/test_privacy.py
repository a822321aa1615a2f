"""After a busy run: no address code, name, password, token or ticket in any log, metric, URL or problem body."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from sharing.people import Role
from tests.conformance.stage import camera, invited
from tests.e2e.double import double_at, keepalive
from tests.e2e.pictures import watching
from tests.e2e.rig import LOCALHOST, Rig
from tests.e2e.sender import Sender, accept, footage, pictures

STRANGER, GUESS = "34020000001320000951", "a-guessed-word-5"
PERSON = "zhou-xiaoming"
CAMERA_NAME = "路口"  # tests.conformance.stage names its cameras so


@dataclass(slots=True)
class Run:
    """What a busy run left behind: texts by where they were found, and what none of them may contain."""

    texts: dict[str, str]
    secrets: dict[str, str]


@dataclass(slots=True)
class Traffic:
    """Everything the REST interface was asked and how it refused."""

    urls: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def note(self, response: httpx.Response) -> None:
        await response.aread()
        self.urls.append(str(response.request.url))
        if response.status_code >= 400:
            self.problems.append(response.text + str(response.headers))
        elif response.request.url.path.endswith("/login"):
            self.tokens.append(response.json()["token"])


def leaks(texts: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """What is where it may not be."""
    # the many decimals of a measured time are no code
    found = [f"{where}: address code" for where, text in texts.items() if re.search(r"(?<![.\d])\d{18,}", text)]
    return found + [
        f"{where}: {what}" for where, text in texts.items() for what, word in secrets.items() if word in text
    ]


@pytest.fixture(scope="module")
async def run(rig: Rig, films: Path) -> AsyncIterator[Run]:
    traffic = Traffic()
    async with rig.signed_in(PERSON) as watcher, rig.signed_in("inspector", role=Role.AUDITOR) as auditor:
        for client in (watcher, auditor):
            client.http.event_hooks["response"].append(traffic.note)
            await client.login()
        async with camera(rig, watcher) as one:
            asking = asyncio.create_task(watcher.open(one.channel.key))
            offer = accept(one.double, await invited(one))
            await one.double.next("ACK")
            view = await asking
            async with watching(view["urls"]["flv"]) as viewer:
                with Sender(offer, footage(films, "h264")) as source:
                    source.send(pictures(footage(films, "h264"), 5))
                await viewer.header()
                await viewer.picture()
            ticket = view["urls"]["ws_fmp4"].rsplit("/", 1)[1].partition(".")[0]
            await watcher.close(view["id"])
            await refusals(rig, watcher.http, one.channel.key)
            await one.double.say(b"<broken")
            await one.double.register(password=GUESS)
            async with double_at(rig.sip, STRANGER, GUESS) as stranger:
                await stranger.register()
                await stranger.say(keepalive(STRANGER))
            for path in ("/ledger/entries", "/ledger/root", f"/ledger/entries/{view['ledger_seq']}/proof"):
                assert (await auditor.http.get(path)).status_code == 200
            secrets = {
                "name of a person": PERSON,
                "name of a camera": CAMERA_NAME,
                "password of a person": watcher.password,
                "password of a device": one.double.password,
                "guessed password": GUESS,
                "ticket": ticket,
            } | {f"token {number}": token for number, token in enumerate(traffic.tokens)}
        assert (await watcher.http.post("/logout")).status_code == 204
    async with httpx.AsyncClient() as scraper:
        metrics = await scraper.get(f"{rig.web}/metrics")
    assert "mingjian_devices_online" in metrics.text
    yield Run(
        texts=logs(rig.directory)
        | {
            "log records before redaction": json.dumps(rig.journal.records, default=repr, ensure_ascii=False),
            "metrics": metrics.text,
            "URLs": "\n".join(traffic.urls),
            "problem bodies": "\n".join(traffic.problems),
        },
        secrets=secrets,
    )
    assert len(traffic.problems) >= 6


async def refusals(rig: Rig, http: httpx.AsyncClient, channel: str) -> None:
    """Every way to be refused that a client can think of."""
    await http.post("/streams", json={"channel": channel, "purpose": PERSON})
    await http.post("/streams", json={"channel": STRANGER, "purpose": "DUTY_WATCH"})
    await http.post("/streams", json={"channel": channel, "purpose": "DUTY_WATCH", "unknown": GUESS})
    await http.post("/devices", json={"gb_id": STRANGER, "name": CAMERA_NAME, "password": GUESS})
    await http.get(f"/channels/chn_{'z' * 20}")
    await http.post("/me/password", json={"current_password": GUESS, "new_password": GUESS})
    async with httpx.AsyncClient(base_url=f"{rig.web}/api/v1", event_hooks=http.event_hooks) as nobody:
        await nobody.post("/login", json={"username": PERSON, "password": GUESS})
        await nobody.get("/me", headers={"Authorization": f"Bearer {GUESS}{GUESS}"})


def logs(directory: Path) -> dict[str, str]:
    """Every log file below the data directory."""
    files: Iterable[Path] = directory.rglob("*.log")
    return {path.relative_to(directory).as_posix(): path.read_text("utf-8", "replace") for path in files}


def test_nothing_private_is_left_anywhere(run: Run) -> None:
    assert {"mingjian.log", "postgres/server.log", "valkey/server.log"} <= set(run.texts)
    assert "register_refused" in run.texts["mingjian.log"]
    assert leaks(run.texts, run.secrets) == []


@pytest.mark.parametrize("what", ["name of a person", "password of a device", "ticket", "token 0", "code"])
def test_control_a_planted_word_is_found(run: Run, what: str) -> None:
    planted = STRANGER if what == "code" else run.secrets[what]
    for where in ("mingjian.log", "metrics", "URLs", "problem bodies"):
        texts = run.texts | {where: f"{run.texts[where]} x{planted}y"}
        assert leaks(texts, run.secrets) == [f"{where}: {'address code' if what == 'code' else what}"]


def test_a_code_in_a_peer_s_call_id_does_not_reach_the_log_file(rig: Rig) -> None:
    """Devices build their Call-ID of their own code; the record has it, the file may not."""
    import structlog

    structlog.get_logger("mingjian.sip").warning("register_refused", call_id=f"{STRANGER}-1@{LOCALHOST}")
    written = (rig.directory / "mingjian.log").read_text("utf-8")
    assert "[code]-1@127.0.0.1" in written
    assert STRANGER not in written
