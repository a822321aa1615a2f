"""Makes the pictures that simulated cameras send: H.264/H.265 with G.711 A or AAC, encoded once, then kept.

File format ``.mjf``: the magic ``MJFOOT02``, a 32-bit big-endian length, that many bytes of JSON (see Footage), then
records ``>BBIQQ`` = track (0 video, 1 audio), flags (bit 0 key), size, pts, dts, followed by ``size`` bytes. Times
count 90 kHz ticks from 0; video is Annex B with parameter sets before every key frame, audio raw G.711 A-law or ADTS.
No B-frames: pts = dts. Every picture carries the strip of ops/sim/barcode.py, a clock and the camera's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from ops.sim.barcode import FrameMark, read_frame_number

__all__ = [
    "AccessUnit", "Footage", "FootageError", "FootageSpec", "FrameMark", "LoopedFootage", "ensure_footage",
    "load_footage", "make_footage", "read_frame_number",
]  # fmt: skip

VideoCodec = Literal["h264", "h265"]
AudioCodec = Literal["g711a", "aac"]
Codec = Literal["h264", "h265", "g711a", "aac"]
Track = Literal["video", "audio"]

CLOCK_RATE = 90_000
FORMAT_VERSION = 2
_MAGIC = b"MJFOOT%02d" % FORMAT_VERSION
_RECORD = struct.Struct(">BBIQQ")
_MAX_FILE = 256 * 1024 * 1024
# audio starts 10 ms after the picture, so that no audio frame ever shares its RTP timestamp with a picture
AUDIO_OFFSET = 900


class FootageError(Exception):
    """A footage file that cannot be made or read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessUnit:
    """One coded picture or audio frame; ``pts`` and ``dts`` in 90 kHz ticks."""

    track: Track
    codec: Codec
    pts: int
    dts: int
    key: bool
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FootageSpec:
    """What to make. ``camera`` (0-255) goes into the strip; ``seconds`` must hold whole GOPs and, with AAC, be even.

    ``scene`` is a key of ops.sim.scenes.SCENES; ``label`` is burnt in; ``start`` is the burnt-in clock's first time.
    """

    name: str
    scene: str
    label: str
    camera: int
    video: VideoCodec = "h264"
    audio: AudioCodec | None = "g711a"
    seconds: int = 16
    fps: int = 25
    width: int = 1280
    height: int = 720
    gop: int = 50
    bitrate: int = 2_000_000
    start: str = "2025-06-18T14:30:00"

    @property
    def frames(self) -> int:
        """Pictures in one loop."""
        return self.seconds * self.fps

    def file_name(self) -> str:
        """A name that changes with everything that changes the content."""
        digest = hashlib.sha256(json.dumps([FORMAT_VERSION, asdict(self)], sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{digest[:12]}.mjf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """A loop read into memory: ``duration`` ticks long, ``units`` ordered by dts, the first one a key frame."""

    video: VideoCodec
    audio: AudioCodec | None
    camera: int
    fps: int
    width: int
    height: int
    frames: int
    duration: int
    units: tuple[AccessUnit, ...]


class LoopedFootage:
    """Endless units of a footage; times go on monotonically over the loop's end, frame numbers begin again."""

    def __init__(self, footage: Footage, *, start: int = 0) -> None:
        """``start`` = picture to begin with, moved back to the key frame before it."""
        self._footage = footage
        videos = [place for place, unit in enumerate(footage.units) if unit.track == "video"]
        place = videos[start % len(videos)]
        while not footage.units[place].key or footage.units[place].track != "video":
            place -= 1
        self._place = place
        self._base = -footage.units[place].dts

    def __iter__(self) -> Iterator[AccessUnit]:
        return self

    def __next__(self) -> AccessUnit:
        unit = self._footage.units[self._place]
        base = self._base
        self._place += 1
        if self._place == len(self._footage.units):
            self._place = 0
            self._base += self._footage.duration
        return AccessUnit(
            track=unit.track, codec=unit.codec, pts=unit.pts + base, dts=unit.dts + base, key=unit.key, data=unit.data
        )


def load_footage(path: Path) -> Footage:
    """Read a footage file. FootageError when it is absent, of another version, cut short or too large (256 MiB)."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise FootageError(f"{path.name}: larger than {_MAX_FILE} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise FootageError(f"{path.name}: {error.strerror}") from error
    if content[:8] != _MAGIC:
        raise FootageError(f"{path.name}: not a footage file of version {FORMAT_VERSION}")
    try:
        (length,) = struct.unpack_from(">I", content, 8)
        head = json.loads(content[12 : 12 + length])
        units = tuple(_read_units(content, 12 + length, head["video"], head["audio"]))
        return Footage(units=units, **head)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise FootageError(f"{path.name}: damaged: {error}") from error


def _read_units(content: bytes, place: int, video: Codec, audio: Codec | None) -> Iterator[AccessUnit]:
    while place < len(content):
        track, flags, size, pts, dts = _RECORD.unpack_from(content, place)
        place += _RECORD.size
        if place + size > len(content) or (track and audio is None):
            raise ValueError("record runs past the end or names an absent track")
        yield AccessUnit(
            track="audio" if track else "video",
            codec=audio if track and audio else video,
            pts=pts,
            dts=dts,
            key=bool(flags & 1),
            data=content[place : place + size],
        )
        place += size


def save_footage(footage: Footage, path: Path) -> None:
    """Write a footage file, complete or not at all."""
    head = {name: getattr(footage, name) for name in Footage.__slots__ if name != "units"}
    text = json.dumps(head).encode()
    parts = [_MAGIC, struct.pack(">I", len(text)), text]
    for unit in footage.units:
        parts.append(_RECORD.pack(unit.track == "audio", unit.key, len(unit.data), unit.pts, unit.dts))
        parts.append(unit.data)
    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_bytes(b"".join(parts))
    draft.replace(path)


def make_footage(spec: FootageSpec, path: Path, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Paint, encode and save one loop; ``progress`` gets (pictures done, pictures in all) now and then."""
    from ops.sim.encode import encode_audio, encode_video

    start = datetime.fromisoformat(spec.start)
    weekdays = "一二三四五六日"

    def clock(index: int) -> str:
        moment = start + timedelta(seconds=index // spec.fps)
        return f"{moment:%Y-%m-%d} 星期{weekdays[moment.weekday()]} {moment:%H:%M:%S}"

    tick = CLOCK_RATE // spec.fps
    units: list[AccessUnit] = []
    for index, (data, key) in enumerate(encode_video(spec, clock)):
        time = index * tick
        units.append(AccessUnit(track="video", codec=spec.video, pts=time, dts=time, key=key, data=data))
        if progress is not None and (index % 25 == 24 or index + 1 == spec.frames):
            progress(index + 1, spec.frames)
    if len(units) != spec.frames or any(unit.key != (place % spec.gop == 0) for place, unit in enumerate(units)):
        raise FootageError(f"{spec.name}: the encoder did not keep to the group of pictures")
    if spec.audio is not None:
        for data, pts in encode_audio(spec):
            time = pts + AUDIO_OFFSET
            units.append(AccessUnit(track="audio", codec=spec.audio, pts=time, dts=time, key=True, data=data))
    units.sort(key=lambda unit: unit.dts)
    save_footage(
        Footage(
            video=spec.video, audio=spec.audio, camera=spec.camera, fps=spec.fps, width=spec.width, height=spec.height,
            frames=spec.frames, duration=spec.frames * tick, units=tuple(units),
        ),
        path,
    )  # fmt: skip


def ensure_footage(
    specs: Sequence[FootageSpec],
    directory: Path,
    *,
    report: Callable[[str, int, int], None] | None = None,
    workers: int | None = None,
) -> dict[str, Path]:
    """Make what ``directory`` does not hold yet; returns name → file. ``report`` gets (name, files done, to make).

    ``workers`` processes (default: one a processor, at most 4) encode side by side; 1 works in this process.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = {spec.name: directory / spec.file_name() for spec in specs}
    missing = [spec for spec in specs if not paths[spec.name].exists()]
    # the slowest encoder first keeps both processors busy to the end
    missing.sort(key=lambda spec: spec.video != "h265")
    count = min(workers or min(os.cpu_count() or 1, 4), len(missing))
    if count <= 1:
        for done, spec in enumerate(missing, 1):
            make_footage(spec, paths[spec.name])
            if report is not None:
                report(spec.name, done, len(missing))
        return paths
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(make_footage, spec, paths[spec.name]): spec for spec in missing}
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if report is not None:
                report(jobs[job].name, done, len(missing))
    return paths
