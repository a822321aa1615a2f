"""The real console in a real Chromium: sign in, play, every picture in its order, close; H.265 is refused in words."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from catalog.model import NodeKey
from ops.sim.barcode import CELLS_PER_WIDTH, STRIP_CELLS, read_frame_number
from ops.sim.fleet import DEMO_DEVICES, DEMO_NAMES, DEMO_NVR_CHANNELS, Fleet, SimSpec, demo_specs, start_fleet
from ops.sim.footage import FootageSpec, ensure_footage
from ops.sim.library import DEMO_FOOTAGE
from ops.wiring import CONSOLE_DIR
from sharing.ledger import Entry, EntryKind
from sharing.people import Role
from tests.e2e.rig import Rig, need

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
]
WATCHER, FIRST, OWN = "zhiban", "One-time-word-1", "Own-and-long-word-2"
# Small and slow, so that every picture can be looked at on a busy machine; six seconds a loop.
COUNTING = FootageSpec(
    name="counting", scene="gate", label="counting", camera=77, audio=None,
    seconds=6, fps=10, gop=10, width=320, height=180, bitrate=300_000,
)  # fmt: skip
COUNTING_CODE, COUNTING_NAME = "34020000001320000077", "计数相机"
MODERN_NAME = "H.265 相机"
WIDE = {"width": 1600, "height": 900}
FOUR = ["弋江路与赭山路路口", "师范附属小学门口", DEMO_NVR_CHANNELS[1][1], "鸠兹广场西侧"]


@dataclass(slots=True)
class Stage:
    """A platform with registered simulators, and a page somebody is signed in on."""

    rig: Rig
    fleet: Fleet
    page: Page
    faults: list[str]
    asked: bool = False  # for the purpose, once a session

    def tile(self, name: str) -> str:
        """The place that shows the camera of that name."""
        return f'[data-test=tile]:has([data-test=tile-name]:text-is("{name}"))'

    async def play(self, name: str, *, phase: str = "playing") -> None:
        """Find a camera by its name, double-click it, and wait until its place has got that far."""
        await self.page.fill("input[data-test=tree-search]", name)
        await self.page.locator(f'[data-test=tree-node][title="{name}"]').first.dblclick()
        if not self.asked:
            self.asked = True
            await self.page.click("[data-test=purpose-begin]")
        await self.page.wait_for_selector(f"{self.tile(name)}[data-phase={phase}]")

    async def video(self, name: str, script: str, *arguments: object) -> Any:
        """Run a function of (video, …arguments) in the page."""
        found = await self.page.query_selector(f"{self.tile(name)} video")
        assert found is not None
        return await found.evaluate(script, arguments)

    async def clock_beyond(self, name: str, seconds: float) -> None:
        """Wait until the video's own time has got beyond `seconds`."""
        found = await self.page.query_selector(f"{self.tile(name)} video")
        await self.page.wait_for_function("([video, time]) => video.currentTime > time", arg=[found, seconds])

    async def close_all(self) -> None:
        """Every tile is empty again."""
        if await self.page.is_enabled("[data-test=close-all]"):
            await self.page.click("[data-test=close-all]")
        await self.rig.until(lambda: not self.rig.platform.sharing.leases(), "every lease ends with its tile")


@pytest.fixture(scope="module")
async def fleet(rig: Rig, demo_footage: Path) -> AsyncIterator[Fleet]:
    """The demo's simulators and the counting camera, registered, their catalogues stored; a watcher of them all."""
    footage = ensure_footage([*DEMO_FOOTAGE, COUNTING], demo_footage)
    passwords = {kind: f"simulated-{kind}-1" for kind in DEMO_DEVICES}
    keys = [await rig.admit(code, passwords[kind], name=DEMO_NAMES[kind]) for kind, code in DEMO_DEVICES.items()]
    keys.append(await rig.admit(COUNTING_CODE, "simulated-count-1", name=COUNTING_NAME))
    counting = SimSpec(
        kind="ipc",
        code=COUNTING_CODE,
        name=COUNTING_NAME,
        password="simulated-count-1",
        media=(footage["counting"],),
    )
    await rig.platform.people.create_user(
        actor=None,
        username=WATCHER,
        display_name="值班员",
        password=FIRST,
        roles={Role.WATCHER},
        scope=[NodeKey(key) for key in keys],
    )
    specs = [*demo_specs(footage, passwords), counting]
    # the lower platform has a camera of the same name
    specs = [replace(spec, name=MODERN_NAME) if spec.kind == "ipc-h265" else spec for spec in specs]
    async with await start_fleet(specs, rig.upper, retry=2) as running:
        await running.wait_registered(timeout=60)
        for key in keys:
            await rig.synced(key, channels=1)
        yield running


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if not (CONSOLE_DIR / "index.html").is_file():
        pytest.fail("the console is not built; run `make console`")
    async with async_playwright() as driver:
        launched = await driver.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        yield launched
        await launched.close()


@pytest.fixture(scope="module")
async def wall(rig: Rig, fleet: Fleet, browser: Browser) -> AsyncIterator[Stage]:
    """Signed in for the first time: the one-time password is changed before anything else can be seen."""
    context = await browser.new_context(viewport=WIDE, locale="zh-CN", timezone_id="Asia/Shanghai")  # type: ignore[arg-type]
    context.set_default_timeout(30_000)
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    await page.goto(f"{rig.web}/")
    await page.fill("#username", WATCHER)
    await page.fill("#password", FIRST)
    await page.click("[data-test=sign-in]")
    for field in ("pw-next", "pw-again"):
        await page.fill(f"input[data-test={field}]", OWN)
    await page.click("[data-test=pw-submit]")
    await page.wait_for_url("**/wall")
    yield Stage(rig, fleet, page, faults)
    await context.close()
    assert faults == []


@pytest.fixture
async def stage(wall: Stage) -> AsyncIterator[Stage]:
    """An empty wall, and an empty one is left."""
    yield wall
    await wall.close_all()


COLLECT = """
(video, [count, cells, across]) => new Promise((resolve) => {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const cell = canvas.width / across;
  const seen = [];
  const take = (now, about) => {
    context.drawImage(video, 0, 0);
    const { data, width } = context.getImageData(0, 0, Math.ceil(cells * cell), Math.ceil(cell));
    const row = Math.floor(cell / 2);
    const means = [];
    for (let i = 0; i < cells; i++) {
      const at = (row * width + Math.floor((i + 0.5) * cell)) * 4;
      means.push(Math.round((data[at] + data[at + 1] + data[at + 2]) / 3));
    }
    seen.push({ time: about.mediaTime, cells: means });
    if (seen.length === count) resolve(seen); else video.requestVideoFrameCallback(take);
  };
  video.requestVideoFrameCallback(take);
})
"""
LOOK = """
(video) => {
  const canvas = document.createElement("canvas");
  canvas.width = 64; canvas.height = 36;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 64, 36);
  return [video.currentTime, context.getImageData(0, 0, 64, 36).data.join()];
}
"""


def number_of(cells: list[int]) -> int:
    """The frame number in a strip read at one pixel a cell."""
    row = bytes(cells) + bytes(CELLS_PER_WIDTH - len(cells))
    mark = read_frame_number(row, width=CELLS_PER_WIDTH, height=1)
    assert mark is not None, "the picture is damaged"
    assert mark.camera == COUNTING.camera
    return mark.frame


async def test_every_picture_is_shown_in_its_order(stage: Stage) -> None:
    await stage.play(COUNTING_NAME)
    # at the very beginning the player leaves out what lies behind the live edge
    await stage.clock_beyond(COUNTING_NAME, 2.0)
    # a busy machine may leave a picture undrawn now and then, but not in every three seconds
    windows = [await collect(stage) for _ in range(3)]
    assert any(gapless(numbers) for numbers in windows), windows
    (live,) = stage.rig.platform.play.streams()
    stats = stage.rig.platform.media.session_stats(live.key)
    assert stats is not None
    assert (stats.lost, stats.damaged) == (0, 0)
    await stage.close_all()
    row = await last_end(stage)
    assert row.facts["dropped"] == 0
    assert row.facts["frames"] > 90


async def last_end(stage: Stage) -> Entry:
    """The newest row of the ledger, once it is the end of a view."""
    found: list[Entry] = []

    async def written() -> bool:
        found[:], _ = await stage.rig.platform.ledger.entries(limit=1)
        return found[0].kind is EntryKind.END

    await stage.rig.until(written, "the end of the view is registered")
    return found[0]


async def collect(stage: Stage) -> list[int]:
    """The numbers of thirty pictures as they are shown; each is the one that belongs to its time."""
    seen = await stage.video(COUNTING_NAME, COLLECT, 30, STRIP_CELLS, CELLS_PER_WIDTH)
    numbers = [number_of(picture["cells"]) for picture in seen]
    times = [round(picture["time"] * COUNTING.fps) for picture in seen]
    assert len({(number - time) % COUNTING.frames for number, time in zip(numbers, times, strict=True)}) == 1
    return numbers


def gapless(numbers: list[int]) -> bool:
    return all((later - earlier) % COUNTING.frames == 1 for earlier, later in pairwise(numbers))


def test_control_a_gap_or_a_standstill_is_found() -> None:
    assert gapless([57, 58, 59, 0, 1])
    assert not gapless([57, 59, 0])
    assert not gapless([57, 57, 58])


async def test_four_cameras_at_once_and_a_picture_of_the_wall(stage: Stage, tmp_path: Path) -> None:
    for name in FOUR:
        await stage.play(name)
    before = {name: await stage.video(name, LOOK) for name in FOUR}
    for name, (time, _) in before.items():
        await stage.clock_beyond(name, time + 1)
    rows = {lease.ledger_seq for lease in stage.rig.platform.sharing.leases()}
    for name, (_, pixels) in before.items():
        assert (await stage.video(name, LOOK))[1] != pixels, f"the picture of {name} stands still"
        shown = await stage.page.text_content(f"{stage.tile(name)} [data-test=tile-ledger]")
        assert shown is not None
        rows.remove(int(re.sub(r"\D", "", shown)))
    assert rows == set()
    await stage.page.fill("input[data-test=tree-search]", "")
    await stage.page.click(f'[data-test=tree-node][title="{DEMO_NAMES["lower"]}"]')
    await stage.page.wait_for_selector('[data-test=tree-node][title="鸠兹广场西侧"]')
    shot = tmp_path / "wall.png"
    await stage.page.screenshot(path=shot)
    assert shot.stat().st_size > 100_000


async def test_closing_a_tile_ends_the_stream(stage: Stage) -> None:
    await stage.play(COUNTING_NAME)
    (lease,) = stage.rig.platform.sharing.leases()
    await stage.page.hover(stage.tile(COUNTING_NAME))
    await stage.page.click(f"{stage.tile(COUNTING_NAME)} [data-test=tile-close]")
    await stage.rig.until(lambda: stage.rig.platform.play.streams() == [], "the stream ends with its last viewer")
    await stage.rig.until(lambda: stage.rig.platform.play.load()["dialogs"] == 0, "the camera gets its BYE")
    assert stage.rig.platform.sharing.leases() == []
    row = await last_end(stage)
    assert (row.lease, row.facts["reason"]) == (lease.key, "viewer_closed")
    assert row.facts["frames"] > 0


async def test_h265_is_refused_in_words_and_costs_nothing(stage: Stage) -> None:
    await stage.play(MODERN_NAME, phase="unsupported")
    notice = stage.page.locator(f"{stage.tile(MODERN_NAME)} [data-test=tile-notice]")
    await expect(notice).to_contain_text("本浏览器无法解码 H.265")
    await stage.rig.until(lambda: not stage.rig.platform.sharing.leases(), "the view is given back")
