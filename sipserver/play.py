"""Live play: one INVITE per channel whatever the number of viewers, and an end for everything that was begun.

GB/T 28181-2022 §9.2 and annexes G, K, L. Every lease handed to open() gets exactly one `on_lease_end`, whether the
picture came or not. Nothing here polls: the waits are for the device's answer and for timers.

End reasons (on_lease_end, StreamEnded): those given to close(), source_lost, device_bye, device_offline, stopped,
lease_expired, no_media, and the codes of PlayError.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Protocol

import structlog

from catalog.events import StreamEnded, StreamStarted
from catalog.model import Channel
from media.session import MediaAddress, MediaError, MediaEvent, Output, Transport
from media.session import ViewStats as EngineViewStats
from sharing.lease import Lease, ViewStats
from sipserver.protocol import sdp
from sipserver.protocol.endpoint import (
    DialogEnded,
    Event,
    Flow,
    InviteAccepted,
    InviteCancelled,
    InviteProvisional,
    InviteRejected,
    TransactionTimedOut,
    TransportFailed,
)
from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.ids import DeviceKey, GbId, LeaseKey, Ssrc, StreamKey, new_key
from sipserver.protocol.message import Response, Uri
from sipserver.streams import (
    VIEWER_LEFT,
    LiveStream,
    NumberPool,
    PlayConfig,
    PlayError,
    Source,
    StreamState,
    refusal_of,
)

__all__ = ["LivePlay", "LiveStream", "PlayConfig", "PlayError", "StreamState"]

log = structlog.get_logger("mingjian.play")

OnLeaseEnd = Callable[[LeaseKey, str, ViewStats], None]


class Bindings(Protocol):
    """Where registered devices are: the flow of the device's last registration or keepalive, None when offline."""

    def flow(self, key: DeviceKey, /) -> Flow | None: ...


class Signalling(Protocol):
    """The part of SipTransport that live play uses."""

    def invite(self, *, target: Uri, to: GbId, flow: Flow, sdp: bytes, subject: str) -> str: ...
    def ack(self, dialog: str) -> None: ...
    def cancel(self, dialog: str) -> None: ...
    def bye(self, dialog: str, *, flow: Flow | None = None) -> str: ...


class Media(Protocol):
    """The part of MediaPlane that live play uses."""

    def open_session(
        self,
        *,
        session: StreamKey,
        ssrc: int,
        transport: Transport,
        sources: list[str],
        lease: Lease,
        private_port: bool = False,
    ) -> MediaAddress: ...
    def set_ssrc(self, session: StreamKey, ssrc: int) -> None: ...
    def add_source(self, session: StreamKey, ip: str) -> None: ...
    def grant(self, session: StreamKey, lease: Lease) -> bool: ...
    def renew(self, lease_key: LeaseKey, not_after: float, *, audio: bool) -> None: ...
    def release(self, lease_key: LeaseKey, reason: str) -> EngineViewStats: ...
    def revoke(self, lease_key: LeaseKey, reason: str) -> EngineViewStats: ...
    def close_session(self, session: StreamKey, reason: str) -> None: ...
    def ticket(self, lease_key: LeaseKey, output: Output, *, client_ip: str | None = None, ttl: float = 30) -> str: ...


class Timers(Protocol):
    """call_later of the event loop; tests pass a written one."""

    def __call__(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle: ...


def _loop_timers(delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, callback)


def usable_source(text: str | None) -> str | None:
    """An address media can come from: unicast and specified; else None (facts §31.3: empty, 0.0.0.0, multicast)."""
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    return None if address.is_unspecified or address.is_multicast or address.is_reserved else str(address)


class LivePlay:
    """All live streams of this node. Call on_event() with SIP events, on_media_event() with the engine's events and
    device_offline() when a device is gone."""

    def __init__(
        self,
        *,
        transport: Signalling,
        bindings: Bindings,
        media: Media,
        identity: GbId,
        config: PlayConfig,
        clock: Callable[[], float],
        publish: Callable[[StreamStarted | StreamEnded], None],
        token: Callable[[int], str],
        on_lease_end: OnLeaseEnd,
        ask_key_frame: Callable[[DeviceKey, GbId], None] = lambda device, channel: None,
        call_later: Timers = _loop_timers,
    ) -> None:
        """publish, on_lease_end and ask_key_frame must not block and not raise.

        on_lease_end leads to the ledger's completion row; ask_key_frame(device, channel) asks a running camera for a
        key picture (§9.3, IFrameCmd), because a viewer came for whom none is at hand.
        """
        self._transport = transport
        self._bindings = bindings
        self._media = media
        self._identity = identity
        self._config = config
        self._clock = clock
        self._publish = publish
        self._token = token
        self._on_lease_end = on_lease_end
        self._ask_key_frame = ask_key_frame
        self._call_later = call_later
        self._numbers = NumberPool()
        self._sources: dict[StreamKey, Source] = {}
        self._by_channel: dict[str, Source] = {}  # only sources that viewers may join
        self._by_dialog: dict[str, Source] = {}  # also those that are closing
        self._by_lease: dict[LeaseKey, Source] = {}

    # what the API calls

    async def open(self, lease: Lease, channel: Channel, *, transport: Transport | None = None) -> LiveStream:
        """The stream of the channel, joined or asked for; returns with the device's 200. Raises PlayError.

        When it raises (CancelledError too) the lease has ended and on_lease_end was called.
        """
        source = self._by_lease.get(lease.key) or self._by_channel.get(channel.key)
        try:
            if source is None:
                source = self._start(lease, channel, transport or self._config.transport)
            elif lease.key not in source.leases:
                self._join(source, lease)
        except PlayError as error:
            self._on_lease_end(lease.key, error.code, ViewStats())
            raise
        try:
            await asyncio.shield(source.answered)
        except asyncio.CancelledError:
            self._end_lease(lease.key, "viewer_left")
            raise
        if lease.key not in source.leases:
            raise PlayError("stream_ended", 409)
        return source.snapshot()

    async def close(self, lease_key: LeaseKey, *, reason: str) -> None:
        """End one view; harmless when it is over. The last one leads to CANCEL at once or to BYE after the grace.

        During the grace nothing goes out. After a reason of VIEWER_LEFT the engine goes on receiving (until the end
        decided for the lease), so that a viewer who comes back has a picture at once; after any other it receives
        nothing either.
        """
        self._end_lease(lease_key, reason)

    def renew(self, lease: Lease) -> None:
        """Move a lease's end in the engine. Raises MediaError."""
        self._media.renew(lease.key, lease.not_after, audio=lease.audio)

    def ticket(self, lease_key: LeaseKey, output: Output, *, client_ip: str | None = None, ttl: float = 30) -> str:
        """Path of one output for one viewer. Raises MediaError (lease_over)."""
        return self._media.ticket(lease_key, output, client_ip=client_ip, ttl=ttl)

    def streams(self) -> list[LiveStream]:
        """Every stream that viewers may join or that has viewers, oldest first."""
        return [source.snapshot() for source in self._by_channel.values()]

    def stream_of(self, lease_key: LeaseKey) -> LiveStream | None:
        source = self._by_lease.get(lease_key)
        return None if source is None else source.snapshot()

    def load(self) -> dict[str, int]:
        """Sizes, for metrics and tests. Everything is 0 when nothing runs."""
        return {
            "streams": len(self._by_channel),
            "sources": len(self._sources),
            "dialogs": len(self._by_dialog),
            "leases": len(self._by_lease),
            "numbers": len(self._numbers),
        }

    async def stop(self) -> None:
        """End every stream (BYE to every device)."""
        for source in tuple(self._by_channel.values()):
            self._end(source, "stopped")

    # starting and joining

    def _start(self, lease: Lease, channel: Channel, transport: Transport) -> Source:
        if not channel.gb_id.is_standard:
            raise PlayError("channel_not_playable", 409)
        flow = self._bindings.flow(channel.device)
        if flow is None:
            raise PlayError("device_offline", 503)
        number = self._numbers.take() if len(self._sources) < self._config.max_streams else None
        if number is None:
            raise PlayError("streams_full", 503)
        source = Source(
            key=StreamKey(new_key("str", self._token)),
            channel=channel,
            flow=flow,
            transport=transport,
            ssrc=Ssrc.compose(self._identity, history=False, number=number),
            number=number,
            started_at=self._clock(),
            answered=asyncio.get_running_loop().create_future(),
        )
        source.answered.add_done_callback(_looked_at)
        try:
            self._ask(source, lease)
        except (MediaError, LocalProtocolError) as error:
            self._numbers.give_back(number)
            code = error.code if isinstance(error, MediaError) else error.reason
            log.error("live_not_started", channel=channel.key, cause=code)
            raise PlayError("media_refused" if isinstance(error, MediaError) else "streams_full", 503) from error
        source.leases.add(lease.key)
        self._by_lease[lease.key] = source
        self._sources[source.key] = source
        self._by_channel[channel.key] = source
        source.timer = self._call_later(self._config.answer_timeout, lambda: self._no_answer(source))
        return source

    def _ask(self, source: Source, lease: Lease) -> None:
        """Open the way in, then INVITE. Undoes the first when the second fails."""
        channel, flow = source.channel, source.flow
        address = self._media.open_session(
            session=source.key,
            ssrc=source.ssrc.value,
            transport=source.transport,
            sources=[flow.remote[0]],
            lease=lease,
            private_port=self._config.private_port,
        )
        offer = sdp.live_offer(
            owner=self._identity,
            # A node without a configured public address is reached where signalling reaches it.
            address=usable_source(address.host) or flow.local[0],
            port=address.port,
            ssrc=source.ssrc,
            transport=source.transport,
            stream_number=self._config.stream_number,
        )
        subject = f"{channel.gb_id.value}:{source.ssrc.text},{self._identity.value}:{source.number}"
        target = Uri(user=channel.gb_id.value, host=flow.remote[0], port=flow.remote[1])
        try:
            source.dialog = self._transport.invite(
                target=target, to=channel.gb_id, flow=flow, sdp=offer.to_bytes(), subject=subject
            )
        except LocalProtocolError:
            self._close_session(source, "not_invited")
            raise
        self._by_dialog[source.dialog] = source
        log.info("live_asked", stream=source.key, channel=channel.key, transport=source.transport, lease=lease.key)

    def _join(self, source: Source, lease: Lease) -> None:
        try:
            warm = self._media.grant(source.key, lease)
        except MediaError as error:
            raise PlayError("media_refused", 503) from error
        if source.first_frame_at is not None and not warm:
            self._ask_key_frame(source.channel.device, source.channel.gb_id)
        source.leases.add(lease.key)
        self._by_lease[lease.key] = source
        if source.state is StreamState.LINGERING:
            source.state = StreamState.LIVE
            source.stop_timer()
            self._expect_media(source)

    # SIP events

    def on_event(self, event: Event) -> bool:
        """True when the event belonged to a live stream; then nobody else need look at it."""
        dialog = getattr(event, "dialog", None)
        source = self._by_dialog.get(dialog) if isinstance(dialog, str) else None
        if source is None:
            return False
        if isinstance(event, InviteAccepted):
            self._accepted(source, event.dialog, event.response)
        elif isinstance(event, InviteRejected):
            self._forget_dialog(source)
            self._end(source, refusal_of(event.status).code, refusal_of(event.status))
        elif isinstance(event, InviteCancelled):
            self._forget_dialog(source)
        elif isinstance(event, DialogEnded):
            self._forget_dialog(source)
            self._end(source, "device_bye" if event.by == "peer" else event.reason)
        elif isinstance(event, TransactionTimedOut | TransportFailed):
            if source.state is not StreamState.INVITING:
                return True  # the BYE's: DialogEnded tells the rest
            self._forget_dialog(source)
            timed_out = isinstance(event, TransactionTimedOut)
            error = PlayError("device_no_answer", 504) if timed_out else PlayError("device_unreachable", 503)
            self._end(source, error.code, error)
        else:
            return isinstance(event, InviteProvisional)
        return True

    def _accepted(self, source: Source, dialog: str, response: Response) -> None:
        if source.state is not StreamState.INVITING:
            return  # cancelled in this very moment; the core hangs up
        self._transport.ack(dialog)
        source.answered_at = self._clock()
        try:
            self._follow_answer(source, response)
        except (PlayError, MediaError) as error:
            fault = error if isinstance(error, PlayError) else PlayError("answer_unusable", 502)
            log.warning("live_answer_unusable", stream=source.key, channel=source.channel.key, cause=str(error))
            self._end(source, fault.code, fault)
            return
        source.state = StreamState.LIVE
        source.stop_timer()
        self._expect_media(source)
        log.info("live_answered", stream=source.key, seconds=round(source.answered_at - source.started_at, 3))
        if not source.answered.done():
            source.answered.set_result(None)

    def _follow_answer(self, source: Source, response: Response) -> None:
        """Take SSRC and source address from the device's SDP; anything else odd in it is let pass (facts §31.3)."""
        try:
            answer = sdp.parse(response.body)
        except RemoteProtocolError as error:
            raise PlayError("answer_unusable", 502) from error
        media = answer.primary
        if media is None or media.port == 0:
            raise PlayError("answer_unusable", 502)
        if source.transport == "tcp-passive" and media.setup == "passive":
            raise PlayError("answer_unusable", 502)  # both would wait for the other to dial (附录D)
        # 附录G note 16: the called domain chooses. Without y= the offered value stays.
        if answer.ssrc is not None and answer.ssrc != source.ssrc:
            self._media.set_ssrc(source.key, answer.ssrc.value)
            source.ssrc = answer.ssrc
        sender = usable_source(answer.media_ip)
        if sender is not None and sender != source.flow.remote[0]:
            self._media.add_source(source.key, sender)

    def _no_answer(self, source: Source) -> None:
        source.timer = None
        if source.state is StreamState.INVITING:
            self._end(source, "device_no_answer", PlayError("device_no_answer", 504))

    def _expect_media(self, source: Source) -> None:
        """The engine watches a stream that has begun; one that never begins is ours to notice."""
        if not source.packets_seen:
            source.timer = self._call_later(self._config.first_packet_timeout, lambda: self._no_media(source))

    def _no_media(self, source: Source) -> None:
        source.timer = None
        if not source.packets_seen:
            self._end(source, "no_media")

    # engine and device events

    def on_media_event(self, event: MediaEvent) -> None:
        """Events of sessions that are not ours are let pass."""
        source = self._sources.get(event.session)
        if source is None:
            return
        if event.kind in ("source_started", "first_frame"):
            source.packets_seen = True
            if source.state is StreamState.LIVE:
                source.stop_timer()
        if event.kind == "first_frame" and source.first_frame_at is None:
            source.first_frame_at = self._clock()
            log.info("live_first_frame", stream=source.key, seconds=round(source.first_frame_at - source.started_at, 3))
            self._publish(StreamStarted(stream=source.key, channel=source.channel.key, at=source.first_frame_at))
        elif event.kind == "source_lost":
            self._end(source, "source_lost")
        elif event.kind == "lease_expired" and event.lease is not None:
            self._end_lease(event.lease, "lease_expired")

    def device_offline(self, device: DeviceKey) -> None:
        """The device's registration is over: all its streams end (附录K b)."""
        for source in tuple(self._by_channel.values()):
            if source.channel.device == device:
                self._end(source, "device_offline", PlayError("device_offline", 503))

    # ending

    def _end_lease(self, lease_key: LeaseKey, reason: str) -> None:
        source = self._by_lease.pop(lease_key, None)
        if source is None:
            return
        source.leases.discard(lease_key)
        self._stop_view(lease_key, reason)
        if source.leases:
            return
        if source.state is StreamState.INVITING:
            self._end(source, reason, PlayError("viewer_left", 410))
        elif source.state is StreamState.LIVE:
            source.state = StreamState.LINGERING
            source.stop_timer()
            source.timer = self._call_later(self._config.grace, lambda: self._grace_over(source, reason))

    def _grace_over(self, source: Source, reason: str) -> None:
        source.timer = None
        if source.state is StreamState.LINGERING:
            self._end(source, reason)

    def _stop_view(self, lease_key: LeaseKey, reason: str) -> None:
        try:
            stop = self._media.release if reason in VIEWER_LEFT else self._media.revoke
            found = stop(lease_key, reason)
            stats = ViewStats(
                bytes=found.bytes,
                frames=found.frames,
                dropped=found.dropped,
                seconds=found.seconds,
                viewers=found.viewers,
            )
        except MediaError as error:
            log.error("view_not_stopped", lease=lease_key, cause=error.code)
            stats = ViewStats()
        self._on_lease_end(lease_key, reason, stats)

    def _end(self, source: Source, reason: str, error: PlayError | None = None) -> None:
        """End a stream for everybody. Its number stays taken until the dialog is over, so that late packets of this
        stream cannot fall into another."""
        if source.state is StreamState.CLOSING:
            return
        source.state = StreamState.CLOSING
        source.stop_timer()
        if self._by_channel.get(source.channel.key) is source:
            del self._by_channel[source.channel.key]
        for lease_key in tuple(source.leases):
            self._by_lease.pop(lease_key, None)
            self._stop_view(lease_key, reason)
        source.leases.clear()
        self._close_session(source, reason)
        self._hang_up(source)
        if not source.answered.done():
            source.answered.set_exception(error or PlayError(reason, 503))
        log.info("live_ended", stream=source.key, channel=source.channel.key, reason=reason)
        self._publish(StreamEnded(stream=source.key, channel=source.channel.key, at=self._clock(), reason=reason))
        if source.dialog is None:
            self._drop(source)

    def _hang_up(self, source: Source) -> None:
        if source.dialog is None:
            return
        # A device that came back on another connection has no use for a BYE on the old one (facts §3.3).
        flow = self._bindings.flow(source.channel.device)
        try:
            if source.answered_at is None:
                self._transport.cancel(source.dialog)
            else:
                self._transport.bye(source.dialog, flow=flow)
        except LocalProtocolError as error:
            log.warning("live_hang_up_failed", stream=source.key, cause=error.reason)
            self._by_dialog.pop(source.dialog, None)
            source.dialog = None

    def _close_session(self, source: Source, reason: str) -> None:
        try:
            self._media.close_session(source.key, reason)
        except MediaError as error:
            log.error("session_not_closed", stream=source.key, cause=error.code)

    def _forget_dialog(self, source: Source) -> None:
        if source.dialog is not None:
            self._by_dialog.pop(source.dialog, None)
            source.dialog = None
        if source.state is StreamState.CLOSING:
            self._drop(source)

    def _drop(self, source: Source) -> None:
        if self._sources.pop(source.key, None) is not None:
            self._numbers.give_back(source.number)


def _looked_at(answered: asyncio.Future[None]) -> None:
    """Viewers may all have left before the answer; then nobody else looks at the error."""
    if not answered.cancelled():
        answered.exception()
