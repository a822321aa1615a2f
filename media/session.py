"""The media plane: sessions, leases, tickets and events of the Rust engine; the only module that imports the extension.

Nothing here touches a packet. A session receives only while one of its leases is alive, and a lease ends at most 30 s
ahead (architecture §3): the engine enforces both by its own clock, whatever happens to this process.
"""

import hashlib
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn, Protocol

import structlog

from media import _engine
from sipserver.protocol.ids import LeaseKey, StreamKey

log = structlog.get_logger("mingjian.media")

Transport = Literal["udp", "tcp-passive"]
Output = Literal["flv", "ws-fmp4", "http-fmp4"]
EventKind = Literal[
    "source_started",
    "first_frame",
    "tracks",
    "source_lost",
    "source_tcp_closed",
    "source_rejected",
    "viewer_opened",
    "viewer_closed",
    "lease_expired",
]
Detail = int | float | str

_BATCH = 256


class MediaError(Exception):
    """A command the engine refused; nothing was changed. `code` is stable, the text carries opaque keys only.

    Codes: `exists`, `unknown`, `ssrc_in_use`, `lease_too_long`, `lease_over`, `exhausted`, `socket`, `tickets_full`,
    `bad_argument`, `port_taken`, `stopped`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class PortTaken(MediaError):
    """A port is in use by another process (or may not be bound)."""

    def __init__(self, port: int, proto: str) -> None:
        super().__init__("port_taken", f"{proto} port {port} cannot be bound")
        self.port = port
        self.proto = proto


class StaleEngine(RuntimeError):
    """The extension was built from other sources than those beside it."""


class LeaseLike(Protocol):
    """What the engine needs of a lease: its opaque key, its end in Unix seconds, whether sound may be given out."""

    @property
    def key(self) -> LeaseKey: ...
    @property
    def not_after(self) -> float: ...
    @property
    def audio(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaConfig:
    """Where the media plane listens. Port 0 lets the system choose; `source_timeout` in seconds."""

    udp_port: int
    tcp_port: int
    http_port: int
    public_host: str
    bind: str = "0.0.0.0"  # noqa: S104 - cameras come from every network of the platform
    allowed_origins: tuple[str, ...] = ()  # empty: pages of the same host, on any port
    private_ports: tuple[int, int] = (40000, 40999)
    source_timeout: float = 20.0
    max_viewers: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaAddress:
    """Where a device is told to send its media (SDP `c=` and `m=`)."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaEvent:
    """One thing that happened to a session; keys are opaque."""

    kind: EventKind
    session: StreamKey
    lease: LeaseKey | None = None
    detail: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewStats:
    """What all viewers of one lease were given: bytes, pictures, pictures skipped, seconds watched."""

    viewers: int = 0
    bytes: int = 0
    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStats:
    """Counters of one session since it was opened; `bitrate` (bit/s) and `fps` over the last full second."""

    bitrate: float
    fps: float
    codec: str | None
    audio_codec: str | None
    packets: int
    bytes: int
    lost: int
    reordered: int
    duplicates: int
    rejected: int
    unleased: int
    malformed: int
    video_frames: int
    key_frames: int
    audio_frames: int
    damaged: int
    viewers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counters of the whole engine: gauges (sessions, leases, viewers, connections), the rest since the start."""

    sessions: int
    leases: int
    tcp_connections: int
    packets: int
    bytes: int
    unknown_ssrc: int
    rejected: int
    unleased: int
    malformed: int
    events_lost: int
    viewers: int
    connections: int
    bytes_out: int
    frames_out: int
    dropped: int
    refused: int


class MediaPlane:
    """The engine, its sessions and its viewers. Calls are short and safe from any thread; events come by `attach`."""

    def __init__(self, config: MediaConfig, *, on_event: Callable[[MediaEvent], None]) -> None:
        self._config = config
        self._on_event = on_event
        self._engine: _engine.Engine | None = None
        self._loop: AbstractEventLoop | None = None

    @property
    def ports(self) -> tuple[int, int, int]:
        """Shared UDP port, shared TCP port and HTTP port in use."""
        engine = self._running()
        return engine.udp_port, engine.tcp_port, engine.http_port

    def start(self) -> None:
        """Binds the ports and starts the threads. Raises `PortTaken`, `StaleEngine`."""
        if self._engine is not None:
            return
        check_engine_fresh()
        config = self._config
        try:
            self._engine = _engine.Engine(
                bind=config.bind,
                udp_port=config.udp_port,
                tcp_port=config.tcp_port,
                http_port=config.http_port,
                private_ports=config.private_ports,
                source_timeout=config.source_timeout,
                allowed_origins=config.allowed_origins,
                max_viewers=config.max_viewers,
            )
        except _engine.EngineError as error:
            _raise(error)
        udp, tcp, http = self.ports
        log.info("media_started", udp=udp, tcp=tcp, http=http)

    def stop(self) -> None:
        """Ends every session, closes every viewer, joins the threads; delivers the last events first."""
        if self._engine is None:
            return
        engine = self._engine
        if self._loop is not None:
            self._loop.remove_reader(engine.event_fd)
            self._loop = None
        engine.stop()
        self.poll()
        self._engine = None
        log.info("media_stopped")

    def attach(self, loop: AbstractEventLoop) -> None:
        """Delivers events in `loop` from now on."""
        self._loop = loop
        loop.add_reader(self._running().event_fd, self.poll)

    def poll(self) -> None:
        """Delivers every waiting event to `on_event` in the calling thread."""
        engine = self._running()
        while batch := engine.poll_events(_BATCH):
            for kind, session, lease, detail in batch:
                self._on_event(
                    MediaEvent(
                        kind=_kind(kind),
                        session=StreamKey(session),
                        lease=None if lease is None else LeaseKey(lease),
                        detail=detail,
                    )
                )
            if len(batch) < _BATCH:
                return

    def open_session(
        self,
        *,
        session: StreamKey,
        ssrc: int,
        transport: Transport,
        sources: Sequence[str],
        lease: LeaseLike,
        private_port: bool = False,
    ) -> MediaAddress:
        """Opens the way in for one stream under its first lease; `sources` are the IP addresses it may come from.

        Raises `MediaError`: `exists`, `ssrc_in_use`, `lease_too_long`, `lease_over`, `exhausted`, `bad_argument`.
        """
        try:
            port = self._running().open_session(
                session=session,
                ssrc=ssrc,
                tcp=transport == "tcp-passive",
                sources=sources,
                lease=lease.key,
                not_after=lease.not_after,
                audio=lease.audio,
                private_port=private_port,
            )
        except _engine.EngineError as error:
            _raise(error)
        return MediaAddress(host=self._config.public_host, port=port)

    def set_ssrc(self, session: StreamKey, ssrc: int) -> None:
        """Expects another SSRC, as the device's answer said (facts §15.4). Raises `MediaError`."""
        try:
            self._running().set_ssrc(session, ssrc)
        except _engine.EngineError as error:
            _raise(error)

    def add_source(self, session: StreamKey, ip: str) -> None:
        """Lets the stream come from one more address, as the device's SDP said. Raises `MediaError`."""
        try:
            self._running().add_source(session, ip)
        except _engine.EngineError as error:
            _raise(error)

    def grant(self, session: StreamKey, lease: LeaseLike) -> bool:
        """Adds a lease to an open session. True when its viewer has a key picture at once.

        Raises `MediaError`: `unknown`, `lease_too_long`, `lease_over`.
        """
        try:
            return self._running().grant(session, lease.key, lease.not_after, lease.audio)
        except _engine.EngineError as error:
            _raise(error)

    def renew(self, lease_key: LeaseKey, not_after: float, *, audio: bool) -> None:
        """Moves the end of a living lease (Unix seconds, at most 30 s ahead). Raises `MediaError`.

        `audio` False ends the sound of its viewers at once; True does not bring it back.
        """
        try:
            self._running().renew(lease_key, not_after, audio)
        except _engine.EngineError as error:
            _raise(error)

    def release(self, lease_key: LeaseKey, reason: str) -> ViewStats:
        """Ends a view whose viewer left by himself: when this returns, its tickets are void and nothing more goes out.

        Until the lease's end the session goes on receiving, so that whoever comes next has a picture at once.
        """
        return _view_stats(self._running().release(lease_key, reason))

    def revoke(self, lease_key: LeaseKey, reason: str) -> ViewStats:
        """Cuts a lease (ended ones too): when this returns, its tickets are void and its viewers get nothing more.

        Without another living lease the session receives nothing from now on, whatever released leases had left.
        """
        return _view_stats(self._running().revoke(lease_key, reason))

    def close_session(self, session: StreamKey, reason: str) -> None:
        """Ends a session with all its leases and viewers. Raises `MediaError`: `unknown`."""
        try:
            self._running().close_session(session, reason)
        except _engine.EngineError as error:
            _raise(error)

    def ticket(self, lease_key: LeaseKey, output: Output, *, client_ip: str | None = None, ttl: float = 30.0) -> str:
        """URL path on the HTTP port, good for one request within `ttl` (≤ 30 s). Raises `MediaError`: `lease_over`."""
        try:
            return self._running().ticket(lease_key, output, client_ip, ttl)
        except _engine.EngineError as error:
            _raise(error)

    def session_stats(self, session: StreamKey) -> SessionStats | None:
        """Counters of an open session, or None."""
        found = self._running().session_stats(session)
        if found is None:
            return None
        number = {name: value for name, value in found.items() if not isinstance(value, str)}
        count = {name: int(value) for name, value in number.items()}
        return SessionStats(
            bitrate=float(number["bitrate_bps"]),
            fps=float(number["fps"]),
            codec=_text(found.get("video_codec")),
            audio_codec=_text(found.get("audio_codec")),
            packets=count["packets"],
            bytes=count["bytes"],
            lost=count["lost"],
            reordered=count["reordered"],
            duplicates=count["duplicates"],
            rejected=count["rejected"],
            unleased=count["unleased"],
            malformed=count["malformed"],
            video_frames=count["video_frames"],
            key_frames=count["key_frames"],
            audio_frames=count["audio_frames"],
            damaged=count["damaged"],
            viewers=count["viewers"],
        )

    def stats(self) -> EngineStats:
        """Counters of the engine."""
        return EngineStats(**self._running().stats())

    def healthy(self) -> bool:
        """Whether the engine runs and its output thread answers; blocks for at most a second when it does not."""
        return self._engine is not None and self._engine.healthy()

    def _running(self) -> _engine.Engine:
        if self._engine is None:
            raise MediaError("stopped", "the media plane is not running")
        return self._engine


def _view_stats(found: Mapping[str, int | float]) -> ViewStats:
    return ViewStats(
        viewers=int(found["viewers"]),
        bytes=int(found["bytes"]),
        frames=int(found["frames"]),
        dropped=int(found["dropped"]),
        seconds=float(found["seconds"]),
    )


def source_digest(sources: Path) -> str | None:
    """SHA-256 over the engine's `.rs` files below `sources` (media/engine), as its build script computes it.

    None when there are none: an installed wheel carries no sources.
    """
    files = sorted([*sources.glob("src/**/*.rs"), *sources.glob("py/*.rs")], key=lambda path: path.as_posix())
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(path.relative_to(sources).as_posix().encode())
        digest.update(b"\0%d\0" % len(content))
        digest.update(content)
    return digest.hexdigest()


def check_engine_fresh() -> None:
    """Refuses an extension older than the sources beside it. Raises `StaleEngine`."""
    digest = source_digest(Path(__file__).parent / "engine")
    if digest is not None and digest != _engine.ENGINE_SOURCE_DIGEST:
        raise StaleEngine("media._engine was built from other sources: run `maturin develop --release`")


_KINDS: Mapping[str, EventKind] = {
    "source_started": "source_started",
    "first_frame": "first_frame",
    "tracks": "tracks",
    "source_lost": "source_lost",
    "source_tcp_closed": "source_tcp_closed",
    "source_rejected": "source_rejected",
    "viewer_opened": "viewer_opened",
    "viewer_closed": "viewer_closed",
    "lease_expired": "lease_expired",
}


def _kind(name: str) -> EventKind:
    return _KINDS[name]


def _text(value: Detail | None) -> str | None:
    return value if isinstance(value, str) else None


def _raise(error: _engine.EngineError) -> NoReturn:
    code, message, *rest = error.args
    if code == "port_taken":
        raise PortTaken(int(rest[0]), str(rest[1])) from error
    raise MediaError(str(code), str(message)) from error
