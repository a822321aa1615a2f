"""Live events as a `text/event-stream`: what happened to devices and channels one may know of, and to one's own views.

Events may be lost (the database knows everything they say); a client that was too slow gets one `lagged` event and
reads anew. The session is looked at again with every heartbeat, so a stream outlives its session by that at most.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from api.authority import GuardedRoute
from api.eventbus import BusClosed, Lagged, Subscription, TooManySubscribers
from api.metrics import HttpMetrics
from api.problems import unavailable
from api.schemas import instant
from api.services import Services
from api.sessions import Backend, CurrentUser, Principal
from api.views import ViewEnded
from catalog.events import StreamEnded, StreamStarted
from catalog.model import ChannelFilter
from sharing.people import Role
from sipserver.protocol.ids import ChannelKey, DeviceKey, is_key

log = structlog.get_logger("mingjian.api")

router = APIRouter(prefix="/api/v1", route_class=GuardedRoute, tags=["events"])

MAX_REMEMBERED: Final = 4096
REMEMBER_SECONDS: Final = 30.0

# The camera's stream and a person's view of it end separately; the console is told of the view as "stream".
_KINDS: Final[dict[type, str]] = {
    StreamStarted: "source_started",
    StreamEnded: "source_ended",
    ViewEnded: "stream_ended",
}


def kind_of(event: object) -> str:
    """`DeviceOnline` → `device_online`, with the exceptions above."""
    name = _KINDS.get(type(event))
    return name or re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def payload(event: Any) -> dict[str, Any]:
    """The members of an event as JSON values; a view's key appears as `stream`, its owner does not appear."""
    data = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    data["at"] = instant(data["at"])
    if isinstance(event, ViewEnded):
        data["stream"] = data.pop("view")
        data.pop("user")
        data["articles"] = list(event.articles)
    return {"kind": kind_of(event), **data}


def frame(kind: str, data: dict[str, Any]) -> bytes:
    """One event of the HTML Living Standard, 9.2.6; JSON has no line breaks, so one data line is enough."""
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Scope:
    """Which events one caller may get. Answers about channels and devices are remembered for half a minute."""

    def __init__(self, services: Services, me: Principal) -> None:
        self._services = services
        self._me = me
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    async def admits(self, event: object) -> bool:
        if isinstance(event, ViewEnded):
            return event.user == self._me.key
        if self._me.holds(Role.ADMINISTRATOR):
            return True
        if not self._me.holds(Role.WATCHER):
            return False
        channel = getattr(event, "channel", None)
        if isinstance(channel, str):
            return await self._remembered(channel, self._channel)
        device = getattr(event, "device", None)
        return isinstance(device, str) and await self._remembered(device, self._device)

    async def _remembered(self, key: str, ask: Callable[[str], Awaitable[bool]]) -> bool:
        now = self._services.clock()
        known = self._known.get(key)
        if known is not None and known[1] > now:
            return known[0]
        answer = await ask(key)
        self._known[key] = (answer, now + REMEMBER_SECONDS)
        self._known.move_to_end(key)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return answer

    async def _channel(self, key: str) -> bool:
        within = await self._services.sharing.within(self._me.key)
        return is_key(key, "chn") and await self._services.store.channel(ChannelKey(key), within=within) is not None

    async def _device(self, key: str) -> bool:
        within = await self._services.sharing.within(self._me.key)
        wanted = ChannelFilter(device=DeviceKey(key), playable=None)
        page = await self._services.store.channels(wanted, limit=1, within=within)
        return bool(page.items)


async def _frames(services: Services, me: Principal, bus: Subscription, metrics: HttpMetrics) -> AsyncIterator[bytes]:
    scope = Scope(services, me)
    loop = asyncio.get_running_loop()
    beat = loop.time() + services.config.heartbeat
    with bus, metrics.live_clients.track_inprogress():
        yield b": connected\n\n"
        while True:
            try:
                # by deadline, not by pause: events this caller may not get must not put the heartbeat off
                async with asyncio.timeout_at(beat):
                    event = await bus.next()
            except TimeoutError:
                if await services.people.session(me.token) is None:
                    return
                beat = loop.time() + services.config.heartbeat
                yield b": heartbeat\n\n"
                continue
            except BusClosed:
                return
            if isinstance(event, Lagged):
                metrics.lagged.inc(event.lost)
                yield frame("lagged", {"kind": "lagged", "lost": event.lost})
            elif await scope.admits(event):
                yield frame(kind_of(event), payload(event))


@router.get(
    "/events",
    summary="Live events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Kinds: device_online, device_offline, catalog_progress, catalog_synced, "
            "catalog_sync_failed, channel_changed, alarm_raised, alarm_acknowledged, position_changed, "
            "camera_turned, subscription_changed, order_ended, upload_requested, source_started, "
            "source_ended, stream_ended (own views), lagged (events were dropped: read anew).",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: device_online\ndata: {"kind":"device_online",'
                    '"device":"dev_abcdefghij234567abcd","at":"2026-11-21T08:00:00.000Z"}\n\n',
                }
            },
        }
    },
)
async def events(request: Request, services: Backend, me: CurrentUser) -> StreamingResponse:
    """An endless stream with a comment line every 15 seconds. Needs the bearer header, so use `fetch`."""
    try:
        bus = services.bus.subscribe()
    except (TooManySubscribers, BusClosed) as error:
        raise unavailable("events_unavailable", "No more live connections are possible now.") from error
    metrics: HttpMetrics = request.app.state.metrics
    return StreamingResponse(_frames(services, me, bus, metrics), media_type="text/event-stream",
                             headers={"X-Accel-Buffering": "no"})  # fmt: skip
