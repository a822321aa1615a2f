"""Measures the media engine: delay it adds and processor time per stream, beside FFmpeg remuxing the same stream.

`python tests/bench/bench_media.py [--quick]` prints JSON lines {"name","value","unit","anchor","ratio"} on stdout and a
table on stderr. `ratio` = value / anchor, below 1 is better than the anchor. The anchor is one `ffmpeg -c copy` process
per stream, PS in by pipe, FLV out, as fast as it goes: no network, no tickets, no fan-out, so it is flattered.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

ENGINE = ROOT / "media" / "engine"
ANCHOR_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value and what it is held against."""

    name: str
    value: float
    unit: str
    anchor: float | None = None

    def line(self) -> str:
        """The JSON line of the contract."""
        ratio = None if not self.anchor else round(self.value / self.anchor, 4)
        return json.dumps(
            {"name": self.name, "value": self.value, "unit": self.unit, "anchor": self.anchor, "ratio": ratio}
        )


def engine_binary() -> Path:
    """Builds the load program and returns its path."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SystemExit("cargo is needed to build the load program")
    subprocess.run(
        [cargo, "build", "--quiet", "--release", "-p", "gbmedia", "--bin", "media_bench"], cwd=ENGINE, check=True
    )
    return ENGINE / "target" / "release" / "media_bench"


def run_engine(binary: Path, *, streams: int, viewers: int, seconds: int) -> dict[str, tuple[float, str]]:
    """Figures of one load, by name."""
    done = subprocess.run(
        [str(binary), str(streams), str(viewers), str(seconds)], check=True, capture_output=True, text=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: (row["value"], row["unit"]) for row in rows}


def program_stream(path: Path) -> None:
    """Writes a minute of PS at 2 Mbit/s, 25 pictures a second, as a camera sends it."""
    from ops.sim.footage import FootageSpec, LoopedFootage, load_footage, make_footage
    from ops.sim.ps_mux import PsMuxer

    spec = FootageSpec(name="bench", scene="crossing", label="bench", camera=1, audio=None, seconds=4)
    source = path.with_suffix(".mjf")
    make_footage(spec, source)
    footage = load_footage(source)
    muxer = PsMuxer(video=footage.video, audio=None)
    units = takewhile(lambda unit: unit.dts < ANCHOR_SECONDS * 90_000, LoopedFootage(footage))
    path.write_bytes(b"".join(muxer.mux(unit) for unit in units))


def ffmpeg_cpu_per_stream_second() -> float | None:
    """Milliseconds of processor time FFmpeg takes to remux one second of the stream; None when it is not installed."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder) / "bench.ps"
        program_stream(stream)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with stream.open("rb") as source:
            subprocess.run(
                [ffmpeg, "-v", "error", "-f", "mpeg", "-i", "pipe:0", "-c", "copy", "-f", "flv", "pipe:1"],
                stdin=source,
                stdout=subprocess.DEVNULL,
                check=True,
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used * 1000 / ANCHOR_SECONDS


def measure(*, quick: bool) -> Iterator[Figure]:
    """Every figure, one by one."""
    binary = engine_binary()
    seconds = 5 if quick else 20
    anchor = ffmpeg_cpu_per_stream_second()
    for name, streams, viewers in (("idle", 1, 1), ("streams", 50, 1), ("fan_out", 1, 200)):
        found = run_engine(binary, streams=streams, viewers=viewers, seconds=seconds)
        # Processor time means something under load only, and per viewer where viewers share a stream.
        processor = {"idle": (), "streams": ("cpu_per_stream_second",), "fan_out": ("cpu_per_viewer_second",)}[name]
        for figure in ("latency_p50", "latency_p99", *processor):
            value, unit = found[figure]
            held = anchor if figure in processor else None
            yield Figure(name=f"media.{name}.{figure}", value=value, unit=unit, anchor=held)
        lost = found["pictures_sent"][0] * viewers - found["pictures_seen"][0]
        # Pictures under way when the clock stopped are not lost: at most two per viewer.
        yield Figure(name=f"media.{name}.pictures_lost", value=max(0.0, lost - 2 * streams * viewers), unit="pictures")


def main() -> None:
    """Prints the figures as they come, the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 s a load instead of 20 s")
    figures = []
    for figure in measure(quick=parser.parse_args().quick):
        figures.append(figure)
        sys.stdout.write(figure.line() + os.linesep)
        sys.stdout.flush()
    for figure in figures:
        anchor = "" if figure.anchor is None else f"{figure.anchor:10.3f}"
        sys.stderr.write(f"{figure.name:44}{figure.value:12.3f} {figure.unit:10}{anchor}\n")


if __name__ == "__main__":
    main()
