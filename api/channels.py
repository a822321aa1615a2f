"""Channels and their trees, within what the caller may know of; what lies outside does not exist for the caller."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from api.authority import GuardedRoute
from api.problems import invalid, not_found
from api.schemas import Answer, AnyKey, ChannelPath, Cursor, Limit, PageOf, SearchText
from api.sessions import Backend, CurrentUser
from catalog.model import Channel, ChannelFilter, NodeKey, TreeMode, TreeNode
from sipserver.protocol.ids import ChannelKey, DeviceKey

router = APIRouter(prefix="/api/v1/channels", route_class=GuardedRoute, tags=["channels"])

Status = Literal["online", "offline"]
NodeStatus = Literal["online", "offline", "unknown"]


class ChannelOut(Answer):
    """A channel as the console shows it. Address codes and positions are base information and not part of it."""

    key: str = Field(examples=["chn_abcdefghij234567abcd"])
    device: str = Field(examples=["dev_abcdefghij234567abcd"])
    name: str = Field(examples=["东门入口"])
    kind: str = Field(examples=["camera"])
    status: Status
    playable: bool = Field(description="A live picture can be asked for.")
    ptz_type: int | None = Field(
        default=None, description="GB/T 28181 PTZType: 1 dome, 2 half dome, 3 fixed, 4 remote.", examples=[1]
    )


class TreeNodeOut(Answer):
    """A node of one of the three trees of GB/T 28181 annex J."""

    key: str
    name: str = Field(examples=["合肥市"])
    kind: str = Field(examples=["division"])
    parent: str | None
    status: NodeStatus
    playable: bool
    child_count: int


def _out(channel: Channel) -> ChannelOut:
    ptz = channel.ptz_type
    return ChannelOut(
        key=channel.key,
        device=channel.device,
        name=channel.name,
        kind=channel.kind,
        status="online" if channel.online else "offline",
        playable=channel.playable,
        ptz_type=int(ptz) if ptz is not None and ptz.isascii() and ptz.isdigit() and len(ptz) < 4 else None,
    )


_STATUS: dict[str | None, NodeStatus] = {"on": "online", "off": "offline", None: "unknown"}


def _node(node: TreeNode) -> TreeNodeOut:
    return TreeNodeOut(
        key=node.key,
        name=node.name,
        kind=node.kind,
        parent=node.parent,
        status=_STATUS[node.status],
        playable=node.playable,
        child_count=node.child_count,
    )


@router.get("", summary="Channels by name")
async def channels(
    *,
    services: Backend,
    me: CurrentUser,
    q: Annotated[SearchText | None, Query(description="Part of the name.")] = None,
    device: Annotated[AnyKey | None, Query(description="Only the channels of this device.")] = None,
    status: Annotated[Status | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> PageOf[ChannelOut]:
    """Cameras within the caller's scope. Neither items nor counts tell of anything outside it."""
    wanted = ChannelFilter(
        text=q or None,
        device=DeviceKey(device) if device else None,
        online=None if status is None else status == "online",
    )
    within = await services.sharing.within(me.key)
    try:
        page = await services.store.channels(wanted, cursor=cursor or None, limit=limit, within=within)
    except ValueError as error:
        raise invalid("query.cursor", "The cursor is not one of ours.") from error
    return PageOf(items=[_out(channel) for channel in page.items], next_cursor=page.cursor)


@router.get("/tree", summary="Children of a tree node")
async def tree(
    *,
    services: Backend,
    me: CurrentUser,
    parent: Annotated[AnyKey | None, Query(description="Key of the node; leave out for the top.")] = None,
    mode: Annotated[TreeMode, Query(description="Divisions, business groups, or devices.")] = "device",
    cursor: Cursor = None,
    limit: Limit = 500,
) -> PageOf[TreeNodeOut]:
    """One level of a tree. An unknown node, or one outside the caller's scope, has no children."""
    within = await services.sharing.within(me.key)
    node = NodeKey(parent) if parent else None
    try:
        page = await services.store.tree(node, mode=mode, cursor=cursor or None, limit=limit, within=within)
    except ValueError as error:
        raise invalid("query.cursor", "The cursor is not one of ours.") from error
    return PageOf(items=[_node(item) for item in page.items], next_cursor=page.cursor)


@router.get("/{key}", summary="One channel")
async def read(key: ChannelPath, services: Backend, me: CurrentUser) -> ChannelOut:
    """404 also for a channel outside the caller's scope, in the same bytes."""
    within = await services.sharing.within(me.key)
    channel = await services.store.channel(ChannelKey(key), within=within)
    if channel is None:
        raise not_found()
    return _out(channel)
