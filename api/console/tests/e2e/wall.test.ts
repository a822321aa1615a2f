/* The wall in a real browser: pictures move, every stream is given back, refusals and faults are said plainly. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { camera, openStage, phase, pixels, play, shot, signIn, tile, unfold, type Stage } from "./harness";

const PLACE = "政务中心";
let stage: Stage;

beforeEach(async () => {
  stage = await openStage();
  await signIn(stage, "zhiban1");
  await unfold(stage.page, "蜀山区", PLACE, "验证点位");
});
afterEach(async () => {
  const { faults } = stage;
  await stage.close();
  expect(faults).toEqual([]);
});

const deletes = (): number => stage.mock.callsOf("DELETE", /^\/streams\//).length;
const clean = () => expect.poll(() => stage.mock.openStreams().length, { timeout: 8000 });

async function playFour(): Promise<void> {
  for (const spot of ["东门入口", "西门入口", "北广场全景", "地下车库出口"]) await play(stage.page, `${PLACE}·${spot}`);
  for (let place = 0; place < 4; place++) await phase(stage.page, place, "playing");
}

const muted = (place: number): Promise<boolean> =>
  stage.page.evaluate((selector) => document.querySelector<HTMLVideoElement>(`${selector} video`)!.muted, tile(place));

/** Waits until the tile's clock has gone on by `seconds`. */
async function watchFor(place: number, seconds: number): Promise<void> {
  const { time } = await pixels(stage.page, place);
  await stage.page.waitForFunction(
    ([selector, until]) => document.querySelector<HTMLVideoElement>(`${selector} video`)!.currentTime > Number(until),
    [tile(place), String(time + seconds)] as const,
    { timeout: 15_000 },
  );
}

describe("pictures", () => {
  it("plays four cameras at once: clocks advance, pixels change, figures and ledger numbers stand below", async () => {
    const { page, mock } = stage;
    await playFour();
    const before = await Promise.all([0, 1, 2, 3].map((place) => pixels(page, place)));
    for (let place = 0; place < 4; place++) await watchFor(place, 1.5);
    const after = await Promise.all([0, 1, 2, 3].map((place) => pixels(page, place)));
    for (let place = 0; place < 4; place++) {
      expect(after[place]!.time).toBeGreaterThan(before[place]!.time);
      expect(after[place]!.sum, `pixels of tile ${place}`).not.toBe(before[place]!.sum);
      expect(after[place]!.dark, `tile ${place} is black`).toBe(false);
    }
    for (const [place, stream] of mock.openStreams().entries()) {
      expect(await page.textContent(`${tile(place)} [data-test=tile-ledger]`)).toContain(String(stream.ledger_seq));
    }
    expect(await page.textContent(`${tile(0)} [data-test=tile-codec]`)).toBe("H.264");
    expect(await page.textContent(`${tile(0)} [data-test=tile-size]`)).toBe("640×360");
    await page.waitForSelector(`${tile(0)} [data-test=tile-bitrate]`);
    await shot(page, "wall-4");
  });

  it("stays within half a second of the live edge", async () => {
    const { page } = stage;
    await playFour();
    for (let place = 0; place < 4; place++) await watchFor(place, 4);
    for (let place = 0; place < 4; place++) {
      const lag = await page.evaluate((selector) => {
        const video = document.querySelector<HTMLVideoElement>(`${selector} video`)!;
        return video.buffered.end(video.buffered.length - 1) - video.currentTime;
      }, tile(place));
      expect(lag).toBeLessThan(0.5);
    }
  });

  it("moves a playing picture to another place without asking again", async () => {
    const { page, mock } = stage;
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    await page.dragAndDrop(`${tile(0)} .picture`, `${tile(3)} .picture`);
    await phase(page, 3, "playing");
    await watchFor(3, 0.5);
    expect(mock.callsOf("POST", /^\/streams$/)).toHaveLength(1);
    expect(deletes()).toBe(0);
  });

  it("takes a camera dragged from the tree, and gives back the one it replaces", async () => {
    const { page, mock } = stage;
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    const first = mock.openStreams()[0]!.id;
    await camera(page, `${PLACE}·大厅安检`).dragTo(page.locator(tile(0)));
    await page.waitForSelector(`${tile(0)}[data-phase=playing] [data-test=tile-name]:has-text("大厅安检")`);
    expect(mock.callsOf("DELETE", new RegExp(first))).toHaveLength(1);
    expect(mock.openStreams()).toHaveLength(1);
  });

  it("lets only a camera with AAC sound, one at a time", async () => {
    const { page } = stage;
    await play(page, "接警大厅（带音频）");
    await phase(page, 0, "playing");
    await play(page, "东门枪机");
    await phase(page, 1, "playing");
    await page.hover(tile(0));
    await page.click(`${tile(0)} [data-test=tile-sound]`);
    expect(await muted(0)).toBe(false);
    const silent = page.locator(`${tile(1)} [data-test=tile-sound]`);
    expect(await silent.isDisabled()).toBe(true);
    expect(await silent.getAttribute("title")).toBe("G.711A 音频浏览器无法播放");

    await camera(page, "接警大厅（带音频）").dragTo(page.locator(tile(2)));
    await phase(page, 2, "playing");
    expect([await muted(0), await muted(2)]).toEqual([false, true]);
    await page.hover(tile(2));
    await page.click(`${tile(2)} [data-test=tile-sound]`);
    expect([await muted(0), await muted(2)]).toEqual([true, false]);
    await page.hover(tile(0));
    await page.click(`${tile(0)} [data-test=tile-sound]`, { modifiers: ["Shift"] });
    expect([await muted(0), await muted(2)]).toEqual([false, false]);
  });

  it("says that sound was not granted, with a button that cannot be pressed", async () => {
    const { page, mock } = stage;
    mock.world.users.find((one) => one.username === "zhiban1")!.may_listen = false;
    await play(page, "接警大厅（带音频）");
    await phase(page, 0, "playing");
    await page.hover(tile(0));
    const button = page.locator(`${tile(0)} [data-test=tile-sound]`);
    expect(await button.isDisabled()).toBe(true);
    expect(await button.getAttribute("title")).toBe("未获声音授权");
    expect(await muted(0)).toBe(true);
    await shot(page, "sound-not-granted");
  });

  it("goes on without a gap in the picture when the sound is taken away", async () => {
    const { page, mock } = stage;
    await play(page, "接警大厅（带音频）");
    await phase(page, 0, "playing");
    await page.hover(tile(0));
    await page.click(`${tile(0)} [data-test=tile-sound]`);
    await watchFor(0, 1);
    // Counts the frames of the screen on which the tile has neither a picture nor its still.
    await page.evaluate((selector) => {
      const video = document.querySelector<HTMLVideoElement>(`${selector} video`)!;
      const still = document.querySelector<HTMLCanvasElement>(`${selector} canvas`)!;
      const seen = { blank: 0, held: 0, all: 0 };
      Object.assign(window, { seen });
      const look = (): void => {
        seen.all++;
        if (!still.hidden && still.width > 0) seen.held++;
        else if (video.readyState < 2 || video.videoWidth === 0) seen.blank++;
        requestAnimationFrame(look);
      };
      look();
    }, tile(0));
    mock.withdrawSound();
    const button = page.locator(`${tile(0)} [data-test=tile-sound]`);
    await expect.poll(() => button.isDisabled()).toBe(true);
    expect(await button.getAttribute("title")).toBe("未获声音授权");
    expect(await button.getAttribute("aria-pressed")).toBe("false");
    await page.waitForSelector(`${tile(0)} [data-test=tile-still]`, { state: "hidden" });
    await watchFor(0, 1);
    const seen = await page.evaluate(() => (window as unknown as { seen: Record<string, number> }).seen);
    expect(seen["held"]).toBeGreaterThan(0);
    expect(seen["blank"]).toBe(0);
    expect(await muted(0)).toBe(true);
    expect((await pixels(page, 0)).dark).toBe(false);
    expect(mock.callsOf("POST", /tickets$/)).toHaveLength(0);
    expect(mock.callsOf("POST", /^\/streams$/)).toHaveLength(1);
  });
});

describe("giving back", () => {
  it("asks for the purpose once, sends it with every view, and closes each with one DELETE", async () => {
    const { page, mock } = stage;
    await camera(page, `${PLACE}·东门入口`).dblclick();
    await page.fill("input[data-test=purpose-note]", "夜班");
    expect(mock.callsOf("POST", /^\/streams$/)).toHaveLength(0);
    await page.click("[data-test=purpose-begin]");
    await phase(page, 0, "playing");
    await play(page, `${PLACE}·西门入口`);
    await phase(page, 1, "playing");
    expect(mock.callsOf("POST", /^\/streams$/).map((call) => call.body!["purpose"])).toEqual([
      "DUTY_WATCH: 夜班",
      "DUTY_WATCH: 夜班",
    ]);
    await page.hover(tile(0));
    await page.click(`${tile(0)} [data-test=tile-close]`);
    await clean().toBe(1);
    await page.click("[data-test=close-all]");
    await clean().toBe(0);
    expect(deletes()).toBe(2);
    expect(mock.sockets.size).toBe(0);
    expect(await page.locator("[data-test=tile][data-phase=idle]").count()).toBe(16);
  });

  it("leaves no stream when the page is reloaded, the window closed, or the user signs out", async () => {
    const { page, mock, context } = stage;
    await playFour();
    await page.reload();
    await clean().toBe(0);

    await unfold(page, "蜀山区", PLACE);
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    await page.click("[data-test=user-menu]");
    await page.click("[data-test=sign-out]");
    await page.waitForURL(/\/login$/);
    await clean().toBe(0);
    const order = mock.calls.map((call) => `${call.method} ${call.path}`);
    expect(order.findLastIndex((one) => one.startsWith("DELETE /streams/"))).toBeLessThan(
      order.lastIndexOf("POST /logout"),
    );

    const second = await context.newPage();
    await signIn({ ...stage, page: second }, "zhiban1");
    await unfold(second, "蜀山区", PLACE);
    await play(second, `${PLACE}·东门入口`);
    await phase(second, 0, "playing");
    await second.close({ runBeforeUnload: true });
    await clean().toBe(0);
  });

  it("gives back a view that was closed before the platform answered", async () => {
    const { page, mock } = stage;
    mock.openDelay = 600;
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "opening");
    await page.keyboard.press("Delete");
    await phase(page, 0, "idle");
    await expect.poll(() => mock.callsOf("DELETE", /^\/streams\//).length, { timeout: 8000 }).toBe(1);
    expect(mock.openStreams()).toHaveLength(0);
  });

  it("closes what does not fit when the wall gets smaller, and keeps the rest playing", async () => {
    const { page, mock } = stage;
    await playFour();
    await page.keyboard.press("1");
    await clean().toBe(1);
    await watchFor(0, 0.5);
    expect(mock.callsOf("POST", /tickets$/)).toHaveLength(0);
  });
});

describe("faults", () => {
  it("comes back with a fresh ticket when the media connection breaks", async () => {
    const { page, mock } = stage;
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    mock.breakMedia();
    await phase(page, 0, "reconnecting");
    await phase(page, 0, "playing");
    await watchFor(0, 1);
    expect(mock.callsOf("POST", /^\/streams\/\w+\/tickets$/)).toHaveLength(1);
    expect(mock.callsOf("POST", /^\/streams$/)).toHaveLength(1);
  });

  it("says that a picture stands still, as long as it does, and does not ask for it again", async () => {
    const { page, mock } = stage;
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    mock.mediaPaused = true;
    await expect
      .poll(() => page.textContent(`${tile(0)} [data-test=tile-frozen]`), { timeout: 10_000 })
      .toMatch(/画面停滞 \d+ 秒/);
    mock.mediaPaused = false;
    await page.waitForSelector(`${tile(0)} [data-test=tile-frozen]`, { state: "detached" });
    await watchFor(0, 1);
    expect(mock.callsOf("POST", /./).filter((call) => /streams/.test(call.path))).toHaveLength(1);
  });

  it("says plainly that this browser has no H.265, and gives the stream back", async () => {
    const { page } = stage;
    await play(page, "南门枪机（H.265）");
    await phase(page, 0, "unsupported");
    const notice = await page.textContent(`${tile(0)} [data-test=tile-notice]`);
    expect(notice).toContain("本浏览器无法解码 H.265");
    expect(notice).toContain("1920×1080");
    expect(notice).toContain("hvc1.1.6.L120.90");
    await clean().toBe(0);
  });

  it("shows a refusal with its code and the articles it rests on, and opens nothing", async () => {
    const { page, mock } = stage;
    await play(page, "更衣区走廊");
    await phase(page, 0, "failed");
    const notice = await page.textContent(`${tile(0)} [data-test=tile-notice]`);
    expect(notice).toContain("拒绝调看");
    expect(notice).toContain("E_PLACE_PROHIBITED");
    expect(await page.locator(`${tile(0)} [data-test=tile-article]`).allInnerTexts()).toEqual([
      "条例第8条",
      "重庆办法第11条(2)",
    ]);
    expect(await page.textContent(`${tile(0)} [data-test=tile-state]`)).toBe("拒绝");
    expect(mock.sockets.size).toBe(0);
  });

  it("tells why the server ended a view, at once", async () => {
    const { page, mock } = stage;
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    mock.endStream(mock.openStreams()[0]!.id, "revoked", ["N16"]);
    await phase(page, 0, "ended");
    const notice = await page.textContent(`${tile(0)} [data-test=tile-notice]`);
    expect(notice).toContain("调看授权已被撤销");
    expect(notice).toContain("条例第16条");
  });

  it("starts again by itself when an offline camera is back", async () => {
    const { page, mock } = stage;
    await play(page, "旧库房枪机");
    await phase(page, 0, "failed");
    expect(await page.textContent(`${tile(0)} [data-test=tile-notice]`)).toContain("设备离线");
    mock.setOnline(mock.world.named["dead"], true);
    await phase(page, 0, "playing");
  });
});

describe("directory", () => {
  it("follows live states without asking again, also after the event link was lost", async () => {
    const { page, mock } = stage;
    const gate = mock.world.named["gate"]!;
    const row = camera(page, gate.name);
    await expect.poll(() => page.textContent("[data-test=online-count]")).toContain("44 / 47");
    mock.setOnline(gate, false);
    await expect.poll(() => row.getAttribute("class")).toContain("off");
    await expect.poll(() => page.textContent("[data-test=online-count]")).toContain("43 / 47");
    mock.breakEvents();
    gate.status = "online";
    await expect.poll(() => row.getAttribute("class"), { timeout: 10_000 }).not.toContain("off");
  });

  it("finds by name, and plays all of a node into a larger layout", async () => {
    const { page, mock } = stage;
    await page.fill("input[data-test=tree-search]", "合肥南站");
    await expect.poll(() => page.locator("[data-test=tree-node]").count()).toBe(6);
    await page.fill("input[data-test=tree-search]", "");
    const row = page.locator("[data-test=tree-node]", { hasText: /^蜀山区/ }).first();
    await row.hover();
    await row.locator("[data-test=play-all]").click();
    await page.click("[data-test=purpose-begin]");
    await expect.poll(() => page.locator("[data-test=tile][data-phase=playing]").count(), { timeout: 30_000 }).toBe(16);
    expect(mock.openStreams()).toHaveLength(16);
    await watchFor(15, 1);
    await shot(page, "wall-16");
    const scrolls = await page.evaluate(
      () => document.documentElement.scrollHeight > innerHeight || document.documentElement.scrollWidth > innerWidth,
    );
    expect(scrolls).toBe(false);
    await page.click("[data-test=close-all]");
    await clean().toBe(0);
  });

  it("has keys for layouts, and full screen for wall and tile", async () => {
    const { page } = stage;
    for (const [key, count] of [
      ["1", 1],
      ["9", 9],
      ["0", 16],
      ["4", 4],
    ] as const) {
      await page.keyboard.press(key);
      await expect.poll(() => page.locator("[data-test=tile]:visible").count()).toBe(count);
    }
    await page.keyboard.press("f");
    await page.waitForFunction(() => document.fullscreenElement?.getAttribute("data-test") === "wall");
    await page.keyboard.press("f");
    await page.waitForFunction(() => document.fullscreenElement === null);
    await play(page, `${PLACE}·东门入口`);
    await phase(page, 0, "playing");
    await page.dblclick(`${tile(0)} .picture`);
    await page.waitForFunction(() => document.fullscreenElement?.getAttribute("data-test") === "tile");
  });

  it("shows three trees", async () => {
    const { page } = stage;
    await page.click("[data-test=mode-device]");
    await page.waitForSelector('[data-test=tree-node][title="蜀山区汇聚 NVR"]');
    await page.click("[data-test=mode-group]");
    await page.waitForSelector(".blank");
  });
});
