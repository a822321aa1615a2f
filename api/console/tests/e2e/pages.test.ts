/* Signing in, managing devices and users, reading and verifying the ledger, in a real browser. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openStage, phase, play, shot, signIn, unfold, type Stage } from "./harness";

let stage: Stage;

beforeEach(async () => void (stage = await openStage()));
afterEach(async () => {
  const { faults } = stage;
  await stage.close();
  expect(faults).toEqual([]);
});

const links = (): Promise<string[]> => stage.page.locator("nav a").allInnerTexts();

describe("signing in", () => {
  it("gives every role its own pages and keeps the others away", async () => {
    const { page, mock } = stage;
    const menus: Record<string, string[]> = {
      zhiban1: ["视频监控"],
      admin: ["设备管理", "用户管理"],
      shenji: ["调阅台账"],
    };
    for (const [name, menu] of Object.entries(menus)) {
      await signIn(stage, name);
      await page.waitForSelector("nav a");
      expect(await links()).toEqual(menu);
      await page.goto(`${mock.origin}/${name === "shenji" ? "devices" : "ledger"}`);
      await page.waitForSelector("nav a.router-link-active");
      expect(await links()).toEqual(menu);
      await page.evaluate(() => sessionStorage.clear());
    }
  });

  it("tells an administrator and an auditor on the wall that they do not watch, and who does", async () => {
    const { page, mock } = stage;
    for (const [name, words, home] of [
      ["admin", "系统管理员管理用户与设备，不调看画面", "/devices"],
      ["shenji", "审计员查阅台账，不调看画面", "/ledger"],
    ] as const) {
      await signIn(stage, name);
      await page.waitForSelector("nav a");
      await page.goto(`${mock.origin}/wall`);
      const said = await page.textContent("[data-test=page-state]");
      expect(said).toContain(words);
      expect(said).toContain("请以值班员账号登录");
      expect(await page.locator("[data-test=tile]").count()).toBe(0);
      await shot(page, `wall-closed-${name}`);
      await page.click("[data-test=page-state] a");
      await page.waitForURL(new RegExp(`${home}$`));
      await page.evaluate(() => sessionStorage.clear());
    }
    await signIn(stage, "zhiban1");
    await page.waitForSelector("[data-test=tile]");
    await page.goto(`${mock.origin}/wall/closed`);
    await page.waitForURL(/\/wall$/);
  });

  it("says that name or password is wrong, and after five failures for how long it is locked", async () => {
    const { page, mock } = stage;
    await page.goto(`${mock.origin}/login`);
    for (let i = 0; i < 5; i++) {
      await page.fill("#username", "zhiban1");
      await page.fill("#password", `wrong ${i}`);
      await page.click("[data-test=sign-in]");
      await expect.poll(() => page.textContent("[data-test=login-error]")).toContain("用户名或密码错误");
      await expect.poll(() => mock.callsOf("POST", /^\/login$/).length).toBe(i + 1);
      await expect.poll(() => page.inputValue("#password")).toBe("");
    }
    await page.fill("#password", "zhiban1-password-1");
    await page.click("[data-test=sign-in]");
    await expect.poll(() => page.textContent("[data-test=login-error]")).toMatch(/暂时锁定.*剩余 1[45]:/s);
    expect(await page.isDisabled("[data-test=sign-in]")).toBe(true);
  });

  it("demands a new password at the first login before anything else", async () => {
    const { page, mock } = stage;
    await signIn(stage, "zhiban2");
    await page.waitForSelector("[data-test=pw-next]");
    await page.goto(`${mock.origin}/wall`);
    await page.waitForURL(/\/login$/);
    await page.fill("input[data-test=pw-current]", "zhiban2-password-1");
    await page.fill("input[data-test=pw-next]", "short");
    await page.fill("input[data-test=pw-again]", "other");
    await page.click("[data-test=pw-submit]");
    await page.waitForSelector(".el-form-item__error");
    expect(mock.callsOf("POST", /^\/me\/password$/)).toHaveLength(0);
    await page.fill("input[data-test=pw-next]", "A new long pass 7");
    await page.fill("input[data-test=pw-again]", "A new long pass 7");
    await page.click("[data-test=pw-submit]");
    await page.waitForURL(/\/wall$/);
  });

  it("goes back to the sign-in page when the session has ended, and says so", async () => {
    const { page, mock } = stage;
    await signIn(stage, "admin");
    await page.waitForSelector("[data-test=devices]");
    (mock as unknown as { sessions: Map<string, unknown> }).sessions.clear();
    await page.click('nav a[href="/users"]');
    await page.waitForURL(/\/login$/);
    expect(await page.textContent("[data-test=login-error]")).toContain("登录已失效");
  });

  it("speaks English on request and shows Shanghai time on a workstation elsewhere", async () => {
    const { page } = stage;
    await signIn(stage, "admin");
    await page.click("[data-test=lang]");
    expect(await links()).toEqual(["Devices", "Users"]);
    const shown = await page.textContent("[data-test=clock]");
    const shanghai = new Intl.DateTimeFormat("sv-SE", { timeZone: "Asia/Shanghai", dateStyle: "short" }).format(
      new Date(),
    );
    expect(shown!.startsWith(shanghai)).toBe(true);
  });
});

describe("devices", () => {
  beforeEach(async () => {
    await signIn(stage, "admin");
    await stage.page.waitForSelector("[data-test=devices]");
  });

  it("checks the code, adds a device and shows the password made for it exactly once", async () => {
    const { page, mock } = stage;
    await page.click("[data-test=add-device]");
    await page.fill("input[data-test=gb-id]", "3402000000132");
    await page.fill("input[data-test=device-name]", "新枪机");
    await page.click("[data-test=device-save]");
    await page.waitForSelector(".el-form-item__error");
    expect(mock.callsOf("POST", /^\/devices$/)).toHaveLength(0);
    await page.fill("input[data-test=gb-id]", "34020000001320000077");
    expect(await page.textContent("[data-test=gb-id-note]")).toContain("网络摄像机");
    await page.click("[data-test=device-save]");
    const secret = await page.textContent("[data-test=once-value]");
    expect(secret!.length).toBeGreaterThan(10);
    await page.click("[data-test=noted]");
    await page.waitForSelector('[data-test=devices] >> text="34020000001320000077"');
    await expect.poll(async () => (await page.content()).includes(secret!)).toBe(false);
  });

  it("says that a code exists already", async () => {
    const { page } = stage;
    await page.click("[data-test=add-device]");
    await page.fill("input[data-test=gb-id]", "34020000001320000001");
    await page.fill("input[data-test=device-name]", "重复");
    await page.click("[data-test=device-save]");
    await expect.poll(() => page.textContent(".el-dialog .el-alert")).toContain("该国标编码已存在");
  });

  it("shows the progress of a catalogue sync and its result", async () => {
    const { page } = stage;
    await page.locator("[data-test=sync]:visible").first().click();
    await page.waitForSelector("[data-test=sync-progress]");
    await expect.poll(() => page.textContent("[data-test=sync-progress]")).toMatch(/[1-9]\d*\/18/);
    await page.waitForSelector('.el-message:has-text("目录已同步：共 18，新增 2")');
    expect(await page.locator("[data-test=sync-progress]").count()).toBe(0);
  });

  it("deletes only after a question", async () => {
    const { page, mock } = stage;
    await page.locator("[data-test=delete-device]:visible").first().click();
    await page.click('.el-message-box button:has-text("取消")');
    expect(mock.callsOf("DELETE", /^\/devices\//)).toHaveLength(0);
    await page.locator("[data-test=delete-device]:visible").first().click();
    await page.click(".el-message-box .el-button--danger");
    await expect.poll(() => mock.callsOf("DELETE", /^\/devices\//).length).toBe(1);
  });
});

describe("users", () => {
  beforeEach(async () => {
    await signIn(stage, "admin");
    await stage.page.click('nav a[href="/users"]');
    await stage.page.waitForSelector("[data-test=users]");
  });

  it("creates a watcher with a scope from the tree; the password is shown once", async () => {
    const { page, mock } = stage;
    await page.click("[data-test=add-user]");
    await page.fill("input[data-test=new-username]", "zhiban3");
    await page.fill("input[data-test=new-name]", "赵值班");
    await page.locator("[data-test=scope-tree] .el-checkbox").first().click();
    expect(await page.textContent("[data-test=may-listen]")).toBe("允许监听声音");
    expect(await page.isChecked("[data-test=may-listen] input")).toBe(false);
    await shot(page, "user-form");
    await page.click("[data-test=user-save]");
    await page.waitForSelector("[data-test=once-value]");
    expect(mock.callsOf("POST", /^\/users$/)[0]!.body).toEqual({
      username: "zhiban3",
      display_name: "赵值班",
      role: "watcher",
      scope: ["div_3401"],
      may_listen: false,
    });
    await shot(page, "user-added");
  });

  it("gives the right to sound and takes it, and shows who has it; other roles have no such right", async () => {
    const { page, mock } = stage;
    const listens = page.locator("[data-test=listens]:visible");
    const row = page.locator('.el-table__row:has-text("zhiban1")');
    await expect.poll(() => listens.count()).toBe(1);
    expect(await row.textContent()).toContain("可监听");
    await shot(page, "users");
    await row.locator("[data-test=edit-user]:visible").click();
    expect(await page.isChecked("[data-test=may-listen] input")).toBe(true);
    await page.click("[data-test=may-listen]");
    await page.click("[data-test=user-save]");
    await expect.poll(() => listens.count()).toBe(0);
    expect(mock.callsOf("PATCH", /^\/users\//)[0]!.body).toMatchObject({ may_listen: false, scope: ["div_3401"] });

    await page.click("[data-test=add-user]");
    await page.fill("input[data-test=new-username]", "zhiban4");
    await page.click("[data-test=may-listen]");
    await page.click("[data-test=user-save]");
    await page.click("[data-test=noted]");
    await expect.poll(() => listens.count()).toBe(1);

    await page.click("[data-test=add-user]");
    await page.fill("input[data-test=new-username]", "shenji2");
    await page.click("[data-test=role-auditor]");
    await page.waitForSelector("[data-test=may-listen]", { state: "detached" });
    await page.click("[data-test=user-save]");
    await page.waitForSelector("[data-test=once-value]");
    const bodies = mock.callsOf("POST", /^\/users$/).map((call) => call.body!);
    expect(bodies.map((body) => body["may_listen"])).toEqual([true, undefined]);
  });

  it("disables and enables, and resets a password", async () => {
    const { page, mock } = stage;
    await page.locator("[data-test=toggle-user]:visible").first().click();
    await page.click(".el-message-box .el-button--danger");
    await page.waitForSelector('[data-test=users] >> text="已停用"');
    await page.locator("[data-test=reset-password]:visible").nth(1).click();
    await page.click(".el-message-box .el-button--danger");
    await page.waitForSelector("[data-test=once-value]");
    expect(mock.callsOf("PATCH", /^\/users\//).map((call) => call.body)).toEqual([
      { disabled: true },
      { reset_password: true },
    ]);
  });
});

describe("ledger", () => {
  async function someViews(): Promise<void> {
    const { page } = stage;
    await signIn(stage, "zhiban1");
    await unfold(page, "验证点位");
    await play(page, "东门枪机");
    await phase(page, 0, "playing");
    await play(page, "更衣区走廊");
    await phase(page, 1, "failed");
    await page.click("[data-test=user-menu]");
    await page.click("[data-test=sign-out]");
    await page.waitForURL(/\/login$/);
  }

  it("lists views and refusals with purpose and articles, and verifies an entry in the browser", async () => {
    const { page } = stage;
    await someViews();
    await signIn(stage, "shenji");
    await page.waitForSelector("[data-test=ledger] .el-table__row");
    const table = await page.textContent("[data-test=ledger]");
    for (const words of ["东门枪机", "更衣区走廊", "值班巡查", "摄像机位于禁止安装的场所", "条例第8条"])
      expect(table).toContain(words);
    await page.locator("[data-test=verify]:visible").first().click();
    await page.waitForSelector("[data-test=verdict].ok");
    expect(await page.textContent("[data-test=verdict]")).toContain("✓");
    await shot(page, "proof");
  });

  it("shows that an entry was altered", async () => {
    const { page, mock } = stage;
    await someViews();
    const row = mock.ledger.rows.find((one) => one.canonical.includes("E_PLACE_PROHIBITED"))!;
    row.canonical = row.canonical.replace("E_PLACE_PROHIBITED", "E_NOTHING_HAPPENED");
    await signIn(stage, "shenji");
    await page.locator('.el-table__row:has-text("更衣区走廊") [data-test=verify]:visible').click();
    await page.waitForSelector("[data-test=verdict].bad");
  });
});
