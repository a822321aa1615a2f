"""The lower platform's tree and its catalogue on the wire, read with an XML parser that is not the platform's own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from ops.sim.footage import Footage
from ops.sim.inventory import Inventory
from ops.sim.lower_platform import CAMERAS, ORGANISATIONS, make_lower_platform
from tests.sim.scripted import DOMAIN, SERVER, Script, config, script

LOWER = "34020100002000000001"


@pytest.fixture
def platform(short: Footage) -> Inventory:
    return make_lower_platform(LOWER, "鸠江区视频共享平台", {"crossing": short, "square": short, "gate": short})


def catalogue(sim: Script, code: str, sn: int = 7) -> list[ElementTree.Element]:
    """The parts of the answer to a catalogue query, each sent after the answer to the one before."""
    body = f"<?xml version='1.0'?><Query><CmdType>Catalog</CmdType><SN>{sn}</SN><DeviceID>{code}</DeviceID></Query>"
    sim.ask("MESSAGE", LOWER, body.encode(), "Content-Type: Application/MANSCDP+xml")
    answer, *rest = sim.take()
    assert answer.status == 200
    parts = []
    while rest:
        (message,) = rest
        text = re.sub(r"<\?xml.*?\?>", "", message.body.decode("gb18030"))
        parts.append(ElementTree.fromstring(text))  # noqa: S314 - our own simulator's text
        sim.answer(message, "200 OK")
        rest = sim.take()
    return parts


def items(parts: list[ElementTree.Element]) -> dict[str, ElementTree.Element]:
    found = {}
    for part in parts:
        listed = part.findall("DeviceList/Item")
        assert part.find("DeviceList") is None or len(listed) == int(part.find("DeviceList").attrib["Num"])  # type: ignore[union-attr]
        for item in listed:
            found[item.findtext("DeviceID") or ""] = item
    return found


def ready(platform: Inventory, transport: str) -> Script:
    sim = script(config(transport=transport), platform, transport)
    sim.register()
    return sim


@pytest.mark.parametrize(("transport", "least_parts"), [("udp", 12), ("tcp", 3)])
def test_the_catalogue_comes_in_parts_that_add_up(platform: Inventory, transport: str, least_parts: int) -> None:
    parts = catalogue(ready(platform, transport), LOWER)
    assert len(parts) >= least_parts
    found = items(parts)
    total = len(platform.items)
    assert len(found) == total == 3 + 1 + 1 + len(ORGANISATIONS) + len(CAMERAS)
    assert {part.findtext("SumNum") for part in parts} == {str(total)}
    assert {part.findtext("SN") for part in parts} == {"7"}
    assert {part.findtext("DeviceID") for part in parts} == {LOWER}


def test_messages_over_udp_stay_below_1300_octets(platform: Inventory) -> None:
    sim = ready(platform, "udp")
    assert len(catalogue(sim, LOWER)) >= 12
    assert max(sim.sizes) <= 1_300  # RFC 3261 §18.1.1


def test_the_tree_hangs_together(platform: Inventory) -> None:
    found = items(catalogue(ready(platform, "tcp"), LOWER))
    group = next(code for code in found if code[10:13] == "215")
    organisations = {code: item for code, item in found.items() if code[10:13] == "216"}
    cameras = {code: item for code, item in found.items() if code[10:13] == "131"}
    assert found[group].findtext("ParentID") == LOWER
    assert len(cameras) >= 12
    depths = set()
    for code, item in organisations.items():
        assert item.findtext("BusinessGroupID") == group
        depth, above = 1, item.findtext("ParentID")
        while above is not None:
            assert above in organisations
            depth, above = depth + 1, organisations[above].findtext("ParentID")
        depths.add(depth)
        assert any(code in (camera.findtext("ParentID") or "").split("/") for camera in cameras.values()) or any(
            below.findtext("ParentID") == code for below in organisations.values()
        )
    assert depths == {1, 2, 3}
    for camera in cameras.values():
        system, organisation = (camera.findtext("ParentID") or "").split("/")
        assert system == LOWER
        assert organisation in organisations
        assert camera.findtext("CivilCode") in found


def test_names_are_chinese_places_and_all_different(platform: Inventory) -> None:
    found = items(catalogue(ready(platform, "tcp"), LOWER))
    names = [item.findtext("Name") or "" for code, item in found.items() if code[10:13] == "131"]
    assert len(set(names)) == len(names)
    for kind in ("路口", "广场", "门"):
        assert sum(kind in name for name in names) >= 3


def test_every_camera_that_is_on_plays_and_the_one_that_is_off_does_not(platform: Inventory) -> None:
    states = {item.device_id.value: item.online for item in platform.items if item.device_id and item.info}
    assert {code for code, online in states.items() if online} == set(platform.cameras)
    assert len(states) - len(platform.cameras) == 1


def test_a_part_of_the_tree_can_be_asked_for(platform: Inventory) -> None:
    sim = ready(platform, "tcp")
    organisation = f"{LOWER[:10]}216{LOWER[13]}000001"
    below = items(catalogue(sim, organisation))
    assert {code[10:13] for code in below} == {"216", "131"}
    assert sum(code[10:13] == "131" for code in below) == 8
    assert len(items(catalogue(sim, f"{LOWER[:10]}131{LOWER[13]}000009"))) == 1
    division = items(catalogue(sim, "340202"))
    assert sum(code[10:13] == "131" for code in division) == 8


def test_asking_for_nothing_known_gives_an_empty_answer(platform: Inventory) -> None:
    (part,) = catalogue(ready(platform, "udp"), "34020100001310000999")
    assert part.findtext("SumNum") == "0"
    assert part.find("DeviceList") is None


def test_the_platform_registers_with_its_own_code(platform: Inventory) -> None:
    sim = script(config(), platform)
    sim.connect()
    request = sim.one()
    assert request.start == f"REGISTER sip:{SERVER}@{DOMAIN} SIP/2.0"
    assert f"sip:{LOWER}@{LOWER[:10]}" in request.headers["from"]
