"""Perspective for simulated footage: a pinhole camera above flat ground, and the solids the scenes are built from.

World: metres, x right, y away from the camera, z up; the camera stands at (0, 0, height) and looks along +y, turned by
``yaw`` and tilted down by ``pitch`` (radians).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ops.sim.canvas import Canvas, Colour, Point, rgb, shaded

Vertex = tuple[float, float, float]
_NEAR = 0.4
GLASS = rgb(38, 48, 58)
TYRE = rgb(24, 24, 26)
SKIN = rgb(196, 158, 132)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where the camera stands; ``focal`` in px of a 1280 px wide picture."""

    height: float
    pitch: float
    yaw: float = 0.0
    focal: float = 900.0
    size: tuple[int, int] = (1280, 720)

    def camera_space(self, vertex: Vertex) -> Vertex:
        """(right, down, depth) of a world point."""
        x, y, z = vertex
        sin_yaw, cos_yaw = math.sin(self.yaw), math.cos(self.yaw)
        x, y = x * cos_yaw - y * sin_yaw, x * sin_yaw + y * cos_yaw
        z -= self.height
        sin_pitch, cos_pitch = math.sin(self.pitch), math.cos(self.pitch)
        return x, -(y * sin_pitch + z * cos_pitch), y * cos_pitch - z * sin_pitch

    def pixel(self, point: Vertex) -> Point:
        """Picture coordinates of a point in camera space in front of the near plane."""
        scale = self.focal * self.size[0] / 1280 / point[2]
        return self.size[0] / 2 + point[0] * scale, self.size[1] / 2 + point[1] * scale

    def outline(self, vertices: Sequence[Vertex]) -> list[Point]:
        """A convex world polygon in picture coordinates, cut at the near plane; empty when behind the camera."""
        cut: list[Vertex] = []
        previous = self.camera_space(vertices[-1])
        for vertex in vertices:
            current = self.camera_space(vertex)
            if (previous[2] < _NEAR) != (current[2] < _NEAR):
                part = (_NEAR - previous[2]) / (current[2] - previous[2])
                x, y, _ = (a + (b - a) * part for a, b in zip(previous, current, strict=True))
                cut.append((x, y, _NEAR))
            if current[2] >= _NEAR:
                cut.append(current)
            previous = current
        return [self.pixel(point) for point in cut] if len(cut) >= 3 else []

    def depth(self, x: float, y: float) -> float:
        """Distance along the optical axis of a ground point, for painting far things first."""
        return self.camera_space((x, y, 0.0))[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Something to paint: ``depth`` orders, ``paint`` draws."""

    depth: float
    paint: Callable[[Canvas], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An upright box: ground point of its middle, ``along`` x ``across`` footprint turned by ``heading``, z range.

    ``narrow`` draws the top smaller than the bottom (car cabins, roofs).
    """

    x: float
    y: float
    heading: float
    along: float
    across: float
    bottom: float
    top: float
    narrow: float = 1.0

    def corners(self, level: float, scale: float = 1.0) -> list[Vertex]:
        """The four corners at height ``level``, in order."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        places = []
        for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
            u, w = a * self.along / 2 * scale, b * self.across / 2 * scale
            places.append((self.x + u * cos - w * sin, self.y + u * sin + w * cos, level))
        return places


# brightness of the faces: front, right side, back, left side
_FACE_LIGHT = (0.92, 0.72, 0.62, 0.84)


def paint_box(canvas: Canvas, view: View, box: Box, colour: Colour, *, top: Colour | None = None) -> None:
    """The visible faces of a box."""
    low, high = box.corners(box.bottom), box.corners(box.top, box.narrow)
    for index in range(4):
        following = (index + 1) % 4
        face = (low[index], low[following], high[following], high[index])
        if _faces_camera(face[0], face[1], box):
            outline = view.outline(face)
            if outline:
                canvas.polygon(outline, shaded(colour, _FACE_LIGHT[index]))
    outline = view.outline(high)
    if outline and box.top < view.height:
        canvas.polygon(outline, top or shaded(colour, 1.08))


def _faces_camera(first: Vertex, second: Vertex, box: Box) -> bool:
    middle_x, middle_y = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
    return (middle_x - box.x) * -middle_x + (middle_y - box.y) * -middle_y > 0


def ground(canvas: Canvas, view: View, points: Sequence[Point], colour: Colour) -> None:
    """A convex polygon on the ground."""
    outline = view.outline([(x, y, 0.0) for x, y in points])
    if outline:
        canvas.polygon(outline, colour)


def stripe(canvas: Canvas, view: View, ends: tuple[Point, Point], width: float, colour: Colour) -> None:
    """A straight painted line on the ground, ``width`` metres wide."""
    start, end = ends
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    nx, ny = -dy / length * width / 2, dx / length * width / 2
    corners = [(start[0] + nx, start[1] + ny), (end[0] + nx, end[1] + ny)]
    corners += [(end[0] - nx, end[1] - ny), (start[0] - nx, start[1] - ny)]
    ground(canvas, view, corners, colour)


def shadow(canvas: Canvas, view: View, box: Box, *, reach: float = 0.5, percent: int = 62) -> None:
    """The shadow a box throws to its right on the ground."""
    corners = [(x + reach * (1 if x > box.x else 0.4), y - reach * 0.2, 0.0) for x, y, _ in box.corners(0.0, 1.06)]
    outline = view.outline(corners)
    if outline:
        canvas.shade(outline, percent)


def car(view: View, place: Point, heading: float, colour: Colour, *, kind: str = "car") -> Actor:
    """A vehicle of ``kind`` car, van or bus, driving towards ``heading``."""
    x, y = place
    long, wide, high = {"car": (4.5, 1.8, 0.95), "van": (5.4, 2.0, 1.3), "bus": (10.5, 2.5, 1.3)}[kind]
    roof = {"car": 1.5, "van": 2.2, "bus": 3.1}[kind]
    body = Box(x=x, y=y, heading=heading, along=long, across=wide, bottom=0.28, top=high)
    back = -0.25 if kind == "car" else 0.0
    cos, sin = math.cos(heading), math.sin(heading)
    share = 0.55 if kind == "car" else 0.96
    cabin = Box(
        x=x + back * cos, y=y + back * sin, heading=heading, along=long * share, across=wide * 0.94, bottom=high,
        top=roof, narrow=0.78 if kind == "car" else 0.97,
    )  # fmt: skip

    def paint(canvas: Canvas) -> None:
        shadow(canvas, view, body)
        paint_box(
            canvas,
            view,
            Box(x=x, y=y, heading=heading, along=long * 0.9, across=wide * 0.96, bottom=0.0, top=0.3),
            TYRE,
        )
        paint_box(canvas, view, body, colour)
        paint_box(canvas, view, cabin, GLASS, top=shaded(colour, 1.12))
        _lamps(canvas, view, body)

    return Actor(depth=view.depth(x, y), paint=paint)


def _lamps(canvas: Canvas, view: View, body: Box) -> None:
    cos, sin = math.cos(body.heading), math.sin(body.heading)
    for end, colour in ((1, rgb(255, 246, 214)), (-1, rgb(196, 28, 24))):
        ex, ey = body.x + end * body.along / 2 * cos, body.y + end * body.along / 2 * sin
        if (ex - body.x) * -ex + (ey - body.y) * -ey <= 0:
            continue
        for side in (-1, 1):
            inner, outer = side * body.across * 0.28, side * body.across * 0.46
            corners = [
                (ex - inner * sin, ey + inner * cos, 0.6), (ex - outer * sin, ey + outer * cos, 0.6),
                (ex - outer * sin, ey + outer * cos, 0.78), (ex - inner * sin, ey + inner * cos, 0.78),
            ]  # fmt: skip
            outline = view.outline(corners)
            if outline:
                canvas.polygon(outline, colour)


def person(view: View, place: Point, phase: float, clothes: Colour, trousers: Colour, *, size: float = 1.0) -> Actor:
    """Somebody walking; ``phase`` (radians) swings the legs. ``size`` 0.7 is a child."""
    x, y = place

    def paint(canvas: Canvas) -> None:
        foot = view.camera_space((x, y, 0.0))
        if foot[2] < 1.0:
            return
        scale = view.focal * view.size[0] / 1280 / foot[2] * size
        px, py = view.pixel(foot)
        _, head_y = view.pixel(view.camera_space((x, y, 1.7 * size)))
        tall = py - head_y
        canvas.shade([(px - 0.3 * scale, py - 0.05 * scale), (px + 0.7 * scale, py - 0.08 * scale),
                      (px + 0.8 * scale, py + 0.04 * scale), (px - 0.2 * scale, py + 0.08 * scale)], 66)  # fmt: skip
        swing = math.sin(phase) * 0.17 * scale
        hip = py - tall * 0.48
        for side in (-1, 1):
            toe = px + side * (0.05 * scale + swing)
            at = px + side * 0.07 * scale
            half = 0.07 * scale
            canvas.polygon([(at - half, hip), (at + half, hip), (toe + half, py), (toe - half, py)], trousers)
            hand = px - side * (0.23 * scale + swing * 0.6)
            arm = px - side * 0.2 * scale
            top, low = py - tall * 0.82, py - tall * 0.47
            canvas.polygon(
                [(arm - half * 0.7, top), (arm + half * 0.7, top), (hand + half * 0.6, low), (hand - half * 0.6, low)],
                shaded(clothes, 0.8),
            )
        chest, waist = 0.2 * scale, 0.15 * scale
        canvas.polygon([(px - chest, py - tall * 0.84), (px + chest, py - tall * 0.84), (px + waist, hip + tall * 0.03),
                        (px - waist, hip + tall * 0.03)], clothes)  # fmt: skip
        canvas.ellipse(px, py - tall * 0.93, 0.11 * scale, tall * 0.085, SKIN)
        canvas.ellipse(px, py - tall * 0.965, 0.115 * scale, tall * 0.055, rgb(28, 24, 22))

    return Actor(depth=view.depth(x, y), paint=paint)


def tree(canvas: Canvas, view: View, x: float, y: float, *, height: float = 6.0, green: Colour | None = None) -> None:
    """A street tree with a shaded crown."""
    colour = green or rgb(52, 84, 44)
    foot = view.camera_space((x, y, 0.0))
    if foot[2] < 1.0:
        return
    scale = view.focal * view.size[0] / 1280 / foot[2]
    px, py = view.pixel(foot)
    cx, cy = view.pixel(view.camera_space((x, y, height * 0.68)))
    canvas.shade(view.outline([(x - 1.6, y - 1, 0), (x + 2.4, y - 1, 0), (x + 2.4, y + 1, 0), (x - 1.6, y + 1, 0)]), 64)
    half = 0.14 * scale
    canvas.polygon([(px - half, py), (px + half, py), (cx + half * 0.7, cy), (cx - half * 0.7, cy)], rgb(70, 56, 44))
    radius = height * 0.3 * scale
    for dx, dy, part, light in (
        (0.0, 0.25, 1.0, 0.72), (-0.4, 0.0, 0.72, 0.86), (0.42, -0.05, 0.7, 0.8), (0.0, -0.32, 0.76, 1.0),
        (-0.2, -0.45, 0.42, 1.2), (0.3, -0.3, 0.36, 1.14),
    ):  # fmt: skip
        canvas.ellipse(cx + dx * radius, cy + dy * radius, radius * part, radius * part * 0.9, shaded(colour, light))
