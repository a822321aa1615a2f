"""A simulated lower platform (type 200) with a tree of cameras: ``python -m ops.sim.lower_platform …``.

Its catalogue holds divisions, the system itself, a business group (215), nested virtual organisations (216) and cameras
(annex J), sent in several messages. Cameras share footage by the kind of place. Exit codes: see ops/sim/device.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.sim.device import BadArguments, add_common_arguments, main_with, read_code, read_footage
from ops.sim.footage import Footage
from ops.sim.inventory import Inventory, camera_item
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import CatalogItem

DIVISIONS: Final = (("3402", "芜湖市"), ("340202", "镜湖区"), ("340207", "鸠江区"))
GROUP_NAME: Final = "公共安全视频共享"
# number, name, number of the organisation above (None: directly in the business group)
ORGANISATIONS: Final = (
    (1, "镜湖片区", None),
    (2, "步行街与广场", 1),
    (3, "学校周边", 1),
    (4, "鸠江片区", None),
    (5, "主要路口", 4),
    (6, "车站与公园", 4),
    (7, "火车站", 6),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One camera of the tree: serial ``number``, its organisation's number, kind of place, division, WGS-84 place."""

    number: int
    name: str
    organisation: int
    scene: str
    division: str
    place: tuple[float, float]
    ptz_type: str = "3"
    online: bool = True


def _camera(number: int, name: str, organisation: int, scene: str, place: tuple[float, float]) -> Camera:
    return Camera(
        number=number,
        name=name,
        organisation=organisation,
        scene=scene,
        division="340202" if organisation <= 3 else "340207",
        place=place,
        ptz_type="1" if number in _DOMES else "3",
        online=number not in _DARK,
    )


_DOMES: Final = frozenset({3, 4, 12, 13, 16})
_DARK: Final = frozenset({17})
CAMERAS: Final = (
    _camera(1, "中山路步行街南入口", 2, "square", (118.3756, 31.3341)),
    _camera(2, "中山路步行街北入口", 2, "square", (118.3761, 31.3378)),
    _camera(3, "镜湖广场东侧", 2, "square", (118.3789, 31.3352)),
    _camera(4, "鸠兹广场西侧", 2, "square", (118.3702, 31.3366)),
    _camera(5, "第一中学正门", 3, "gate", (118.3834, 31.3402)),
    _camera(6, "第一中学东门", 3, "gate", (118.3851, 31.3404)),
    _camera(7, "师范附属小学门口", 3, "gate", (118.3817, 31.3319)),
    _camera(8, "实验幼儿园门口", 3, "gate", (118.3868, 31.3297)),
    _camera(9, "弋江路与赭山路路口", 5, "crossing", (118.3872, 31.3487)),
    _camera(10, "中山北路与北京路路口", 5, "crossing", (118.3745, 31.3433)),
    _camera(11, "鸠江大道与官陡街路口", 5, "crossing", (118.4012, 31.3695)),
    _camera(12, "天门山路与银湖路路口", 5, "crossing", (118.3921, 31.3768)),
    _camera(13, "火车站站前广场", 7, "square", (118.3898, 31.3562)),
    _camera(14, "火车站出站口", 7, "gate", (118.3904, 31.3567)),
    _camera(15, "长途汽车站出口", 6, "gate", (118.3887, 31.3541)),
    _camera(16, "滨江公园观景台", 6, "square", (118.3625, 31.3389)),
    _camera(17, "轻轨站换乘大厅", 6, "square", (118.3951, 31.3604)),
)


def make_lower_platform(code: str, name: str, footage: Mapping[str, Footage]) -> Inventory:
    """The platform with the address code ``code``; ``footage`` by scene, missing scenes take the first one given."""
    if not footage:
        raise ValueError("a lower platform needs at least one footage")
    stem, network = code[:10], code[13]
    group = f"{stem}215{network}000001"
    organisation = {number: f"{stem}216{network}{number:06d}" for number, _, _ in ORGANISATIONS}
    items = [CatalogItem(device_id=GbId(division), name=title) for division, title in DIVISIONS]
    items.append(
        CatalogItem(
            device_id=GbId(code), name=name, manufacturer="Mingjian Sim", model="SIM-PLATFORM", civil_code="340207",
            address="鸠江区", register_way=1, secrecy=False, online=True,
        )
    )  # fmt: skip
    items.append(CatalogItem(device_id=GbId(group), name=GROUP_NAME, civil_code="340207", parents=(GbId(code),)))
    for number, title, above in ORGANISATIONS:
        parents = () if above is None else (GbId(organisation[above]),)
        item = CatalogItem(
            device_id=GbId(organisation[number]), name=title, parents=parents, business_group_id=GbId(group)
        )
        items.append(item)
    cameras: dict[str, Footage] = {}
    for camera in CAMERAS:
        own = f"{stem}131{network}{camera.number:06d}"
        items.append(
            camera_item(
                own,
                camera.name,
                parents=[code, organisation[camera.organisation]],
                civil_code=camera.division,
                place=camera.place,
                ptz_type=camera.ptz_type,
                online=camera.online,
            )
        )
        if camera.online:
            cameras[own] = footage.get(camera.scene) or next(iter(footage.values()))
    return Inventory(device=GbId(code), name=name, model="SIM-PLATFORM", items=tuple(items), cameras=cameras)


def make_inventory(args: argparse.Namespace) -> Inventory:
    """The inventory out of the command line."""
    footage: dict[str, Footage] = {}
    for text in args.media:
        scene, equals, path = text.partition("=")
        if not equals:
            raise BadArguments("--media: not scene=file")
        footage[scene] = read_footage(Path(path))
    return make_lower_platform(read_code(args.id, "--id").value, args.name, footage)


def make_parser() -> argparse.ArgumentParser:
    """Options of ``python -m ops.sim.lower_platform``."""
    parser = argparse.ArgumentParser(
        prog="ops.sim.lower_platform", description="A simulated lower GB/T 28181 platform."
    )
    add_common_arguments(parser)
    parser.set_defaults(max_calls=4 * len(CAMERAS))
    parser.add_argument("--media", action="append", required=True, help="scene=file: crossing, square, gate, carpark")
    return parser


if __name__ == "__main__":
    raise SystemExit(main_with(make_parser(), make_inventory))
