"""Live views: the decision, the ledger row, the camera, and only then the addresses of a picture.

The order is fixed (architecture section 3): `sharing.authorize` commits the intent row or the refusal's row before it
returns; `play.open` asks the camera under that lease; tickets are made last. Whatever fails after the lease exists
ends the lease, and so does a caller who leaves while waiting: nothing keeps playing to nobody.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from api.authority import GuardedRoute
from api.console_files import media_origins
from api.problems import Problem, conflict, not_found
from api.schemas import (
    Answer,
    Body,
    Cursor,
    Instant,
    Limit,
    PageOf,
    Purpose,
    StreamPath,
    instant,
    instant_or_none,
    slice_of,
)
from api.services import MediaTransport, Output, Services
from api.sessions import Backend, Caller, CurrentUser, Principal
from api.views import View
from catalog.model import Channel
from media.session import MediaError
from sharing.lease import Action, Client, Lease, Refusal
from sharing.people import Role
from sipserver.play import PlayError
from sipserver.protocol.ids import ChannelKey, LeaseKey, StreamKey, is_key

log = structlog.get_logger("mingjian.api")

router = APIRouter(prefix="/api/v1/streams", route_class=GuardedRoute, tags=["streams"])


class StreamIn(Body):
    """Asks to see a channel now. The purpose goes into the ledger with the caller's name."""

    channel: Annotated[str, StringConstraints(max_length=64)] = Field(examples=["chn_abcdefghij234567abcd"])
    purpose: Purpose = Field(
        description="A purpose code, optionally followed by a text: `DUTY_WATCH: 夜班巡看`.", examples=["DUTY_WATCH"]
    )
    transport: MediaTransport | None = Field(
        default=None, description="How the camera shall send; leave out for the device's own setting."
    )


class Urls(Answer):
    """Where to fetch the picture. Each address holds a ticket: good once, for half a minute, for this caller."""

    flv: str = Field(examples=["http://192.0.2.10:8081/live/….flv"])
    ws_fmp4: str = Field(examples=["ws://192.0.2.10:8081/live/….mp4"])
    http_fmp4: str = Field(examples=["http://192.0.2.10:8081/live/….mp4"])


class SourceOut(Answer):
    """What the camera sends, as far as it is known yet."""

    codec: str | None = Field(default=None, examples=["H264"])
    audio: str | None = Field(default=None, examples=["G711A"])


class StreamOut(Answer):
    """One view: one person, one channel, one lease."""

    id: str = Field(examples=["lea_abcdefghij234567abcd"])
    channel: str
    state: Literal["opening", "open", "ended"]
    ledger_seq: int = Field(description="Row of the access ledger that was written before the first picture.")
    opened_at: Instant
    expires_at: Instant | None = Field(
        default=None, description="The lease is decided anew before this time, as long as the view is open."
    )
    source: SourceOut | None = None
    audio: Literal["granted", "stripped"] = Field(
        description="Whether the picture comes with its sound; a right of its own that can end before the view does.",
        examples=["stripped"],
    )
    end_reason: str | None = None
    ended_at: Instant | None = None
    articles: list[str] = Field(default_factory=list)


class OpenedOut(StreamOut):
    """A view that has just been opened, with the addresses of its picture."""

    urls: Urls


class TicketsOut(Answer):
    """Fresh addresses for a view that is open, after a connection was lost."""

    urls: Urls
    expires_at: Instant = Field(description="End of the tickets' life.")


def refusal_problem(refusal: Refusal) -> Problem:
    """A hidden channel is answered exactly like one that does not exist."""
    if refusal.http_status == 404:
        return not_found()
    headers = (("Retry-After", "5"),) if refusal.http_status == 503 else ()
    return Problem(
        status=refusal.http_status,
        code=refusal.code,
        detail=refusal.reason,
        articles=refusal.articles,
        headers=headers,
    )


def _source(services: Services, stream: StreamKey | None) -> SourceOut | None:
    stats = services.source_stats(stream) if stream is not None else None
    return None if stats is None else SourceOut(codec=stats.codec, audio=stats.audio_codec)


def _out(services: Services, view: View) -> StreamOut:
    lease = {lease.key: lease for lease in services.sharing.leases()}.get(view.key)
    not_after = None if lease is None else lease.not_after
    return StreamOut(
        id=view.key,
        channel=view.channel,
        state=view.state,
        ledger_seq=view.ledger_seq,
        opened_at=instant(view.opened_at),
        expires_at=instant_or_none(not_after if view.state != "ended" else None),
        source=_source(services, view.stream) if view.state == "open" else None,
        audio="granted" if (view if lease is None else lease).audio else "stripped",
        end_reason=view.end_reason,
        ended_at=instant_or_none(view.ended_at),
        articles=list(view.articles),
    )


def _origins(services: Services, request: Request) -> tuple[str, str]:
    """Where the caller reaches the media port: an http and a ws origin. Asked before anything is decided."""
    origins = media_origins(request, services.config.media_port, services.config.media_origin)
    if origins is None:
        raise Problem(status=400, code="host_unusable", detail="The Host header names no host.")
    return origins


def _urls(services: Services, origins: tuple[str, str], client: Client, key: LeaseKey) -> Urls:
    """One ticket an output. Bound to the caller's address unless a proxy stands before the media port."""
    config = services.config
    http, websocket = origins
    ip = None if config.media_origin else _unmapped(client.ip)

    def path(output: Output) -> str:
        return services.play.ticket(key, output, client_ip=ip, ttl=config.ticket_ttl)

    return Urls(flv=http + path("flv"), ws_fmp4=websocket + path("ws-fmp4"), http_fmp4=http + path("http-fmp4"))


def _unmapped(ip: str | None) -> str | None:
    """The form in which the engine sees the same caller (RFC 4291 section 2.5.5.2)."""
    return ip.removeprefix("::ffff:") if ip is not None else None


async def _opened(
    services: Services, request: Request, lease: Lease, channel: Channel, transport: MediaTransport | None
) -> View:
    """Asks the camera, for as long as the caller waits. However this ends badly, the lease has ended with it."""
    opening = asyncio.ensure_future(services.play.open(lease, channel, transport=transport))
    leaving = asyncio.ensure_future(_left(request))
    try:
        async with asyncio.timeout(services.config.open_timeout):
            await asyncio.wait({opening, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            raise Problem(status=408, code="caller_left", detail="The caller left before the camera answered.")
        source = opening.result()
    except TimeoutError as error:
        raise Problem(status=504, code="open_timeout", detail="The camera did not answer in time.") from error
    finally:
        # cancelling an open that has not ended ends its lease, and its INVITE when nobody else waits for it
        opening.cancel()
        leaving.cancel()
        await asyncio.gather(opening, leaving, return_exceptions=True)
    view = services.views.opened(lease.key, source.key)
    if view is None:
        raise conflict("stream_ended", "The stream ended while it was being opened.")
    return view


async def _left(request: Request) -> None:
    """Returns when the caller has closed the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _transport(services: Services, channel: Channel, body: StreamIn) -> MediaTransport | None:
    """What the request says, else what the device is provisioned with, else the platform's own setting (None)."""
    if body.transport is not None:
        return body.transport
    device = await services.store.device(channel.device)
    chosen = device.media_transport if device is not None else None
    return "tcp-passive" if chosen == "tcp-passive" else "udp" if chosen == "udp" else None


@router.post("", status_code=201, summary="See a channel now")
async def open_stream(
    body: StreamIn, request: Request, services: Backend, me: CurrentUser, client: Caller
) -> OpenedOut:
    """Decides, records, asks the camera, and answers with the addresses of the picture.

    403 with `code` and `articles` when a rule refuses; the refusal is a ledger row too. 502 or 504 when the camera
    refuses or does not answer. A caller who leaves while waiting ends the view.
    """
    if not is_key(body.channel, "chn"):
        raise not_found()
    with services.views.place(me.key, services.config.max_views_per_user) as free:
        if not free:
            raise conflict("too_many_streams", "This account has as many open views as one account may have.")
        return await _decide_and_open(body, request, services, me, client)


async def _decide_and_open(
    body: StreamIn, request: Request, services: Services, me: Principal, client: Client
) -> OpenedOut:
    channel_key = ChannelKey(body.channel)
    origins = _origins(services, request)
    decision = await services.sharing.authorize(me.key, channel_key, Action.VIEW_LIVE, body.purpose, client)
    if isinstance(decision, Refusal):
        request.app.state.metrics.refusals.labels(code=decision.code).inc()
        raise refusal_problem(decision)
    services.views.opening(decision, session_id=me.session_id)
    try:
        channel = await services.store.channel(channel_key)
        if channel is None:
            raise not_found()
        transport = await _transport(services, channel, body)
        view = await _opened(services, request, decision, channel, transport)
        urls = _urls(services, origins, client, decision.key)
    except BaseException as error:
        # the lease exists, so it must end, even when this very task is being cancelled
        reason = error.code if isinstance(error, PlayError | MediaError | Problem) else "request_failed"
        try:
            await services.play.close(decision.key, reason=reason)
        finally:
            services.completion.on_lease_end(decision.key, reason)
        raise
    return OpenedOut(**_out(services, view).model_dump(), urls=urls)


@router.get("", summary="Open views")
async def streams(services: Backend, me: CurrentUser, cursor: Cursor = None, limit: Limit = 100) -> PageOf[StreamOut]:
    """One's own; an administrator sees all, without seeing any picture."""
    owner = None if me.holds(Role.ADMINISTRATOR) else me.key
    found, following = slice_of(services.views.open_views(user=owner), lambda view: view.key, cursor, limit)
    return PageOf(items=[_out(services, view) for view in found], next_cursor=following)


def _mine(services: Services, me: Principal, key: str) -> View:
    """The view if the caller owns it or administers; another's view is not found, like none at all."""
    view = services.views.get(LeaseKey(key))
    if view is None or not (view.user == me.key or me.holds(Role.ADMINISTRATOR)):
        raise not_found()
    return view


@router.get("/{key}", summary="One view")
async def read(key: StreamPath, services: Backend, me: CurrentUser) -> StreamOut:
    """Also a view that has ended lately, with the reason. Another's view is 404."""
    return _out(services, _mine(services, me, key))


@router.delete("/{key}", status_code=204, summary="End a view")
async def close(key: StreamPath, services: Backend, me: CurrentUser) -> None:
    """By its owner, or by an administrator who revokes it. Ending what has ended is no error."""
    view = _mine(services, me, key)
    if view.state != "ended":
        await services.play.close(view.key, reason="viewer_closed" if view.user == me.key else "revoked")
        await services.completion.finished(view.key)


@router.post("/{key}/tickets", status_code=201, summary="Fresh addresses for an open view")
async def tickets(key: StreamPath, request: Request, services: Backend, me: CurrentUser, client: Caller) -> TicketsOut:
    """For a lost connection; only for the owner, and only while the lease stands. 409 when the view has ended."""
    view = _mine(services, me, key)
    if view.state != "open":
        raise conflict("stream_ended", "The view is not open.")
    origins = _origins(services, request)
    renewed = await services.sharing.renew(view.key)
    if isinstance(renewed, Refusal):
        services.completion.refused(view.key, renewed)
        await services.play.close(view.key, reason=renewed.code)
        raise refusal_problem(renewed)
    urls = _urls(services, origins, client, view.key)
    return TicketsOut(urls=urls, expires_at=instant(services.clock() + services.config.ticket_ttl))
