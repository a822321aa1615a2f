"""The pictures of simulated cameras: a crossing, a square, a school gate and an underground car park in infra-red look.

A scene paints its background once; per picture it lists actors. ``turn`` runs from 0 to 1 over one loop of the footage,
and every movement is a whole number of rounds per loop, so the last frame leads seamlessly into the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ops.sim.canvas import Canvas, Colour, Point, rgb, shaded
from ops.sim.view3d import Actor, Box, View, car, ground, paint_box, person, stripe, tree

ASPHALT = rgb(92, 93, 95)
PAVING = rgb(152, 147, 138)
KERB = rgb(178, 175, 168)
PAINT = rgb(226, 226, 220)
YELLOW = rgb(214, 172, 62)
GRASS = rgb(84, 108, 66)
SKY = rgb(176, 194, 208)
_CLOTHES = (
    rgb(150, 44, 42),
    rgb(44, 62, 112),
    rgb(210, 206, 196),
    rgb(60, 96, 76),
    rgb(206, 160, 60),
    rgb(92, 60, 104),
)
_TROUSERS = (rgb(36, 40, 56), rgb(60, 56, 52), rgb(40, 58, 92))
_PAINTWORK = (
    rgb(222, 222, 222),
    rgb(40, 42, 46),
    rgb(148, 152, 156),
    rgb(150, 34, 36),
    rgb(44, 74, 128),
    rgb(196, 184, 160),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """How a kind of place looks: ``background(canvas)`` once, ``actors(turn)`` per picture; ``grey`` = infra-red."""

    view: View
    background: Callable[[Canvas], None]
    actors: Callable[[float], list[Actor]]
    grey: bool = False

    def paint(self, canvas: Canvas, turn: float) -> None:
        """Paint the moving things over a copy of the background, far ones first."""
        for actor in sorted(self.actors(turn), key=lambda actor: -actor.depth):
            actor.paint(canvas)
        if self.grey:
            neutral = bytes([128]) * len(canvas.u)
            canvas.u[:] = neutral
            canvas.v[:] = neutral


def _lap(turn: float, start: float, length: float, rounds: int = 1) -> float:
    """Place on a closed track of ``length`` metres, beginning at ``start``, after ``turn``."""
    return (start + turn * length * rounds) % length


def _gradient(canvas: Canvas, top: int, bottom: int, upper: Colour, lower: Colour) -> None:
    for y in range(top, bottom):
        part = (y - top) / max(bottom - top, 1)
        blend = tuple(round(a + (b - a) * part) for a, b in zip(upper, lower, strict=True))
        canvas.rectangle(0, y, canvas.width, y + 1, (blend[0], blend[1], blend[2]))


def _far_ground(canvas: Canvas, view: View, colour: Colour) -> None:
    horizon = int(view.pixel(view.camera_space((0, 4000, 0)))[1])
    _gradient(canvas, 0, horizon, rgb(150, 178, 204), rgb(206, 212, 214))
    _gradient(canvas, horizon, canvas.height, shaded(colour, 1.12), shaded(colour, 0.86))


def _block(canvas: Canvas, view: View, box: Box, colour: Colour, *, storeys: int, bays: int) -> None:
    """A building with rows of windows on the side turned to the camera."""
    paint_box(canvas, view, box, colour)
    left, right, front = box.x - box.along / 2, box.x + box.along / 2, box.y - box.across / 2
    for storey in range(storeys):
        low = box.bottom + (box.top - box.bottom) * (storey + 0.3) / storeys
        high = box.bottom + (box.top - box.bottom) * (storey + 0.78) / storeys
        for bay in range(bays):
            x0 = left + (right - left) * (bay + 0.2) / bays
            x1 = left + (right - left) * (bay + 0.8) / bays
            outline = view.outline([(x0, front, low), (x1, front, low), (x1, front, high), (x0, front, high)])
            if outline:
                light = 1.0 + ((storey * 7 + bay * 5) % 4) * 0.22
                canvas.polygon(outline, shaded(rgb(58, 72, 86), light))


# --- crossing -----------------------------------------------------------------------------------------------------

_CROSS_VIEW = View(height=8.5, pitch=0.33, yaw=0.14, focal=860)
_ROAD = 7.5  # half width of the road that leads away
_SIDE = (25.0, 38.0)  # y range of the road across


def _crossing_background(canvas: Canvas) -> None:
    view = _CROSS_VIEW
    _far_ground(canvas, view, PAVING)
    for x, y, long, storeys, bays, colour in (
        (-44, 96, 46, 9, 14, rgb(170, 160, 148)), (34, 104, 40, 12, 12, rgb(148, 156, 164)),
        (-2, 150, 36, 16, 10, rgb(160, 166, 172)), (72, 84, 34, 6, 10, rgb(178, 152, 130)),
        (-88, 80, 40, 7, 10, rgb(156, 150, 150)),
    ):  # fmt: skip
        box = Box(x=x, y=y, heading=0, along=long, across=14, bottom=0, top=storeys * 3.1)
        _block(canvas, view, box, colour, storeys=storeys, bays=bays)
    ground(canvas, view, [(-12, 40), (-40, 40), (-40, 86), (-12, 86)], GRASS)
    ground(canvas, view, [(12, 41), (60, 41), (60, 80), (12, 80)], GRASS)
    for edge in (_ROAD + 0.3, _ROAD):
        colour = KERB if edge > _ROAD else ASPHALT
        ground(canvas, view, [(-edge, 1), (edge, 1), (edge, 200), (-edge, 200)], colour)
        side = (_SIDE[0] - (edge - _ROAD), _SIDE[1] + (edge - _ROAD))
        ground(canvas, view, [(-150, side[0]), (150, side[0]), (150, side[1]), (-150, side[1])], colour)
    ground(
        canvas,
        view,
        [(-_ROAD, _SIDE[0] - 1), (_ROAD, _SIDE[0] - 1), (_ROAD, _SIDE[1] + 1), (-_ROAD, _SIDE[1] + 1)],
        ASPHALT,
    )
    _crossing_markings(canvas, view)
    _crossing_greenery(canvas, view)


def _crossing_markings(canvas: Canvas, view: View) -> None:
    x: float
    y: float
    for y0, y1 in ((1, 20.5), (43, 190)):
        stripe(canvas, view, ((-0.12, y0), (-0.12, y1)), 0.12, YELLOW)
        stripe(canvas, view, ((0.12, y0), (0.12, y1)), 0.12, YELLOW)
        for lane in (-3.7, 3.7):
            for step in range(int(y0), int(y1), 6):
                stripe(canvas, view, ((lane, step), (lane, min(step + 3, y1))), 0.14, PAINT)
    middle = sum(_SIDE) / 2
    for x0, x1 in ((-150, -12), (12, 150)):
        stripe(canvas, view, ((x0, middle), (x1, middle)), 0.2, YELLOW)
    for step in range(14):
        x = -_ROAD + 0.55 + step * 1.07
        for y in (21.2, 39.4):
            stripe(canvas, view, ((x, y), (x, y + 2.8)), 0.5, PAINT)
    for step in range(11):
        y = _SIDE[0] + 0.8 + step * 1.15
        for x in (-11.4, 8.4):
            stripe(canvas, view, ((x, y), (x + 2.8, y)), 0.5, PAINT)
    stripe(canvas, view, ((0.3, 20.4), (_ROAD, 20.4)), 0.4, PAINT)


def _crossing_greenery(canvas: Canvas, view: View) -> None:
    x: float
    y: float
    for x, y in (
        (-14, 84),
        (13, 70),
        (-13, 66),
        (13.5, 56),
        (-14, 52),
        (14, 45),
        (-13, 42.5),
        (24, 43),
        (-26, 44),
        (38, 44),
    ):
        tree(canvas, view, x, y, height=6.5)
    for x in (-9.4, 9.6):
        paint_box(
            canvas, view, Box(x=x, y=41.5, heading=0, along=0.24, across=0.24, bottom=0, top=5.6), rgb(96, 98, 102)
        )


def _standing_tree(view: View, place: Point, green: Colour) -> Actor:
    """A tree that moving things may pass behind."""
    x, y = place
    return Actor(depth=view.depth(x, y), paint=lambda canvas: tree(canvas, view, x, y, height=5.4, green=green))


def _signal(view: View, turn: float) -> Actor:
    green = turn % 0.5 < 0.28

    def paint(canvas: Canvas) -> None:
        for x in (-9.4, 9.6):
            paint_box(
                canvas, view, Box(x=x, y=41.4, heading=0, along=0.8, across=0.4, bottom=4.0, top=6.2), rgb(30, 32, 34)
            )
            for level, on, colour in ((5.7, not green, rgb(240, 40, 30)), (4.5, green, rgb(40, 220, 120))):
                px, py = view.pixel(view.camera_space((x, 41.1, level)))
                size = 5.4 * view.size[0] / 1280
                canvas.ellipse(px, py, size, size, colour if on else rgb(48, 44, 40))

    return Actor(depth=view.depth(0, 41.3), paint=paint)


def _crossing_actors(turn: float) -> list[Actor]:
    view = _CROSS_VIEW
    actors = [_signal(view, turn)]
    actors += [_standing_tree(view, place, rgb(60, 92, 48)) for place in ((-10.5, 17), (-10.5, 10), (10.2, 14.5))]
    for index, (lane, start, kind) in enumerate(
        ((1.9, 0, "car"), (1.9, 74, "van"), (5.6, 30, "car"), (5.6, 104, "car"), (1.9, 120, "car"))
    ):
        y = _lap(turn, start, 150, 1) - 8
        actors.append(car(view, (lane, y), math.pi / 2, _PAINTWORK[index % 6], kind=kind))
    for index, (lane, start, kind) in enumerate(
        ((-1.9, 10, "car"), (-1.9, 58, "car"), (-5.6, 92, "bus"), (-5.6, 20, "car"))
    ):
        y = 142 - _lap(turn, start, 150, 1)
        actors.append(car(view, (lane, y), -math.pi / 2, _PAINTWORK[(index + 3) % 6], kind=kind))
    for index, (lane, start) in enumerate(((28.4, 0), (28.4, 64), (34.6, 40))):
        east = lane > 31
        x = _lap(turn, start, 130, 1) - 65
        actors.append(car(view, (x if east else -x, lane), 0.0 if east else math.pi, _PAINTWORK[(index + 1) % 6]))
    for index in range(5):
        x = _lap(turn, index * 9.1, 44, 1) - 22
        direction = 1 if index % 2 else -1
        y = 22.4 + index * 0.35 if index < 3 else 40.6 + index * 0.2
        phase = turn * 2 * math.pi * 26 + index
        actors.append(person(view, (x * direction, y), phase, _CLOTHES[index], _TROUSERS[index % 3]))
    return actors


# --- square -------------------------------------------------------------------------------------------------------

_SQUARE_TREES = ((-14, 30), (-14, 50), (24, 32), (26, 58), (-22, 20))
_SQUARE_VIEW = View(height=7.0, pitch=0.36, yaw=-0.2, focal=820)


def _square_background(canvas: Canvas) -> None:
    view = _SQUARE_VIEW
    _far_ground(canvas, view, rgb(168, 162, 152))
    for row in range(-16, 20):
        for column in range(2, 26):
            if (row + column) % 2:
                x, y = row * 3.0, column * 3.0
                ground(canvas, view, [(x, y), (x + 3, y), (x + 3, y + 3), (x, y + 3)], rgb(148, 141, 130))
    _block(
        canvas,
        view,
        Box(x=-18, y=96, heading=0, along=84, across=16, bottom=0, top=15),
        rgb(188, 176, 156),
        storeys=4,
        bays=22,
    )
    paint_box(canvas, view, Box(x=-18, y=88, heading=0, along=30, across=4, bottom=0, top=18), rgb(204, 194, 176))
    _block(
        canvas,
        view,
        Box(x=66, y=100, heading=0, along=46, across=16, bottom=0, top=30),
        rgb(142, 152, 162),
        storeys=10,
        bays=12,
    )
    ground(canvas, view, [(-60, 70), (80, 70), (80, 82), (-60, 82)], GRASS)
    for x in range(-54, 84, 9):
        tree(canvas, view, x, 76 + (x % 4), height=7)
    for ring, colour in ((9.0, KERB), (8.4, rgb(84, 122, 134)), (3.0, KERB)):
        points = [(6 + ring * math.cos(a * math.pi / 16), 44 + ring * math.sin(a * math.pi / 16)) for a in range(32)]
        ground(canvas, view, points, colour)
    paint_box(
        canvas,
        view,
        Box(x=6, y=44, heading=0.4, along=2.2, across=2.2, bottom=0, top=5.5, narrow=0.5),
        rgb(190, 186, 178),
    )
    for x, y in _SQUARE_TREES:
        ground(canvas, view, [(x - 3, y - 1.5), (x + 3, y - 1.5), (x + 3, y + 1.5), (x - 3, y + 1.5)], GRASS)
    for x, y in ((-8, 16), (12, 20)):
        paint_box(
            canvas, view, Box(x=x, y=y, heading=0.2, along=2.2, across=0.6, bottom=0.2, top=0.5), rgb(132, 92, 60)
        )


def _square_actors(turn: float) -> list[Actor]:
    view = _SQUARE_VIEW
    actors = [_standing_tree(view, place, rgb(66, 96, 50)) for place in _SQUARE_TREES]
    for index in range(16):
        track = index % 4
        phase = turn * 2 * math.pi * (22 + index % 5) + index
        if track == 0:
            angle = turn * 2 * math.pi * (1 if index % 8 else -1) + index
            x, y = 6 + 12 * math.cos(angle), 42 + 12 * math.sin(angle)
        elif track == 1:
            x, y = _lap(turn, index * 7, 70) - 35, 14 + index * 1.7
        elif track == 2:
            x, y = 35 - _lap(turn, index * 5, 70), 19 + index * 2.2
        else:
            x, y = -18 + index * 2.4, 10 + _lap(turn, index * 6, 64)
        actors.append(
            person(view, (x, y), phase, _CLOTHES[index % 6], _TROUSERS[index % 3], size=0.68 if index % 7 == 3 else 1)
        )
    jet = 1.2 + 0.8 * math.sin(turn * 2 * math.pi * 4)

    def fountain(canvas: Canvas) -> None:
        for angle in range(8):
            x, y = 6 + 4.8 * math.cos(angle * math.pi / 4), 44 + 4.8 * math.sin(angle * math.pi / 4)
            foot, top = view.pixel(view.camera_space((x, y, 0))), view.pixel(view.camera_space((x, y, 1.4 + jet)))
            canvas.polygon([(foot[0] - 3, foot[1]), (foot[0] + 3, foot[1]), (top[0] + 1, top[1]), (top[0] - 1, top[1])],
                           rgb(206, 220, 226))  # fmt: skip

    actors.append(Actor(depth=view.depth(6, 38), paint=fountain))
    return actors


# --- school gate --------------------------------------------------------------------------------------------------

_GATE_VIEW = View(height=5.2, pitch=0.25, yaw=0.32, focal=880)


def _gate_background(canvas: Canvas) -> None:
    x: float
    view = _GATE_VIEW
    _far_ground(canvas, view, PAVING)
    _block(
        canvas,
        view,
        Box(x=-4, y=74, heading=0, along=70, across=14, bottom=0, top=17),
        rgb(186, 120, 98),
        storeys=5,
        bays=20,
    )
    _block(
        canvas,
        view,
        Box(x=58, y=90, heading=0, along=40, across=14, bottom=0, top=26),
        rgb(178, 176, 168),
        storeys=8,
        bays=10,
    )
    ground(canvas, view, [(-60, 33), (80, 33), (80, 66), (-60, 66)], rgb(150, 92, 76))
    ground(canvas, view, [(-40, 40), (50, 40), (50, 60), (-40, 60)], GRASS)
    for x in range(-46, 70, 10):
        tree(canvas, view, x, 63, height=6)
    for x0, x1 in ((-60, -7), (7.5, 80)):
        paint_box(
            canvas,
            view,
            Box(x=(x0 + x1) / 2, y=32, heading=0, along=x1 - x0, across=0.5, bottom=0, top=0.7),
            rgb(156, 148, 138),
        )
        for x in range(int(x0), int(x1), 1):
            paint_box(
                canvas, view, Box(x=x, y=32, heading=0, along=0.12, across=0.12, bottom=0.7, top=2.2), rgb(52, 58, 62)
            )
    for x in (-7, 7.2):
        paint_box(canvas, view, Box(x=x, y=32, heading=0, along=1.5, across=1.5, bottom=0, top=4.2), rgb(168, 70, 56))
    paint_box(canvas, view, Box(x=0.1, y=32, heading=0, along=16.5, across=1.2, bottom=4.2, top=5.4), rgb(168, 70, 56))
    for index in range(6):
        px, py = view.pixel(view.camera_space((-5 + index * 2, 31.3, 4.8)))
        canvas.ellipse(px, py, 9, 9, rgb(226, 190, 96))
    paint_box(canvas, view, Box(x=11, y=29.5, heading=0, along=3, across=2.4, bottom=0, top=2.8), rgb(196, 204, 208))
    ground(canvas, view, [(-80, 6), (90, 6), (90, 19), (-80, 19)], KERB)
    ground(canvas, view, [(-80, 6.4), (90, 6.4), (90, 18.6), (-80, 18.6)], ASPHALT)
    for x in range(-78, 88, 6):
        stripe(canvas, view, ((x, 12.5), (x + 3, 12.5)), 0.15, PAINT)
    for step in range(11):
        y = 7.2 + step * 1.08
        stripe(canvas, view, ((-3, y), (3, y)), 0.5, YELLOW)
    for x in (-14, -24, 17, 27):
        tree(canvas, view, x, 25, height=5.6)


def _gate_actors(turn: float) -> list[Actor]:
    view = _GATE_VIEW
    actors = []
    for index in range(9):
        phase = turn * 2 * math.pi * (24 + index % 4) + index
        along = _lap(turn, index * 4.9, 44)
        y = 6 + along if index % 3 else 50 - along
        x = -2.2 + (index % 5) * 1.05
        child = index % 3 != 1
        colour = rgb(42, 82, 140) if child else _CLOTHES[index % 6]
        actors.append(person(view, (x, y), phase, colour, _TROUSERS[index % 3], size=0.74 if child else 1.0))
    for index in range(4):
        x, phase = _lap(turn, index * 21, 84) - 34, turn * 2 * math.pi * 25 + index
        actors.append(
            person(view, (x if index % 2 else 16 - x, 22.5 + index * 0.8), phase, _CLOTHES[index], _TROUSERS[1])
        )
    for index, (lane, start, kind) in enumerate(
        ((9.4, 0, "car"), (9.4, 66, "van"), (15.6, 30, "car"), (15.6, 92, "car"))
    ):
        x = _lap(turn, start, 120) - 60
        right = lane < 12
        heading = 0.0 if right else math.pi
        actors.append(car(view, (x if right else -x, lane), heading, _PAINTWORK[index % 6], kind=kind))
    guard = person(view, (5.6, 29.5), math.sin(turn * 2 * math.pi * 3) * 0.4, rgb(32, 40, 66), rgb(28, 30, 40))
    return [*actors, guard]


# --- car park -----------------------------------------------------------------------------------------------------

_PARK_VIEW = View(height=3.4, pitch=0.2, yaw=-0.1, focal=760)


def _park_background(canvas: Canvas) -> None:
    y: float
    side: float
    view = _PARK_VIEW
    horizon = int(view.pixel(view.camera_space((0, 4000, 0)))[1])
    _gradient(canvas, 0, horizon, rgb(70, 70, 70), rgb(40, 40, 40))
    _gradient(canvas, horizon, canvas.height, rgb(60, 60, 60), rgb(140, 140, 140))
    outline = view.outline([(-18, 60, 0), (18, 60, 0), (18, 60, 3.9), (-18, 60, 3.9)])
    canvas.polygon(outline, rgb(74, 74, 74))
    for side in (-1, 1):
        wall = view.outline([(side * 18, 2, 0), (side * 18, 60, 0), (side * 18, 60, 3.9), (side * 18, 2, 3.9)])
        canvas.polygon(wall, rgb(86, 86, 86))
        for bay in range(14):
            stripe(canvas, view, ((side * 5.0, 4 + bay * 4.0), (side * 10.6, 4 + bay * 4.0)), 0.12, rgb(200, 200, 200))
    for step in range(5, 58, 6):
        stripe(canvas, view, ((0, step), (0, step + 3)), 0.14, rgb(190, 190, 190))
    for row in range(4):
        for side in (-2.6, 2.6):
            y = 12 + row * 13
            lamp = view.outline(
                [(side - 0.15, y, 3.85), (side + 0.15, y, 3.85), (side + 0.15, y + 5, 3.85), (side - 0.15, y + 5, 3.85)]
            )
            if lamp:
                canvas.polygon(lamp, rgb(250, 250, 250))
    for row in range(5, -1, -1):
        y = 14 + row * 8.0
        for side in (-1, 1):
            if (row * 3 + side) % 4:
                car(view, (side * 7.9, y + 2.0), math.pi / 2 * (1 + side), _PAINTWORK[(row + side) % 6]).paint(canvas)
            pillar = Box(x=side * 11.2, y=y, heading=0, along=0.8, across=0.8, bottom=0, top=3.9)
            paint_box(canvas, view, pillar, rgb(150, 150, 150))
            paint_box(
                canvas,
                view,
                Box(x=side * 11.2, y=y, heading=0, along=0.84, across=0.84, bottom=0, top=1.1),
                rgb(210, 190, 90),
            )
    canvas.u[:] = bytes([128]) * len(canvas.u)
    canvas.v[:] = bytes([128]) * len(canvas.v)


def _park_actors(turn: float) -> list[Actor]:
    view = _PARK_VIEW
    phase = turn * 2 * math.pi * 25
    away = 4 + _lap(turn, 0, 74)
    near = 66 - _lap(turn, 30, 74)
    actors = [
        car(view, (2.4, away), math.pi / 2, _PAINTWORK[0]),
        car(view, (-2.4, near), -math.pi / 2, _PAINTWORK[2], kind="van"),
    ]
    for index in range(3):
        y = 9 + _lap(turn, index * 17, 46) if index % 2 else 55 - _lap(turn, index * 17, 46)
        actors.append(person(view, ((-4.4, 4.3, 4.6)[index], y), phase + index, _CLOTHES[index + 1], _TROUSERS[index]))
    return actors


SCENES: dict[str, Scene] = {
    "crossing": Scene(view=_CROSS_VIEW, background=_crossing_background, actors=_crossing_actors),
    "square": Scene(view=_SQUARE_VIEW, background=_square_background, actors=_square_actors),
    "gate": Scene(view=_GATE_VIEW, background=_gate_background, actors=_gate_actors),
    "carpark": Scene(view=_PARK_VIEW, background=_park_background, actors=_park_actors, grey=True),
}
