/* A real Chromium against the mock platform; shared by the browser tests. */
import { mkdirSync } from "node:fs";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { MockPlatform } from "../mock/server.mjs";

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];

export interface Call {
  method: string;
  path: string;
  body: Record<string, unknown> | null;
}

export interface MockStream {
  id: string;
  channel: string;
  state: string;
  ledger_seq: number;
}

/** The part of the mock that the tests turn and look at. */
export interface Mock {
  origin: string;
  calls: Call[];
  sockets: Set<unknown>;
  openDelay: number;
  mediaPaused: boolean;
  world: {
    named: Record<string, { key: string; device: string; name: string; status: string }>;
    users: { username: string; password: string; may_listen: boolean }[];
  };
  start(port?: number): Promise<Mock>;
  stop(): Promise<void>;
  openStreams(): MockStream[];
  callsOf(method: string, pattern: RegExp): Call[];
  setOnline(channel: unknown, online: boolean): void;
  endStream(id: string, reason: string, articles?: string[]): void;
  breakMedia(): void;
  withdrawSound(): void;
  breakEvents(): void;
  ledger: { rows: { canonical: string }[] };
}

export interface Stage {
  mock: Mock;
  browser: Browser;
  context: BrowserContext;
  page: Page;
  /** Console errors and page errors seen; a test that expects none asserts that. */
  faults: string[];
  close(): Promise<void>;
}

export const SHOTS = process.env.SHOTS ?? "";

export async function openStage(width = 1366, height = 768): Promise<Stage> {
  const mock = (await new MockPlatform().start()) as Mock;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
  const context = await browser.newContext({
    viewport: { width, height },
    locale: "zh-CN",
    timezoneId: "America/New_York",
  });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(`pageerror ${error.message}`));
  page.on("console", (message) => {
    // A refused request is reported by the browser itself and is part of what is tested.
    if (message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(message.text()))
      faults.push(message.text());
  });
  const close = async (): Promise<void> => {
    await browser.close();
    await mock.stop();
  };
  return { mock, browser, context, page, faults, close };
}

export async function signIn({ mock, page }: Stage, username: string): Promise<void> {
  await page.goto(`${mock.origin}/login`);
  await page.fill("#username", username);
  await page.fill("#password", `${username}-password-1`);
  await page.click("[data-test=sign-in]");
}

export async function shot(page: Page, name: string): Promise<void> {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: `${SHOTS}/${name}.png` });
}

export const tile = (place: number): string => `[data-test=tile][data-place="${place}"]`;

export async function phase(page: Page, place: number, wanted: string, timeout = 15_000): Promise<void> {
  await page.waitForSelector(`${tile(place)}[data-phase=${wanted}]`, { timeout });
}

/** Opens the path of node names in the tree, e.g. 蜀山区 › 政务中心. */
export async function unfold(page: Page, ...names: string[]): Promise<void> {
  for (const name of names) {
    const row = page.locator("[data-test=tree-node]", { hasText: new RegExp(`^${name}`) }).first();
    await row.waitFor();
    if ((await row.getAttribute("aria-expanded")) === "false") await row.click();
  }
}

export function camera(page: Page, name: string) {
  return page.locator(`[data-test=tree-node][title="${name}"]`);
}

/** Plays by double click and gives the purpose when it is asked for. */
export async function play(page: Page, name: string): Promise<void> {
  await camera(page, name).dblclick();
  const begin = page.locator("[data-test=purpose-begin]");
  if (await page.locator("[data-test=purpose] b", { hasText: "—" }).count()) await begin.click();
}

/** A coarse fingerprint of what the tile's video shows now: its pixels, not its clock. */
export async function pixels(page: Page, place: number): Promise<{ time: number; sum: number; dark: boolean }> {
  return page.evaluate((selector) => {
    const video = document.querySelector<HTMLVideoElement>(`${selector} video`)!;
    const canvas = document.createElement("canvas");
    canvas.width = 64;
    canvas.height = 36;
    const context = canvas.getContext("2d")!;
    context.drawImage(video, 0, 0, 64, 36);
    const data = context.getImageData(0, 0, 64, 36).data;
    let sum = 0;
    let light = 0;
    for (let i = 0; i < data.length; i += 4) {
      sum = (sum * 31 + data[i]! * 7 + data[i + 1]! * 3 + data[i + 2]!) % 1_000_000_007;
      light += data[i]! + data[i + 1]! + data[i + 2]!;
    }
    return { time: video.currentTime, sum, dark: light < 64 * 36 * 6 };
  }, tile(place));
}
