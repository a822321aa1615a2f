/* What exists in the mock platform: divisions, devices, cameras, users. */
import { randomBytes } from "node:crypto";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
export const key = (prefix) => `${prefix}_${Array.from(randomBytes(20), (byte) => ALPHABET[byte % 32]).join("")}`;

const PLACES = [
  ["蜀山区", ["政务中心", "天鹅湖广场", "万象城"]],
  ["庐阳区", ["四牌楼路口", "逍遥津公园"]],
  ["包河区", ["合肥南站", "滨湖会展中心"]],
];
const SPOTS = ["东门入口", "西门入口", "北广场全景", "地下车库出口", "大厅安检", "南侧通道"];
const CLIPS = ["gate", "hall", "road", "yard"];

export function makeWorld() {
  const nodes = new Map();
  const channels = new Map();
  const devices = [];
  const add = (node) => (nodes.set(`${node.mode}:${node.key}`, node), node);
  let serial = 0;

  const device = (name, gb_id, kind, online, extra = {}) => {
    const one = {
      key: key("dev"),
      gb_id,
      name,
      kind,
      status: online ? "online" : "offline",
      transport: null,
      signalling: "udp",
      manufacturer: "Hikvision",
      model: "DS-2CD3T46",
      firmware: "V5.7.3",
      channel_count: 0,
      created_at: "2026-11-01T02:00:00.000Z",
      registered_at: online ? "2026-11-21T00:11:00.000Z" : null,
      last_seen_at: online ? new Date().toISOString() : "2026-11-19T13:20:09.000Z",
      catalog_synced_at: null,
      catalog_complete: true,
      ...extra,
    };
    devices.push(one);
    add({ mode: "device", key: one.key, name, kind, parent: null, device: one });
    return one;
  };
  const camera = (name, dev, division, options = {}) => {
    const one = {
      key: key("chn"),
      device: dev.key,
      name,
      kind: "camera",
      status: options.status ?? dev.status,
      playable: true,
      ptz_type: 3,
      clip: options.clip ?? CLIPS[serial++ % 4],
      rule: options.rule ?? null,
    };
    channels.set(one.key, one);
    dev.channel_count++;
    add({ mode: "device", key: one.key, kind: "camera", parent: dev.key, channel: one });
    if (division) add({ mode: "division", key: one.key, kind: "camera", parent: division.key, channel: one });
    return one;
  };

  const city = add({ mode: "division", key: "div_3401", name: "合肥市", kind: "division", parent: null });
  const nvrs = new Map();
  PLACES.forEach(([district, places], d) => {
    const area = add({
      mode: "division",
      key: `div_34010${d + 2}`,
      name: district,
      kind: "division",
      parent: city.key,
    });
    const nvr = device(`${district}汇聚 NVR`, `3401000000118000000${d + 1}`, "nvr", true, {
      manufacturer: "Dahua",
      model: "NVR5464",
    });
    nvrs.set(district, nvr);
    places.forEach((place, p) => {
      const site = add({
        mode: "division",
        key: `div_34010${d + 2}${p}`,
        name: place,
        kind: "division",
        parent: area.key,
      });
      SPOTS.forEach((spot, i) =>
        camera(`${place}·${spot}`, nvr, site, { status: d === 1 && i === 3 ? "offline" : "online" }),
      );
    });
  });
  const special = add({ mode: "division", key: "div_340199", name: "验证点位", kind: "division", parent: city.key });
  const ipc = device("东门枪机", "34020000001320000001", "ipc", true);
  const hevc = device("南门枪机（H.265）", "34020000001320000002", "ipc", true);
  const dead = device("旧库房枪机", "34020000001320000009", "ipc", false);
  const lower = device("蜀山分局平台", "34020100002000000001", "platform", true, { manufacturer: null, model: null });
  const named = {
    gate: camera("东门枪机", ipc, special, { clip: "gate" }),
    hevc: camera("南门枪机（H.265）", hevc, special, { clip: "hevc" }),
    talk: camera("接警大厅（带音频）", ipc, special, { clip: "talk" }),
    refused: camera("更衣区走廊", lower, special, {
      rule: { status: 403, code: "E_PLACE_PROHIBITED", articles: ["N8", "CQ11(2)"] },
    }),
    dead: camera("旧库房枪机", dead, special, {}),
  };

  const user = (username, display_name, role, extra = {}) => ({
    key: key("usr"),
    username,
    display_name,
    role,
    scope: role === "watcher" ? ["div_3401"] : [],
    may_listen: username === "zhiban1",
    disabled: false,
    must_change_password: false,
    created_at: "2026-11-01T02:00:00.000Z",
    last_login_at: null,
    password: `${username}-password-1`,
    failures: 0,
    ...extra,
  });
  const users = [
    user("admin", "系统管理员", "administrator"),
    user("zhiban1", "王建国", "watcher"),
    user("zhiban2", "李晓梅", "watcher", { must_change_password: true }),
    user("shenji", "陈审计", "auditor"),
  ];
  return { nodes, channels, devices, users, named };
}

/** Children of a node as GET /channels/tree answers them. */
export function children(world, mode, parent) {
  const all = [...world.nodes.values()].filter((node) => node.mode === mode);
  return all
    .filter((node) => node.parent === parent)
    .map((node) => ({
      key: node.key,
      name: node.channel?.name ?? node.name,
      kind: node.kind,
      parent: node.parent,
      status: node.channel?.status ?? node.device?.status ?? "unknown",
      playable: node.channel !== undefined,
      child_count: all.filter((other) => other.parent === node.key).length,
    }));
}
