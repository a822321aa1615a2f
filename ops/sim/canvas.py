"""A small YUV 4:2:0 painter for simulated footage: rectangles, convex polygons, shading and bitmap text.

Pure Python on bytearrays, row by row, because neither a drawing library nor fonts are dependencies of the platform.
Coordinates are pixels from the top-left corner; everything is clipped to the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ops.sim.glyphs import GLYPH_HEIGHT, glyph

Point = tuple[float, float]
Colour = tuple[int, int, int]


def rgb(red: int, green: int, blue: int) -> Colour:
    """8-bit RGB to limited-range BT.709 (Y, Cb, Cr)."""
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (
        round(16 + luma * 219 / 255),
        round(128 + (blue - luma) / 1.8556 * 224 / 255),
        round(128 + (red - luma) / 1.5748 * 224 / 255),
    )


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour with its brightness multiplied by ``factor`` (saturation follows)."""
    luma = min(max(16 + (colour[0] - 16) * factor, 16), 235)
    keep = min(factor, 1.0)
    return round(luma), round(128 + (colour[1] - 128) * keep), round(128 + (colour[2] - 128) * keep)


@lru_cache(maxsize=256)
def _run(value: int, width: int) -> bytes:
    return bytes([value]) * width


@lru_cache(maxsize=16)
def _darken_table(percent: int) -> bytes:
    return bytes(min(255, 16 + max(0, value - 16) * percent // 100) for value in range(256))


_OUTLINE = ((-2, 0), (2, 0), (0, -2), (0, 2), (-1, -1), (1, 1), (-1, 1), (1, -1))
_MARGIN = 2


@lru_cache(maxsize=64)
def _typeset(text: str, luma: int, scale: int) -> tuple[tuple[tuple[int, int, bytes], ...], int]:
    """Text as opaque runs (row, column, luma bytes) with a dark outline, and its width; 0 stands for transparent."""
    shapes = [glyph(character) for character in text]
    width = sum(shape.width for shape in shapes) * scale
    across, down = width + 2 * _MARGIN, GLYPH_HEIGHT * scale + 2 * _MARGIN
    sheet = bytearray(across * down)
    for offsets, value in ((_OUTLINE, 16), (((0, 0),), luma)):
        for dx, dy in offsets:
            left = _MARGIN + dx
            for shape in shapes:
                for row, first, last in shape.runs:
                    length = (last - first) * scale
                    for y in range(row * scale + _MARGIN + dy, (row + 1) * scale + _MARGIN + dy):
                        start = y * across + left + first * scale
                        sheet[start : start + length] = _run(value, length)
                left += shape.width * scale
    runs = []
    for y in range(down):
        line = bytes(sheet[y * across : (y + 1) * across])
        column = 0
        for part in line.split(b"\0"):
            if part:
                runs.append((y - _MARGIN, column - _MARGIN, part))
            column += len(part) + 1
    return tuple(runs), width


@dataclass(slots=True)
class Canvas:
    """One picture: planes ``y`` (width x height), ``u`` and ``v`` (half size). Width and height must be even."""

    width: int
    height: int
    y: bytearray
    u: bytearray
    v: bytearray

    @classmethod
    def blank(cls, width: int, height: int, colour: Colour = (16, 128, 128)) -> Canvas:
        """A picture of one colour."""
        size = width * height
        return cls(
            width,
            height,
            bytearray(_run(colour[0], 1)) * size,
            bytearray(_run(colour[1], 1)) * (size // 4),
            bytearray(_run(colour[2], 1)) * (size // 4),
        )

    def copy(self) -> Canvas:
        """An independent copy."""
        return Canvas(self.width, self.height, bytearray(self.y), bytearray(self.u), bytearray(self.v))

    def rectangle(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """Fill [left, right) x [top, bottom)."""
        self._spans(((y, left, right) for y in range(max(top, 0), min(bottom, self.height))), colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a convex polygon."""
        self._spans(_scan(points, self.height), colour)

    def shade(self, points: Sequence[Point], percent: int) -> None:
        """Darken (or, above 100, lighten) a convex polygon to ``percent`` of its brightness: shadows, light cones."""
        table = _darken_table(percent)
        width = self.width
        for y, left, right in _scan(points, self.height):
            first, last = max(left, 0), min(right, width)
            if first < last:
                start, end = y * width + first, y * width + last
                self.y[start:end] = self.y[start:end].translate(table)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, colour: Colour) -> None:
        """Fill an axis-parallel ellipse."""
        if rx <= 0 or ry <= 0:
            return
        spans = []
        for y in range(max(int(cy - ry), 0), min(int(cy + ry) + 1, self.height)):
            part = 1 - ((y - cy) / ry) ** 2
            if part > 0:
                half = rx * part**0.5
                spans.append((y, int(cx - half), int(cx + half) + 1))
        self._spans(spans, colour)

    def text(self, left: int, top: int, text: str, *, colour: Colour = (235, 128, 128), scale: int = 1) -> None:
        """Bitmap text with a dark outline, as cameras burn it in. ``left``, ``top``: corner of the first cell."""
        rows, end = _typeset(text, colour[0], scale)
        width, plane = self.width, self.y
        for row, column, run in rows:
            y, x = top + row, left + column
            if 0 <= y < self.height and x >= 0 and x + len(run) <= width:
                plane[y * width + x : y * width + x + len(run)] = run
        self._chroma(left, top, left + end, top + GLYPH_HEIGHT * scale, colour)

    def _chroma(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        half = self.width // 2
        first, last = max(left // 2, 0), min(right // 2, half)
        if first >= last:
            return
        blue, red = _run(colour[1], last - first), _run(colour[2], last - first)
        for y in range(max(top // 2, 0), min(bottom // 2, self.height // 2)):
            self.u[y * half + first : y * half + last] = blue
            self.v[y * half + first : y * half + last] = red

    def _spans(self, spans: Iterable[tuple[int, int, int]], colour: Colour) -> None:
        width, half = self.width, self.width // 2
        luma, blue, red = self.y, self.u, self.v
        y_run, u_run, v_run = _run(colour[0], width), _run(colour[1], half), _run(colour[2], half)
        for y, left, right in spans:
            first, last = max(left, 0), min(right, width)
            if first >= last:
                continue
            start = y * width
            luma[start + first : start + last] = y_run[: last - first]
            if not y & 1:
                first, last = first >> 1, (last + 1) >> 1
                start = (y >> 1) * half
                blue[start + first : start + last] = u_run[: last - first]
                red[start + first : start + last] = v_run[: last - first]


def _scan(points: Sequence[Point], height: int) -> list[tuple[int, int, int]]:
    """Rows (y, left, right) of a convex polygon, pixel centres inside it."""
    top = max(int(min(point[1] for point in points)), 0)
    bottom = min(int(max(point[1] for point in points)) + 1, height)
    if top >= bottom:
        return []
    lefts = [1e9] * (bottom - top)
    rights = [-1e9] * (bottom - top)
    x0, y0 = points[-1]
    for x1, y1 in points:
        low, high = (y0, y1) if y0 < y1 else (y1, y0)
        first, last = max(int(low + 0.5), top), min(int(high + 0.5), bottom)
        if first < last:
            slope = (x1 - x0) / (y1 - y0)
            x = x0 + (first + 0.5 - y0) * slope
            for row in range(first - top, last - top):
                lefts[row] = min(lefts[row], x)
                rights[row] = max(rights[row], x)
                x += slope
        x0, y0 = x1, y1
    return [
        (top + row, int(left + 0.5), int(right + 0.5))
        for row, (left, right) in enumerate(zip(lefts, rights, strict=True))
        if right > left
    ]
