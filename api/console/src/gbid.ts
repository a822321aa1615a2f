/* 20-digit GB/T 28181 address codes (annex D): form and what the type digits say. */

export type DeviceKind = "ipc" | "nvr" | "platform" | "other";

const TYPES: [from: number, to: number, kind: DeviceKind, zh: string, en: string][] = [
  [111, 111, "nvr", "DVR", "DVR"],
  [112, 112, "other", "视频服务器", "Video server"],
  [113, 113, "other", "编码器", "Encoder"],
  [118, 118, "nvr", "NVR", "NVR"],
  [131, 131, "ipc", "摄像机", "Camera"],
  [132, 132, "ipc", "网络摄像机", "Network camera"],
  [114, 117, "other", "前端设备", "Front-end device"],
  [119, 130, "other", "前端设备", "Front-end device"],
  [133, 199, "other", "前端外围设备", "Front-end peripheral"],
  [200, 200, "platform", "下级平台（中心信令控制服务器）", "Lower platform"],
  [201, 209, "platform", "平台设备", "Platform equipment"],
];

export interface GbIdReading {
  valid: boolean;
  typeCode: string | null;
  kind: DeviceKind | null;
  zh: string;
  en: string;
}

export function readGbId(text: string): GbIdReading {
  const typeCode = /^\d{13}/.test(text) ? text.slice(10, 13) : null;
  const found =
    typeCode === null ? undefined : TYPES.find(([from, to]) => Number(typeCode) >= from && Number(typeCode) <= to);
  return {
    valid: /^\d{20}$/.test(text),
    typeCode,
    kind: found?.[2] ?? null,
    zh: found?.[3] ?? "",
    en: found?.[4] ?? "",
  };
}
