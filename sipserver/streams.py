"""Values of live play: what a stream is, why one could not be had, its settings, and the pool of SSRC numbers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from catalog.model import Channel
from media.session import Transport
from sipserver.protocol.errors import GbError
from sipserver.protocol.events import Flow
from sipserver.protocol.ids import ChannelKey, DeviceKey, LeaseKey, Ssrc, StreamKey

_NUMBERS = 10_000  # four digits (facts §15.4)

#: Reasons of close() that say: the viewer went by himself. Every other end of a view is a cut.
VIEWER_LEFT = frozenset({"viewer_closed", "viewer_left", "unwatched", "logout", "caller_left"})


class PlayError(GbError):
    """A picture could not be had. `code` is stable and meant for the API; the text carries nothing else.

    device_offline, device_unreachable, device_no_answer, device_busy, device_refused, device_unavailable,
    channel_unknown_to_device, media_not_supported, answer_unusable, streams_full, media_refused, viewer_left,
    channel_not_playable, and, for those who were waiting when it happened, the end reasons of LivePlay.
    """

    def __init__(self, code: str, http_status: int, *, sip_status: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.http_status = http_status
        self.sip_status = sip_status


# What devices answer and what it means to a viewer (facts §2.4; 附录G note 17).
_REFUSALS = {
    403: ("device_refused", 502),
    404: ("channel_unknown_to_device", 502),
    408: ("device_no_answer", 504),
    415: ("media_not_supported", 502),
    480: ("device_unavailable", 503),
    486: ("device_busy", 503),
    488: ("media_not_supported", 502),
    500: ("device_unavailable", 502),
    503: ("device_unavailable", 503),
    600: ("device_busy", 503),
    604: ("channel_unknown_to_device", 502),
    606: ("media_not_supported", 502),
}


def refusal_of(status: int) -> PlayError:
    """PlayError for a final 300-699 to our INVITE."""
    code, http_status = _REFUSALS.get(status, ("device_refused", 502))
    return PlayError(code, http_status, sip_status=status)


class StreamState(StrEnum):
    INVITING = "inviting"  # the device was asked
    LIVE = "live"  # the device said yes
    LINGERING = "lingering"  # nobody watches, the BYE waits for the grace to pass
    CLOSING = "closing"  # BYE or CANCEL is out, the SSRC number is not free yet


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStream:
    """One live source as it is now. Times in unix seconds; `first_frame_at` None until a picture came."""

    key: StreamKey
    channel: ChannelKey
    device: DeviceKey
    state: StreamState
    transport: Transport
    ssrc: Ssrc
    leases: tuple[LeaseKey, ...]
    started_at: float
    answered_at: float | None = None
    first_frame_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayConfig:
    """Times in seconds.

    answer_timeout: wait for the device's 200 (devices take 5-10 s, facts §18.3), then CANCEL. grace: between the last
    viewer's leaving and the BYE. first_packet_timeout: from the 200 to the first RTP packet.
    private_port: a receive port per session, for fleets that ignore `y=`. stream_number: `a=streamnumber`, None = off.
    """

    answer_timeout: float = 15.0
    grace: float = 10.0
    first_packet_timeout: float = 20.0
    transport: Transport = "udp"
    max_streams: int = 4_000
    private_port: bool = False
    stream_number: int | None = None


@dataclass(slots=True, kw_only=True)
class Source:
    """LivePlay's own record of a stream."""

    key: StreamKey
    channel: Channel
    flow: Flow
    transport: Transport
    ssrc: Ssrc  # expected from the device; its answer may change it
    number: int  # taken from the pool for the offer, given back when the dialog is over
    started_at: float
    answered: asyncio.Future[None]
    state: StreamState = StreamState.INVITING
    dialog: str | None = None
    leases: set[LeaseKey] = field(default_factory=set)
    answered_at: float | None = None
    packets_seen: bool = False
    first_frame_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def snapshot(self) -> LiveStream:
        return LiveStream(
            key=self.key,
            channel=self.channel.key,
            device=self.channel.device,
            state=self.state,
            transport=self.transport,
            ssrc=self.ssrc,
            leases=tuple(sorted(self.leases)),
            started_at=self.started_at,
            answered_at=self.answered_at,
            first_frame_at=self.first_frame_at,
        )


class NumberPool:
    """The last four digits of our SSRCs, unique among running streams; a returned number is used again last of all,
    so that packets of an old stream do not fall into a new one."""

    def __init__(self, start: int = 1) -> None:
        self._next = start % _NUMBERS
        self._taken: set[int] = set()

    def take(self) -> int | None:
        """A free number, None when all 10 000 are in use."""
        if len(self._taken) >= _NUMBERS:
            return None
        while self._next in self._taken:
            self._next = (self._next + 1) % _NUMBERS
        number = self._next
        self._taken.add(number)
        self._next = (number + 1) % _NUMBERS
        return number

    def give_back(self, number: int) -> None:
        self._taken.discard(number)

    def __len__(self) -> int:
        return len(self._taken)
