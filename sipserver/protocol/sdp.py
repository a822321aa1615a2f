"""Session descriptions as GB/T 28181 devices write them: lenient reader, strict writer (annex G, RFC 4566).

The reader never rejects a call for a broken ``f=``, an empty ``o=`` address or an unknown line; the writer emits the
one line order every device accepts: attributes first, ``y=`` then ``f=`` last, CRLF after each line.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, Literal

from sipserver.protocol.errors import RemoteProtocolError
from sipserver.protocol.ids import GbId, Ssrc

MAX_BYTES: Final = 64 * 1024
MAX_LINES: Final = 512
UNKNOWN_PARAMETERS: Final = "v/////a///"

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
Setup = Literal["active", "passive", "actpass", "holdconn"]
MediaTransport = Literal["udp", "tcp-passive", "tcp-active"]

_DIRECTIONS: Final[dict[str, Direction]] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}
_SETUPS: Final[dict[str, Setup]] = {
    "active": "active",
    "passive": "passive",
    "actpass": "actpass",
    "holdconn": "holdconn",
}
_RTPMAP = re.compile(r"^(\d{1,3})\s+([^/\s]+)(?:\s*/\s*(\d{1,9}))?(?:\s*/\s*(\d{1,2}))?", re.ASCII)
_MEDIA = re.compile(r"^(\S+)\s+(\d{1,5})(?:/\d+)?\s+(\S+)(.*)$", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpMap:
    """One ``a=rtpmap`` line: payload type 0-127, encoding name as written, clock in Hz, channels when given."""

    payload: int
    encoding: str
    clock_rate: int = 90000
    channels: int | None = None


#: Payload numbers of annex G / §C.2; 99 stays SVAC as in the standard although some products send H.265 on it.
PS: Final = RtpMap(payload=96, encoding="PS")
MPEG4: Final = RtpMap(payload=97, encoding="MPEG4")
H264: Final = RtpMap(payload=98, encoding="H264")
SVAC: Final = RtpMap(payload=99, encoding="SVAC")
H265: Final = RtpMap(payload=100, encoding="H265")
PCMA: Final = RtpMap(payload=8, encoding="PCMA", clock_rate=8000)
LIVE_PAYLOADS: Final = (PS, MPEG4, H264, H265)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaParameters:
    """The halves of an ``f=`` line (annex G); every field is the code as text, empty when not given.

    ``video_bitrate`` is kbit/s; ``resolution`` is 1-6 or ``WxH`` (2022); audio fields are table indices.
    """

    video_codec: str = ""
    resolution: str = ""
    frame_rate: str = ""
    rate_type: str = ""
    video_bitrate: str = ""
    audio_codec: str = ""
    audio_bitrate: str = ""
    sampling: str = ""

    @classmethod
    def parse(cls, text: str) -> MediaParameters:
        """Read any ``f=`` value seen in the field; what cannot be placed is left empty, never an error."""
        video, _, audio = re.sub(r"\s", "", text).partition("a/")
        v = [*video.removeprefix("v").removeprefix("/").split("/"), "", "", "", "", ""]
        a = [*audio.split("/"), "", "", ""]
        return cls(
            video_codec=v[0],
            resolution=v[1],
            frame_rate=v[2],
            rate_type=v[3],
            video_bitrate=v[4],
            audio_codec=a[0],
            audio_bitrate=a[1],
            sampling=a[2],
        )

    def __str__(self) -> str:
        video = (self.video_codec, self.resolution, self.frame_rate, self.rate_type, self.video_bitrate)
        audio = (self.audio_codec, self.audio_bitrate, self.sampling)
        return f"v/{'/'.join(video)}a/{'/'.join(audio)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One ``m=`` section. ``attributes`` keeps every ``a=`` that has no field here, as (name lower case, value)."""

    kind: str
    port: int
    protocol: str
    formats: tuple[int, ...] = ()
    rtpmaps: tuple[RtpMap, ...] = ()
    direction: Direction | None = None
    setup: Setup | None = None
    connection: str | None = None
    connection_ip: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def is_tcp(self) -> bool:
        """True for RTP over TCP (``TCP/RTP/AVP``, annex D)."""
        return self.protocol.upper().startswith("TCP")

    def attribute(self, name: str) -> str | None:
        """Value of the first remaining attribute of that name (case-insensitive), None when absent."""
        return next((value for key, value in self.attributes if key == name.lower()), None)

    @property
    def stream_number(self) -> int | None:
        """``a=streamnumber`` (2022): 0 main, 1.. sub streams."""
        value = self.attribute("streamnumber")
        return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 4 else None

    @property
    def file_size(self) -> int | None:
        """``a=filesize`` in bytes, also in its misspelled form; zero and negative mean unknown (None)."""
        value = self.attribute("filesize") or self.attribute("fileszie") or ""
        size = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
        return size or None

    def encoding_of(self, payload: int) -> str | None:
        """Encoding name (upper case) mapped to a payload type by ``a=rtpmap``."""
        return next((m.encoding.upper() for m in self.rtpmaps if m.payload == payload), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDescription:
    """A parsed or to-be-written SDP.

    ``owner`` is the user name of ``o=`` (the writer's address code, hidden from repr), ``connection_ip`` the
    session-level ``c=`` literal (None when empty, 0.0.0.0, or not an address: use the packet source),
    ``start``/``stop`` unix seconds of ``t=``, ``ssrc`` the ``y=`` line, ``f`` the raw ``f=`` value (None when absent).
    """

    owner: str = field(repr=False)
    session_name: str = "Play"
    connection_ip: str | None = None
    origin_ip: str | None = None
    session_id: str = "0"
    session_version: str = "0"
    uri: str | None = field(default=None, repr=False)
    start: int = 0
    stop: int = 0
    media: tuple[Media, ...] = ()
    ssrc: Ssrc | None = None
    f: str | None = None

    @property
    def primary(self) -> Media | None:
        """The section that carries the call: the first with a port, else the first one."""
        return next((m for m in self.media if m.port), self.media[0] if self.media else None)

    @property
    def media_ip(self) -> str | None:
        """Address media goes to or comes from: the section's own ``c=``, else the session's."""
        primary = self.primary
        return (primary.connection_ip if primary else None) or self.connection_ip

    @property
    def parameters(self) -> MediaParameters:
        """The ``f=`` line in parts, all empty when absent."""
        return MediaParameters.parse(self.f or "")

    def to_bytes(self) -> bytes:
        """Serialise in the order of annex G with CRLF. ValueError when a value would break a line."""
        origin = self.origin_ip or self.connection_ip or "0.0.0.0"  # noqa: S104 - the SDP way to say "not known"
        lines = [
            "v=0",
            f"o={self.owner or '-'} {self.session_id} {self.session_version} IN {_family(origin)} {origin}",
            f"s={self.session_name}",
        ]
        if self.uri:
            lines.append(f"u={self.uri}")
        if self.connection_ip:
            lines.append(f"c=IN {_family(self.connection_ip)} {self.connection_ip}")
        lines.append(f"t={self.start} {self.stop}")
        for media in self.media:
            lines.extend(_media_lines(media))
        if self.ssrc is not None:
            lines.append(f"y={self.ssrc.text}")
        if self.f is not None:
            lines.append(f"f={self.f}")
        if any("\r" in line or "\n" in line or "\0" in line for line in lines):
            raise ValueError("a line break inside an SDP value")
        return "".join(f"{line}\r\n" for line in lines).encode("gb18030")


def live_offer(
    *,
    owner: GbId,
    address: str,
    port: int,
    ssrc: Ssrc,
    transport: MediaTransport = "udp",
    stream_number: int | None = None,
    payloads: tuple[RtpMap, ...] = LIVE_PAYLOADS,
) -> SessionDescription:
    """Offer for a live call (§9.2, annex G): ``s=Play``, recvonly, first digit of ``y=`` 0.

    ``owner`` is the platform, ``address``/``port`` where the engine receives (port is the placeholder 9 for
    ``tcp-active``), ``stream_number`` only for peers of the 2022 edition.
    """
    return SessionDescription(
        owner=owner.value,
        session_name="Play",
        connection_ip=address,
        media=(_receiving_media(port, transport, payloads, stream_number, extra=()),),
        ssrc=ssrc,
        f=UNKNOWN_PARAMETERS,
    )


def history_offer(
    *,
    owner: GbId,
    channel: GbId,
    address: str,
    port: int,
    ssrc: Ssrc,
    start: int,
    stop: int,
    transport: MediaTransport = "udp",
    download_speed: int | None = None,
    record_type: int = 3,
) -> SessionDescription:
    """Offer for playback, or for download when ``download_speed`` is given (§9.8, §9.9). Times are unix seconds."""
    extra = () if download_speed is None else (("downloadspeed", str(download_speed)),)
    return SessionDescription(
        owner=owner.value,
        session_name="Playback" if download_speed is None else "Download",
        uri=f"{channel.value}:{record_type}",
        connection_ip=address,
        start=start,
        stop=stop,
        media=(_receiving_media(port, transport, LIVE_PAYLOADS, None, extra=extra),),
        ssrc=ssrc,
        f=UNKNOWN_PARAMETERS,
    )


def _receiving_media(
    port: int,
    transport: MediaTransport,
    payloads: tuple[RtpMap, ...],
    stream_number: int | None,
    *,
    extra: tuple[tuple[str, str], ...],
) -> Media:
    tcp = transport != "udp"
    setup: Setup = "passive" if transport == "tcp-passive" else "active"
    number = () if stream_number is None else (("streamnumber", str(stream_number)),)
    return Media(
        kind="video",
        port=port,
        protocol="TCP/RTP/AVP" if tcp else "RTP/AVP",
        formats=tuple(p.payload for p in payloads),
        rtpmaps=payloads,
        direction="recvonly",
        setup=setup if tcp else None,
        connection="new" if tcp else None,
        attributes=(*extra, *number),
    )


def answer(
    offer: SessionDescription, *, owner: GbId, address: str, port: int, payload: RtpMap = PS, f: str | None = ""
) -> SessionDescription:
    """Answer to a receive-only offer by the side that sends media: one payload, mirrored transport, same ``y=``."""
    offered = offer.primary
    if offered is None:
        raise ValueError("an answer needs a media section to answer")
    setup: Setup | None = None
    if offered.is_tcp:
        setup = "passive" if offered.setup == "active" else "active"
    return SessionDescription(
        owner=owner.value,
        session_name=offer.session_name,
        connection_ip=address,
        start=offer.start,
        stop=offer.stop,
        media=(
            Media(
                kind=offered.kind,
                port=port,
                protocol=offered.protocol,
                formats=(payload.payload,),
                rtpmaps=(payload,),
                direction="sendonly",
                setup=setup,
                connection="new" if offered.is_tcp else None,
            ),
        ),
        ssrc=offer.ssrc,
        f=f,
    )


def _family(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _media_lines(media: Media) -> list[str]:
    formats = "".join(f" {number}" for number in media.formats)
    lines = [f"m={media.kind} {media.port} {media.protocol}{formats}"]
    if media.connection_ip:
        lines.append(f"c=IN {_family(media.connection_ip)} {media.connection_ip}")
    if media.direction:
        lines.append(f"a={media.direction}")
    for entry in media.rtpmaps:
        channels = f"/{entry.channels}" if entry.channels else ""
        lines.append(f"a=rtpmap:{entry.payload} {entry.encoding}/{entry.clock_rate}{channels}")
    if media.setup:
        lines.append(f"a=setup:{media.setup}")
    if media.connection:
        lines.append(f"a=connection:{media.connection}")
    lines.extend(f"a={name}:{value}" if value else f"a={name}" for name, value in media.attributes)
    return lines


class _Reader:
    """Collects lines into sections; one instance per parse."""

    def __init__(self) -> None:
        self.session: dict[str, str] = {}
        self.session_attributes: list[tuple[str, str]] = []
        self.sections: list[tuple[re.Match[str], list[tuple[str, str]], list[str]]] = []

    def line(self, kind: str, value: str) -> None:
        if kind == "m":
            match = _MEDIA.match(value)
            if match is None or int(match[2]) > 65535:
                raise RemoteProtocolError("sdp_media_line_malformed", status=488)
            self.sections.append((match, [], []))
        elif kind == "a":
            name, _, rest = value.partition(":")
            target = self.sections[-1][1] if self.sections else self.session_attributes
            target.append((name.strip().lower(), rest.strip()))
        elif kind == "c" and self.sections:
            self.sections[-1][2].append(value)
        else:
            self.session.setdefault(kind, value)

    def media(self) -> tuple[Media, ...]:
        return tuple(
            _read_media(match, [*self.session_attributes, *attributes], connections)
            for match, attributes, connections in self.sections
        )


def parse(body: bytes) -> SessionDescription:
    """Read a session description from a peer.

    Raises RemoteProtocolError (status 488) for what cannot carry a call: too large, no ``m=`` line, or one that
    cannot be read.
    """
    if len(body) > MAX_BYTES:
        raise RemoteProtocolError("sdp_too_large", status=488)
    text = body.decode("gb18030", errors="replace").replace("\0", "")
    lines = re.split(r"[\r\n]+", text)
    if len(lines) > MAX_LINES:
        raise RemoteProtocolError("sdp_too_many_lines", status=488)
    reader = _Reader()
    for line in lines:
        kind, separator, value = line.strip().partition("=")
        kind = kind.strip().lower()
        if separator and len(kind) == 1:
            reader.line(kind, value.strip())
    media = reader.media()
    if not media:
        raise RemoteProtocolError("sdp_without_media", status=488)
    origin = [*reader.session.get("o", "").split(), "", "", "", "", "", ""]
    times = [*reader.session.get("t", "").split(), "", ""]
    return SessionDescription(
        owner=origin[0],
        session_id=origin[1] or "0",
        session_version=origin[2] or "0",
        origin_ip=_address(origin[5]),
        session_name=reader.session.get("s", ""),
        uri=reader.session.get("u") or None,
        connection_ip=_connection(reader.session.get("c", "")),
        start=_number(times[0]),
        stop=_number(times[1]),
        media=media,
        ssrc=_ssrc(reader.session.get("y", "")),
        f=reader.session.get("f"),
    )


def _read_media(match: re.Match[str], attributes: list[tuple[str, str]], connections: list[str]) -> Media:
    direction: Direction | None = None
    setup: Setup | None = None
    connection: str | None = None
    rtpmaps: list[RtpMap] = []
    rest: list[tuple[str, str]] = []
    for name, value in attributes:
        if name in _DIRECTIONS:
            direction = _DIRECTIONS[name]
        elif name == "setup":
            setup = _SETUPS.get(value.lower(), setup)
        elif name == "connection":
            connection = value.lower() or None
        elif name == "rtpmap":
            entry = _rtpmap(value)
            rtpmaps.extend([entry] if entry else [])
        else:
            rest.append((name, value))
    formats = (int(token) for token in match[4].split() if token.isascii() and token.isdigit() and len(token) < 4)
    return Media(
        kind=match[1].lower(),
        port=int(match[2]),
        protocol=match[3].upper(),
        formats=tuple(number for number in formats if number < 128),
        rtpmaps=tuple(rtpmaps),
        direction=direction,
        setup=setup,
        connection=connection,
        connection_ip=_connection(connections[0]) if connections else None,
        attributes=tuple(rest),
    )


def _rtpmap(value: str) -> RtpMap | None:
    match = _RTPMAP.match(value)
    if match is None or int(match[1]) > 127:
        return None
    return RtpMap(
        payload=int(match[1]),
        encoding=match[2],
        clock_rate=int(match[3] or 90000),
        channels=int(match[4]) if match[4] else None,
    )


def _connection(value: str) -> str | None:
    return _address(value.rsplit(maxsplit=1)[-1]) if value else None


def _address(text: str) -> str | None:
    """A usable address literal; a port or TTL glued on is dropped, 0.0.0.0 and host names give None."""
    text = text.split("/", maxsplit=1)[0].strip("[]")
    if text.count(":") == 1:
        text = text.split(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if address.is_unspecified else str(address)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else 0


def _ssrc(text: str) -> Ssrc | None:
    """``y=``: ten digits by the standard; shorter ones are read as numbers, anything else as absent."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= 0xFFFFFFFF):
        return None
    return Ssrc(value=int(text))
