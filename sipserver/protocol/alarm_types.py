"""The alarm table of §A.2.5.3: what method, type and event of an alarm mean, and which combinations there are."""

from __future__ import annotations

from typing import Final

METHODS: Final[dict[int, str]] = {
    1: "电话报警",
    2: "设备报警",
    3: "短信报警",
    4: "GPS报警",
    5: "视频报警",
    6: "设备故障报警",
    7: "其他报警",
}
DEVICE: Final = 2
GPS: Final = 4
TYPES: Final[dict[int, dict[int, str]]] = {
    2: {1: "视频丢失报警", 2: "设备防拆报警", 3: "存储设备磁盘满报警", 4: "设备高温报警", 5: "设备低温报警"},
    5: {
        1: "人工视频报警",
        2: "运动目标检测报警",
        3: "遗留物检测报警",
        4: "物体移除检测报警",
        5: "绊线检测报警",
        6: "入侵检测报警",
        7: "逆行检测报警",
        8: "徘徊检测报警",
        9: "流量统计报警",
        10: "密度检测报警",
        11: "视频异常检测报警",
        12: "快速移动报警",
        13: "图像遮挡报警",
    },
    6: {1: "存储设备磁盘故障报警", 2: "存储设备风扇故障报警"},
}
EVENTS: Final[dict[int, str]] = {1: "进入区域", 2: "离开区域"}
INTRUSION: Final = (5, 6)


def label(method: int | None, kind: int | None, event: int | None) -> str:
    """Words for people; what the table does not have is named by its method."""
    base = METHODS.get(method or 0, "未知报警")
    word = TYPES.get(method or 0, {}).get(kind or 0, base)
    if (method, kind) == INTRUSION and event in EVENTS:
        return f"{word}：{EVENTS[event]}"
    return word


def known(priority: int | None, method: int | None, kind: int | None, event: int | None) -> bool:
    """True for combinations of the table; a missing type or event is fine."""
    if method not in METHODS or (priority is not None and priority not in (1, 2, 3, 4)):
        return False
    if kind is not None and kind not in TYPES.get(method, {}):
        return False
    return event is None or ((method, kind) == INTRUSION and event in EVENTS)
