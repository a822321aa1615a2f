"""Machine-readable strip at the top edge of simulated footage: camera number and frame number, with a checksum.

Layout, left to right, one cell = picture width / 80 (16 x 16 px at 1280 x 720), white = 1:
4 cells sync ``1010``; 8 cells camera number; 24 cells frame number; 8 cells CRC-8 (poly 0x07) over those four bytes;
4 cells end mark ``0110``. Cells are averaged over their middle, so the strip survives encoding, chroma subsampling and
scaling to another size of the same proportions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CELLS_PER_WIDTH = 80
_SYNC = (1, 0, 1, 0)
_END = (0, 1, 1, 0)
STRIP_CELLS = len(_SYNC) + 8 + 24 + 8 + len(_END)
MAX_FRAME = (1 << 24) - 1
_MINIMUM_CONTRAST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMark:
    """What the strip of one picture says: ``camera`` 0-255 and ``frame`` 0-16777215."""

    camera: int
    frame: int


def crc8(data: bytes) -> int:
    """CRC-8, polynomial 0x07, start 0, not reflected (ITU-T I.432.1 without its final XOR)."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = ((value << 1) ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value


def encode_cells(mark: FrameMark) -> tuple[int, ...]:
    """The strip's cells, each 0 (black) or 1 (white). ValueError when a number does not fit."""
    if not 0 <= mark.camera <= 0xFF or not 0 <= mark.frame <= MAX_FRAME:
        raise ValueError("camera or frame number does not fit into the strip")
    payload = bytes([mark.camera]) + mark.frame.to_bytes(3, "big")
    payload += bytes([crc8(payload)])
    bits = tuple((byte >> shift) & 1 for byte in payload for shift in range(7, -1, -1))
    return (*_SYNC, *bits, *_END)


def _decode_cells(cells: Sequence[int]) -> FrameMark | None:
    if tuple(cells[:4]) != _SYNC or tuple(cells[-4:]) != _END:
        return None
    bits = cells[4:-4]
    payload = bytes(
        sum(bit << (7 - place) for place, bit in enumerate(bits[start : start + 8])) for start in range(0, len(bits), 8)
    )
    if crc8(payload[:4]) != payload[4]:
        return None
    return FrameMark(camera=payload[0], frame=int.from_bytes(payload[1:4], "big"))


def read_frame_number(
    pixels: bytes | bytearray | memoryview,
    *,
    width: int,
    height: int,
    stride: int | None = None,
    channels: int = 1,
    origin: tuple[int, int] = (0, 0),
) -> FrameMark | None:
    """Read the strip from raw pixels; None when it is absent, damaged or fails its checksum.

    ``pixels`` holds rows of ``stride`` bytes (default width * channels), ``channels`` bytes a pixel: 1 grey, 3 RGB/BGR,
    4 RGBA. ``width`` and ``height`` are those of the video picture, whose top-left corner lies at ``origin`` (x, y)
    (screenshots have it elsewhere than 0, 0). Raises ValueError when the buffer is too small for the stated size.
    """
    row = stride if stride is not None else width * channels
    left, top = origin
    if len(pixels) < (top + height - 1) * row + (left + width) * channels:
        raise ValueError("buffer smaller than the stated picture")
    cell = width / CELLS_PER_WIDTH
    margin = cell * 0.3
    rows = range(top + int(margin), max(top + int(cell - margin), top + int(margin) + 1))
    colours = min(channels, 3)
    means: list[float] = []
    for index in range(STRIP_CELLS):
        first = left + int(index * cell + margin)
        last = max(left + int((index + 1) * cell - margin), first + 1)
        total = count = 0
        for y in rows:
            for x in range(first, last):
                start = y * row + x * channels
                total += sum(pixels[start : start + colours])
                count += colours
        means.append(total / count)
    low, high = min(means), max(means)
    if high - low < _MINIMUM_CONTRAST:
        return None
    middle = (low + high) / 2
    return _decode_cells([1 if mean > middle else 0 for mean in means])
