/* Canned footage for the mock engine: ffmpeg makes short clips, cut here into an init segment and single fragments. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const CACHE = fileURLToPath(new URL("../../node_modules/.cache/mingjian-footage/", import.meta.url));
const FFMPEG = process.env.FFMPEG ?? "/usr/bin/ffmpeg";
export const SECONDS = 8;

const SOURCES = {
  gate: { input: "testsrc2=s=640x360:r=25", codec: "h264" },
  hall: { input: "mandelbrot=s=640x360:r=25", codec: "h264" },
  road: { input: "life=s=640x360:r=25:mold=12:ratio=0.2:death_color=#2a4a3a:life_color=#9fd8b8", codec: "h264" },
  yard: { input: "gradients=s=1280x720:r=25:speed=0.02:c0=#123a4a:c1=#c8d8a0:n=2", codec: "h264" },
  talk: { input: "testsrc2=s=640x360:r=25", codec: "h264", audio: true },
  hevc: { input: "testsrc2=s=1920x1080:r=25", codec: "h265" },
};

function args(source, path) {
  const common = ["-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source.input];
  if (source.audio)
    common.push("-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000", "-c:a", "aac", "-b:a", "64k");
  const video =
    source.codec === "h265"
      ? [
          "-c:v",
          "libx265",
          "-preset",
          "ultrafast",
          "-x265-params",
          "bframes=0:keyint=25:log-level=error",
          "-tag:v",
          "hvc1",
        ]
      : [
          "-c:v",
          "libx264",
          "-preset",
          "veryfast",
          "-tune",
          "zerolatency",
          "-bf",
          "0",
          "-g",
          "25",
          "-keyint_min",
          "25",
          "-sc_threshold",
          "0",
          "-pix_fmt",
          "yuv420p",
          "-b:v",
          "900k",
        ];
  const flags = "frag_every_frame+empty_moov+default_base_moof";
  return [
    ...common,
    ...video,
    "-t",
    String(source.codec === "h265" ? 1 : SECONDS),
    "-movflags",
    flags,
    "-f",
    "mp4",
    path,
  ];
}

function* boxes(data, start, end) {
  for (let at = start; at + 8 <= end;) {
    const size = data.readUInt32BE(at);
    if (size < 8) return;
    yield { type: data.toString("latin1", at + 4, at + 8), at, end: at + size, body: at + 8 };
    at += size;
  }
}

function find(data, start, end, ...path) {
  let range = { body: start, end };
  for (const type of path) {
    range = [...boxes(data, range.body, range.end)].find((box) => box.type === type);
    if (!range) return null;
  }
  return range;
}

/** Track id → timescale, from the moov. */
function timescales(data) {
  const moov = find(data, 0, data.length, "moov");
  const scales = new Map();
  for (const trak of boxes(data, moov.body, moov.end)) {
    if (trak.type !== "trak") continue;
    const tkhd = find(data, trak.body, trak.end, "tkhd");
    const mdhd = find(data, trak.body, trak.end, "mdia", "mdhd");
    const id = data.readUInt32BE(tkhd.body + (data[tkhd.body] === 1 ? 20 : 12));
    scales.set(id, data.readUInt32BE(mdhd.body + (data[mdhd.body] === 1 ? 20 : 12)));
  }
  return scales;
}

function codecsOf(init, source) {
  if (source.codec === "h265") return "hvc1.1.6.L120.90";
  const avcC = init.indexOf("avcC") + 4;
  const hex = [1, 2, 3].map((i) => init[avcC + i].toString(16).padStart(2, "0")).join("");
  return `avc1.${hex}${source.audio ? ",mp4a.40.2" : ""}`;
}

/** One clip: init segment, RFC 6381 codecs, and fragments with their time in seconds and where their tfdt stands. */
function cut(name, source) {
  const path = `${CACHE}${name}.mp4`;
  if (!existsSync(path)) {
    mkdirSync(CACHE, { recursive: true });
    execFileSync(FFMPEG, args(source, path));
  }
  const data = readFileSync(path);
  const top = [...boxes(data, 0, data.length)];
  const initEnd = top.find((box) => box.type === "moov").end;
  const init = data.subarray(0, initEnd);
  const scales = timescales(init);
  const fragments = [];
  let frames = 0;
  for (let i = 0; i < top.length; i++) {
    if (top[i].type !== "moof" || top[i + 1]?.type !== "mdat") continue;
    const start = top[i].at;
    const bytes = data.subarray(start, top[i + 1].end);
    const trafs = [...boxes(data, top[i].body, top[i].end)]
      .filter((box) => box.type === "traf")
      .map((traf) => {
        const track = data.readUInt32BE(find(data, traf.body, traf.end, "tfhd").body + 4);
        const tfdt = find(data, traf.body, traf.end, "tfdt").body;
        return { track, at: tfdt + 4 - start, time: data.readBigUInt64BE(tfdt + 4), scale: scales.get(track) };
      });
    const video = trafs.some((traf) => traf.track === 1);
    const key = video && frames % 25 === 0;
    if (video) frames++;
    fragments.push({ bytes, trafs, key, video, time: Number(trafs[0].time) / trafs[0].scale });
  }
  fragments.sort((a, b) => a.time - b.time);
  const audio = source.audio ? "AAC" : null;
  return { name, init, fragments, codecs: codecsOf(init, source), video: source.codec.toUpperCase(), audio };
}

export function makeFootage() {
  return Object.fromEntries(Object.entries(SOURCES).map(([name, source]) => [name, cut(name, source)]));
}

/** The fragment as it stands in the `loop`-th repetition of the clip. */
export function shifted(fragment, loop) {
  const bytes = Buffer.from(fragment.bytes);
  for (const traf of fragment.trafs) bytes.writeBigUInt64BE(traf.time + BigInt(loop * SECONDS * traf.scale), traf.at);
  return bytes;
}
