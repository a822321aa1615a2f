"""Over the wire: without a lease nothing moves, whatever is sent; with it, only to whom it was given."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sharing.ledger import EntryKind
from sharing.people import Role
from tests.conformance.stage import Camera, camera, invited, stream_of
from tests.e2e.pictures import watching
from tests.e2e.rig import LOCALHOST, PATIENCE, Client, Rig
from tests.e2e.sender import Offer, Sender, accept, footage, pictures

ELSEWHERE = "127.0.0.2"  # loopback has many addresses: another host, as far as the platform can tell


@pytest.fixture(scope="module")
async def duty(rig: Rig) -> AsyncIterator[Client]:
    async with rig.signed_in("duty") as client:
        yield client


@dataclass(slots=True)
class Playing:
    """A camera whose view is open; pictures flow when `source` sends."""

    one: Camera
    offer: Offer
    view: dict[str, Any]


@pytest.fixture
async def playing(rig: Rig, duty: Client) -> AsyncIterator[Playing]:
    async with camera(rig, duty) as one:
        asking = asyncio.create_task(duty.open(one.channel.key))
        offer = accept(one.double, await invited(one))
        await one.double.next("ACK")
        yield Playing(one, offer, await asking)


def delivered(rig: Rig) -> int:
    return rig.platform.media.stats().bytes_out


async def ask(url: str, *, source: str = LOCALHOST) -> bytes:
    """The whole answer to a GET from that address; bytes of the body only when it is a 200."""
    parts = urlsplit(url)
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, local_addr=(source, 0))
        writer.write(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    return answer


def refused(answer: bytes) -> bool:
    status = answer.split(b" ")[1]
    return status in (b"403", b"404", b"410") and b"FLV" not in answer


async def test_pictures_nobody_asked_for_are_dropped(rig: Rig, films: Path) -> None:
    before, sent = rig.platform.media.stats(), delivered(rig)
    invented = ("v=0", "o=- 0 0 IN IP4 0", "c=IN IP4 127.0.0.1", f"m=video {rig.platform.media.ports[0]} RTP/AVP 96")
    with Sender(Offer((*invented, "y=0200009999")), footage(films, "h264")) as source:
        source.send(pictures(footage(films, "h264"), 25))

    def counted() -> bool:
        return rig.platform.media.stats().unknown_ssrc > before.unknown_ssrc

    await rig.until(counted, "packets of no session are counted")
    assert rig.platform.media.stats().sessions == before.sessions
    assert delivered(rig) == sent


async def test_an_invented_ticket_opens_nothing(rig: Rig) -> None:
    port = rig.platform.media.ports[2]
    for path in ("/live/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.flv", "/live/.flv", "/live/../../etc/passwd", "/"):
        assert refused(await ask(f"http://{LOCALHOST}:{port}{path}"))


async def test_a_ticket_is_good_once_and_from_one_address(rig: Rig, playing: Playing, films: Path) -> None:
    urls = await playing.one.watcher.tickets(playing.view["id"])
    assert refused(await ask(urls["flv"], source=ELSEWHERE))
    async with watching(playing.view["urls"]["flv"]) as viewer:
        assert viewer.status == 200
        with Sender(playing.offer, footage(films, "h264")) as source:
            source.send(pictures(footage(films, "h264"), 5))
            await viewer.header()
            await viewer.picture()
        assert refused(await ask(playing.view["urls"]["flv"]))


async def test_after_the_end_nothing_more_comes(rig: Rig, playing: Playing, films: Path) -> None:
    urls = await playing.one.watcher.tickets(playing.view["id"])
    async with watching(playing.view["urls"]["flv"]) as viewer:
        with Sender(playing.offer, footage(films, "h264")) as source:
            source.send(pictures(footage(films, "h264"), 5))
            await viewer.header()
            await viewer.picture()
            await playing.one.watcher.close(playing.view["id"])
            await viewer.rest()  # ends
            sent = delivered(rig)
            source.send(pictures(footage(films, "h264"), 25))
    assert refused(await ask(urls["flv"]))
    assert delivered(rig) - sent < 1024  # the refusal itself
    assert (await playing.one.watcher.http.post(f"/streams/{playing.view['id']}/tickets")).status_code == 409


async def test_what_comes_from_another_address_is_not_shown(rig: Rig, playing: Playing, films: Path) -> None:
    stream = stream_of(rig, playing.one)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((ELSEWHERE, 0))
        packet = bytes([0x80, 96]) + bytes(6) + int(playing.offer.ssrc).to_bytes(4, "big") + b"\x00\x00\x01\xba" * 50
        for _ in range(10):
            stranger.sendto(packet, playing.offer.address)

    def counted() -> bool:
        stats = rig.platform.media.session_stats(stream)
        return stats is not None and stats.rejected == 10

    await rig.until(counted, "packets of a stranger are counted")
    stats = rig.platform.media.session_stats(stream)
    assert stats is not None
    assert (stats.packets, stats.video_frames) == (0, 0)


async def test_every_view_has_its_row_before_its_first_byte(rig: Rig, playing: Playing) -> None:
    row = await rig.platform.ledger.entry(playing.view["ledger_seq"])
    assert row is not None
    assert (row.kind, row.lease, row.channel) == (EntryKind.INTENT, playing.view["id"], playing.one.channel.key)
    assert row.user == playing.one.watcher.key


async def test_outside_the_scope_is_not_found_and_the_camera_is_not_asked(rig: Rig, duty: Client) -> None:
    async with camera(rig, duty) as one:
        await rig.watches(duty)
        hidden = await duty.ask(one.channel.key)
        absent = await duty.ask(f"chn_{'a' * 20}")
        assert hidden.status_code == absent.status_code == 404
        assert hidden.content == absent.content
        rows, _ = await rig.platform.ledger.entries(kind=EntryKind.REFUSAL, limit=2)
        assert [row.channel for row in rows] == [f"chn_{'a' * 20}", one.channel.key]
        # a keepalive of its own comes back before any INVITE could have stayed unseen
        await one.double.register()
        assert one.double.asked["INVITE"].empty()


async def test_without_a_purpose_or_a_password_of_one_s_own_nothing_is_shown(rig: Rig, duty: Client) -> None:
    async with camera(rig, duty) as one:
        answer = await duty.ask(one.channel.key, purpose="curiosity")
        assert (answer.status_code, answer.json()["code"]) == (422, "E_PURPOSE_INVALID")
        assert "N16(2)(3)" in answer.json()["articles"]
        assert one.double.asked["INVITE"].empty()


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.AUDITOR])
async def test_who_manages_or_audits_does_not_watch(rig: Rig, duty: Client, role: Role) -> None:
    async with camera(rig, duty) as one, rig.signed_in(f"other-{role}", role=role) as other:
        assert (await other.ask(one.channel.key)).status_code == 403
        assert one.double.asked["INVITE"].empty()


async def test_a_right_taken_away_cuts_the_picture(rig: Rig, playing: Playing, films: Path) -> None:
    async with rig.signed_in("chief", role=Role.ADMINISTRATOR) as chief:
        async with watching(playing.view["urls"]["flv"]) as viewer:
            with Sender(playing.offer, footage(films, "h264")) as source:
                source.send(pictures(footage(films, "h264"), 5))
            await viewer.header()
            await viewer.picture()
            changed = await chief.http.patch(f"/users/{playing.one.watcher.key}", json={"scope": []})
            assert changed.status_code == 200, changed.text
            async with asyncio.timeout(5):  # F-08
                await viewer.rest()
        body = (await playing.one.watcher.http.get(f"/streams/{playing.view['id']}")).json()
        assert (body["state"], body["end_reason"]) == ("ended", "E_GRANT_REVOKED")
        assert body["articles"]


async def test_sound_comes_only_with_its_right(rig: Rig, duty: Client, films: Path) -> None:
    speaking = footage(films, "h264", "g711a")
    async with rig.signed_in("chief-of-sound", role=Role.ADMINISTRATOR) as chief, camera(rig, duty) as one:
        for allowed in (False, True):
            changed = await chief.http.patch(f"/users/{duty.key}", json={"may_listen": allowed})
            assert changed.status_code == 200, changed.text
            asking = asyncio.create_task(duty.open(one.channel.key))
            offer = accept(one.double, await invited(one))
            await one.double.next("ACK")
            view = await asking
            assert view["audio"] == ("granted" if allowed else "stripped")
            async with watching(view["urls"]["flv"]) as viewer:
                with Sender(offer, speaking) as source:
                    source.send(pictures(speaking, 40))
                await viewer.header()
                kinds = {(await viewer.tag()).kind for _ in range(18)}
            assert (8 in kinds) is allowed
            await duty.close(view["id"])
            one.double.reply(await one.double.next("BYE"), 200)
