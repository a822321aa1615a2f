"""The display trees of annex J, as the REST interface shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from sharing.people import Role
from tests.e2e.double import Text, catalog, device_info, double_at, item
from tests.e2e.rig import Client, Rig

PASSWORD = "lower Platform 2"
Nested = dict[str, Any]


@pytest.fixture(scope="module")
async def operator(rig: Rig) -> AsyncIterator[Client]:
    """An administrator: sees every tree whole."""
    async with rig.signed_in("operator", role=Role.ADMINISTRATOR) as client:
        yield client


def plain(code: str, name: str, **fields: str) -> str:
    """An item of a division or group: only the elements of its template."""
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f"<Item><DeviceID>{code}</DeviceID><Name>{name}</Name>{inner}</Item>\r\n"


async def tree(client: Client, mode: Literal["division", "group", "device"], parent: str | None = None) -> Nested:
    """{name: {…children…}} below a node, read level by level."""
    params = {"mode": mode} | ({"parent": parent} if parent else {})
    answer = await client.http.get("/channels/tree", params=params)
    assert answer.status_code == 200, answer.text
    return {
        node["name"]: await tree(client, mode, node["key"]) if node["child_count"] else {}
        for node in answer.json()["items"]
    }


async def listed(rig: Rig, code: str, items: list[str]) -> None:
    """A lower platform registers and lists `items`."""
    key = await rig.admit(code, PASSWORD, name=f"下级平台 {code[-3:]}")
    async with double_at(rig.sip, code, PASSWORD) as double:
        double.answers["DeviceInfo"] = device_info
        double.answers["Catalog"] = lambda query: parts(code, query, items)
        assert (await double.register())[1].status == 200
        await rig.synced(key, channels=2)


def parts(code: str, query: Text, items: list[str]) -> list[bytes]:
    return [catalog(code, query.field("SN"), [one], total=len(items)).encode("gb18030") for one in items]


async def test_CAT_10_division_tree(rig: Rig, operator: Client) -> None:
    lower = "34020000002000000910"
    await listed(
        rig,
        lower,
        [
            item("34020000001320000911", "街道相机", CivilCode="11010101", ParentID=lower),
            plain("110101", "东城区"),
            plain("11", "北京市"),
            item("34020000001320000912", "城区相机", CivilCode="110101", ParentID=lower),
            plain("11010101", "某街道"),
            plain("1101", "市辖区"),
        ],
    )
    street: Nested = {"街道相机": {}}
    district = {"某街道": street, "城区相机": {}}
    found = await tree(operator, "division")
    assert found["北京市"] == {"市辖区": {"东城区": district}}


async def test_CAT_11_group_tree(rig: Rig, operator: Client) -> None:
    lower, group = "34020000002000000920", "34020000002150000921"
    outer, inner = "34020000002160000922", "34020000002160000923"
    await listed(
        rig,
        lower,
        [
            item("34020000001320000924", "内层相机", CivilCode="340200", ParentID=f"{lower}/{inner}"),
            item("34020000001320000925", "外层相机", CivilCode="340200", ParentID=f"{lower}/{outer}"),
            plain(inner, "内层组织", ParentID=outer, BusinessGroupID=group),
            plain(outer, "外层组织", BusinessGroupID=group),
            plain(group, "业务分组", CivilCode="340200", ParentID=lower),
        ],
    )
    within: Nested = {"内层相机": {}}
    found = await tree(operator, "group")
    assert found["下级平台 920"]["业务分组"] == {"外层组织": {"内层组织": within, "外层相机": {}}}
