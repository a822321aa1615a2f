"""MESSAGEs over the wire: retransmissions, encodings."""

from __future__ import annotations

import pytest

from tests.conformance.stage import camera
from tests.e2e.double import catalog, item, xml
from tests.e2e.rig import Client, Rig

NAME = "镇海路与中山路口（北）"
NVR = "34020000001180000901"


async def test_SIP_07_SIP_08_a_retransmission_is_answered_and_not_executed_again(rig: Rig, duty: Client) -> None:
    async with camera(rig, duty) as one:
        alarm = xml(
            "Notify",
            "Alarm",
            41,
            one.double.code,
            "<AlarmPriority>1</AlarmPriority><AlarmMethod>5</AlarmMethod><AlarmTime>2026-11-21T12:00:00</AlarmTime>",
        )
        body = alarm.encode("gb18030")
        data, name = one.double.request("MESSAGE", [("Content-Type", "Application/MANSCDP+xml")], body)
        answers = [await one.double.exchange(data, name) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0].body == b""
        # what the platform does about an alarm is to acknowledge it: once
        while (told := await one.double.next("MESSAGE")).field("CmdType") != "Alarm":
            continue
        assert (told.field("SN"), told.body.count(b"<Response>")) == ("41", 1)
        marker = xml("Notify", "Alarm", 42, one.double.code, "<AlarmPriority>1</AlarmPriority>")
        assert (await one.double.say(marker)).status == 200
        assert (await one.double.next("MESSAGE")).field("SN") == "42"


ENCODINGS = {
    "GB2312": ("GB2312", "gb2312"),
    "GBK": ("GBK", "gbk"),
    "GB18030": ("GB18030", "gb18030"),
    "UTF-8": ("UTF-8", "utf-8"),
    "declared GB2312, sent UTF-8": ("GB2312", "utf-8"),
    "declared UTF-8, sent GBK": ("UTF-8", "gbk"),
}


@pytest.mark.parametrize("case", ENCODINGS)
async def test_SIP_17_the_same_names_from_every_encoding(rig: Rig, duty: Client, case: str) -> None:
    declared, used = ENCODINGS[case]
    async with camera(rig, duty) as one:
        one.double.answers["Catalog"] = lambda query: [
            catalog(one.double.code, query.field("SN"), [item(one.double.code, NAME)])
            .replace("GB2312", declared, 1)
            .encode(used)
        ]
        await rig.platform.signalling.devices.sync_catalog(one.key)
        assert [channel.name for channel in await rig.channels(one.key)] == [NAME]
