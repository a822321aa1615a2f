"""The footage of the demo: one loop for every camera of its own and three shared by the lower platform's cameras."""

from __future__ import annotations

from typing import Final

from ops.sim.footage import FootageSpec

DEMO_FOOTAGE: Final = (
    FootageSpec(name="ipc", scene="crossing", label="中山北路与北京路路口", camera=1),
    FootageSpec(name="ipc-h265", scene="square", label="镜湖广场东侧", camera=2, video="h265"),
    FootageSpec(name="nvr-gate", scene="gate", label="第一中学正门", camera=11, audio="aac"),
    FootageSpec(name="nvr-carpark", scene="carpark", label="地下停车场入口", camera=12),
    FootageSpec(name="lower-crossing", scene="crossing", label="鸠江片区 路口", camera=21, seconds=8),
    FootageSpec(name="lower-square", scene="square", label="鸠江片区 广场", camera=22, seconds=8),
    FootageSpec(name="lower-gate", scene="gate", label="鸠江片区 学校门口", camera=23, seconds=8),
)
