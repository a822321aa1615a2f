"""Live sessions over the wire: what the platform offers a device, and what becomes of every way a call can go."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from ops.config import Config
from tests.conformance.stage import Camera, camera, invited, opened, stream_of
from tests.e2e.double import Text
from tests.e2e.pictures import watching
from tests.e2e.rig import PLATFORM, Client, Rig, configuration, rig_of
from tests.e2e.sender import Offer, Sender, accept, footage, pictures


async def call(one: Camera, **how: object) -> tuple[Text, Offer, asyncio.Task[httpx.Response]]:
    """Ask for the picture, take the INVITE and accept it; the POST is still under way."""
    asking = asyncio.create_task(one.watcher.ask(one.channel.key, **how))  # type: ignore[arg-type]
    invite = await invited(one)
    return invite, Offer.of(invite), asking


async def hang_up(one: Camera) -> Text:
    """The BYE, answered."""
    bye = await one.double.next("BYE")
    one.double.reply(bye, 200)
    return bye


async def close(one: Camera, view: str) -> None:
    """End the view and see the device told."""
    await one.watcher.close(view)
    await hang_up(one)


async def test_INV_01_INV_02_INV_03_INV_28_offer_subject_and_ssrc(rig: Rig, duty: Client) -> None:
    async with camera(rig, duty) as one:
        invite, offer, asking = await call(one)
        assert offer.line("s") == "Play"
        assert offer.line("t") == "0 0"
        assert offer.line("o").split(" ")[0] == PLATFORM
        assert offer.line("c") == "IN IP4 127.0.0.1"
        assert offer.line("m") == f"video {rig.platform.media.ports[0]} RTP/AVP {' '.join(formats(offer))}"
        assert "96" in formats(offer)
        assert "rtpmap:96 PS/90000" in offer.attributes()
        assert "recvonly" in offer.attributes()
        assert [line[0] for line in offer.lines if line[0] in "yf"] in (["y"], ["y", "f"])
        sender, receiver = invite["subject"].split(",")
        source, _, sequence = sender.partition(":")
        assert source == one.double.code
        assert receiver.split(":")[0] == PLATFORM
        assert re.fullmatch(r"0[0-9]{0,19}", sequence)
        assert re.fullmatch(r"020000[0-9]{4}", offer.ssrc)  # digits 4 to 8 of 34020000002000000001 after the 0
        assert invite.uri_user == one.double.code
        assert invite["content-type"].lower() == "application/sdp"
        accept(one.double, invite)
        await one.double.next("ACK")
        await close(one, opened(await asking)["id"])


def formats(offer: Offer) -> list[str]:
    return offer.line("m").split(" ")[3:]


async def test_INV_03_numbers_follow_the_domain_and_differ(tmp_path: Path) -> None:
    config = configuration(tmp_path, platform={"id": "13010000002000000001", "domain": "1301000000"})
    seen = []
    async with rig_of(config) as rig, rig.signed_in("duty") as duty:
        for _ in range(2):
            async with camera(rig, duty) as each:
                invite, offer, asking = await call(each)
                accept(each.double, invite)
                await each.double.next("ACK")
                seen.append(offer.ssrc)
                opened(await asking)
    assert all(re.fullmatch(r"010000[0-9]{4}", ssrc) for ssrc in seen)
    assert len(set(seen)) == 2


async def test_INV_05_a_second_200_gets_a_second_ack_and_no_second_session(rig: Rig, duty: Client) -> None:
    async with camera(rig, duty) as one:
        invite, _, asking = await call(one)
        for _ in range(2):
            accept(one.double, invite)
            ack = await one.double.next("ACK")
            assert ack["call-id"] == invite["call-id"]
            assert ack["cseq"].split(" ")[0] == invite["cseq"].split(" ")[0]
        view = opened(await asking)
        assert len(rig.platform.play.streams()) == 1
        await close(one, view["id"])


@pytest.mark.parametrize(
    ("how", "label"),
    [({"y": None}, "no y"), ({"f": False}, "no f"), ({"session": "play "}, "odd s"), ({"y": None, "f": False}, "bare")],
)
async def test_INV_08_answers_without_y_or_f_or_with_odd_s_work(
    rig: Rig, duty: Client, films: Path, how: dict[str, object], label: str
) -> None:
    async with camera(rig, duty) as one:
        invite, _, asking = await call(one)
        offer = accept(one.double, invite, **how)
        await one.double.next("ACK")
        view = opened(await asking)
        await watched(view["urls"]["flv"], offer, films)
        await close(one, view["id"])


async def watched(url: str, offer: Offer, films: Path, **how: object) -> None:
    """Ten pictures go in and come out."""
    async with watching(url) as viewer:
        assert viewer.status == 200
        with Sender(offer, footage(films, "h264"), **how) as source:  # type: ignore[arg-type]
            source.send(pictures(footage(films, "h264"), 10))
            await viewer.header()
            for _ in range(10):
                await viewer.picture()


@pytest.mark.parametrize("segment", [None, 1])
async def test_INV_10_MED_10_tcp_passive_offer_and_framing(
    rig: Rig, duty: Client, films: Path, segment: int | None
) -> None:
    async with camera(rig, duty) as one:
        invite, offer, asking = await call(one, transport="tcp-passive")
        assert offer.line("m").split(" ")[:3] == ["video", str(rig.platform.media.ports[1]), "TCP/RTP/AVP"]
        assert "setup:passive" in offer.attributes()
        assert "connection:new" in offer.attributes()
        accept(one.double, invite)
        await one.double.next("ACK")
        view = opened(await asking)
        await watched(view["urls"]["flv"], offer, films, segment=segment)
        stats = rig.platform.media.session_stats(stream_of(rig, one))
        assert stats is not None
        assert (stats.video_frames, stats.lost, stats.malformed) == (10, 0, 0)
        await close(one, view["id"])


async def test_INV_13_five_viewers_one_invite(rig: Rig, duty: Client, films: Path) -> None:
    async with camera(rig, duty) as one:
        asking = [asyncio.create_task(one.watcher.ask(one.channel.key)) for _ in range(5)]
        invite = await invited(one)
        offer = accept(one.double, invite)
        await one.double.next("ACK")
        views = [opened(answer) for answer in await asyncio.gather(*asking)]
        assert one.double.asked["INVITE"].empty()
        async with AsyncExitStack() as stack:
            viewers = [await stack.enter_async_context(watching(view["urls"]["flv"])) for view in views]
            with Sender(offer, footage(films, "h264")) as source:
                source.send(pictures(footage(films, "h264"), 5))
                for viewer in viewers:
                    await viewer.header()
                    await viewer.picture()
        for view in views[:-1]:
            await one.watcher.close(view["id"])
        assert one.double.asked["BYE"].empty()
        await close(one, views[-1]["id"])


async def test_INV_15_viewer_leaves_before_the_answer(rig: Rig, duty: Client) -> None:
    async with camera(rig, duty) as one:
        invite, _, asking = await call(one)
        one.double.reply(invite, 180, "Ringing")
        asking.cancel()
        cancel = await one.double.next("CANCEL")
        assert (cancel["call-id"], cancel.branch) == (invite["call-id"], invite.branch)
        accept(one.double, invite)  # the 200 was under way when the CANCEL came
        one.double.reply(cancel, 200)
        assert (await one.double.next("ACK"))["call-id"] == invite["call-id"]
        assert (await hang_up(one))["call-id"] == invite["call-id"]
        await rig.until(lambda: rig.platform.play.load()["dialogs"] == 0, "nothing is left of the call")
        assert rig.platform.play.streams() == []
        assert rig.platform.sharing.leases() == []


def test_INV_18_the_default_is_twenty_seconds() -> None:
    assert Config().media.source_timeout == 20.0


async def test_INV_18_silence_ends_the_call_and_the_viewer_is_told(rig: Rig, duty: Client, films: Path) -> None:
    async with camera(rig, duty) as one:
        invite, _, asking = await call(one)
        offer = accept(one.double, invite)
        await one.double.next("ACK")
        view = opened(await asking)
        async with watching(view["urls"]["flv"]) as viewer:
            with Sender(offer, footage(films, "h264")) as source:
                source.send(pictures(footage(films, "h264"), 5))
            await viewer.header()
            await viewer.picture()
            await hang_up(one)
            await viewer.rest()  # ends
        assert await end_of(one.watcher, view["id"]) == ("ended", "source_lost")


async def end_of(client: Client, view: str) -> tuple[str, str]:
    body = (await client.http.get(f"/streams/{view}")).json()
    return body["state"], body["end_reason"]
