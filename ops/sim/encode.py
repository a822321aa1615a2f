"""Encoders behind ops/sim/footage.py: paints a scene picture by picture, codes it and its sound with PyAV."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ops.sim.barcode import CELLS_PER_WIDTH, FrameMark, encode_cells
from ops.sim.canvas import Canvas
from ops.sim.scenes import SCENES

if TYPE_CHECKING:
    from ops.sim.footage import FootageSpec

WHITE, BLACK = (235, 128, 128), (16, 128, 128)
G711_SAMPLES = 320  # 40 ms at 8 kHz (20-180 ms a packet, §C.2.4)
AAC_RATE, AAC_SAMPLES = 16_000, 1024
_AAC_RATE_INDEX = 8


def paint_strip(canvas: Canvas, mark: FrameMark) -> None:
    """Draw the machine-readable strip along the top edge."""
    cell = canvas.width // CELLS_PER_WIDTH
    for index, bit in enumerate(encode_cells(mark)):
        canvas.rectangle(index * cell, 0, (index + 1) * cell, cell, WHITE if bit else BLACK)


def paint_frame(spec: FootageSpec, background: Canvas, index: int, clock: str) -> Canvas:
    """The finished picture number ``index``."""
    scene = SCENES[spec.scene]
    canvas = background.copy()
    scene.paint(canvas, index / spec.frames)
    canvas.text(24, 28, clock)
    for place, digit in enumerate(f"F{index:06d}"):  # one by one: single characters are typeset once and kept
        canvas.text(24 + 16 * place, spec.height - 56, digit)
    wide = sum(32 if ord(character) >= 0x2E80 else 16 for character in spec.label)
    canvas.text(spec.width - 24 - wide, spec.height - 56, spec.label)
    paint_strip(canvas, FrameMark(camera=spec.camera, frame=index))
    return canvas


def to_frame(canvas: Canvas) -> VideoFrame:
    """A canvas as PyAV picture."""
    frame = VideoFrame(canvas.width, canvas.height, "yuv420p")
    for plane, content in zip(frame.planes, (canvas.y, canvas.u, canvas.v), strict=True):
        width = plane.width
        if plane.line_size == width:
            plane.update(bytes(content))
            continue
        padding = bytes(plane.line_size - width)
        rows = (bytes(content[start : start + width]) + padding for start in range(0, len(content), width))
        plane.update(b"".join(rows))
    return frame


def from_frame(frame: VideoFrame) -> Canvas:
    """A PyAV yuv420p picture as canvas."""
    planes = []
    for plane in frame.planes:
        rows, size = bytes(plane), plane.line_size
        planes.append(bytearray(b"".join(rows[y * size : y * size + plane.width] for y in range(plane.height))))
    return Canvas(frame.width, frame.height, *planes)


def _filter(spec: FootageSpec, *steps: tuple[str, str]) -> Graph:
    graph = Graph()
    picture = av.VideoFormat("yuv420p", spec.width, spec.height)
    last = graph.add_buffer(width=spec.width, height=spec.height, format=picture, time_base=Fraction(1, spec.fps))
    for name, arguments in steps:
        step = graph.add(name, arguments)
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _pass(graph: Graph, frame: VideoFrame) -> VideoFrame:
    graph.push(frame)
    result = graph.pull()
    if not isinstance(result, VideoFrame):
        raise TypeError("the filter graph gave no picture")
    return result


def paint_background(spec: FootageSpec) -> Canvas:
    """The scene's unmoving part, softened and grained like a lens and a sensor would."""
    canvas = Canvas.blank(spec.width, spec.height)
    SCENES[spec.scene].background(canvas)
    graph = _filter(spec, ("noise", "c0s=14:c0_seed=7"), ("gblur", "sigma=0.7"), ("vignette", "angle=PI/7"))
    frame = to_frame(canvas)
    frame.pts = 0
    return from_frame(_pass(graph, frame))


def _video_encoder(spec: FootageSpec) -> VideoCodecContext:
    name = {"h264": "libx264", "h265": "libx265"}[spec.video]
    encoder = av.CodecContext.create(name, "w")
    if not isinstance(encoder, VideoCodecContext):
        raise TypeError(f"{name} is not a video encoder")
    encoder.width, encoder.height, encoder.pix_fmt = spec.width, spec.height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, spec.fps), Fraction(spec.fps)
    encoder.bit_rate, encoder.gop_size = spec.bitrate, spec.gop
    encoder.thread_count = 1
    common = f"keyint={spec.gop}:min-keyint={spec.gop}:scenecut=0:bframes=0:repeat-headers=1"
    rate = f"vbv-maxrate={spec.bitrate // 800}:vbv-bufsize={spec.bitrate // 500}"
    rate += ":colorprim=bt709:transfer=bt709:colormatrix=bt709"
    if spec.video == "h264":
        options = f"{common}:{rate}:annexb=1:sliced-threads=0:rc-lookahead=0:sync-lookahead=0"
        encoder.options = {"preset": "ultrafast", "profile": "baseline", "x264-params": options}
    else:
        options = f"{common}:{rate}:open-gop=0:info=0:log-level=error:pools=none:frame-threads=1:rc-lookahead=0"
        encoder.options = {"preset": "ultrafast", "x265-params": options}
    return encoder


def encode_video(spec: FootageSpec, clock: Callable[[int], str]) -> Iterator[tuple[bytes, bool]]:
    """(Annex B access unit, is key) per picture, in order. ``clock`` gives the burnt-in time of a picture."""
    background = paint_background(spec)
    grain = _filter(spec, ("noise", "c0s=4:c0f=t:c0_seed=11"))
    encoder = _video_encoder(spec)
    for index in range(spec.frames):
        frame = to_frame(paint_frame(spec, background, index, clock(index)))
        frame.pts, frame.time_base = index, Fraction(1, spec.fps)
        noisy = _pass(grain, frame)
        noisy.pts = index
        for packet in encoder.encode(noisy):
            yield bytes(packet), packet.is_keyframe
    for packet in encoder.encode(None):
        yield bytes(packet), packet.is_keyframe


def _street_sound(seconds: int, rate: int, seed: int) -> list[int]:
    """16-bit samples: a murmur of traffic and a short pip at every full second; the end leads into the beginning."""
    source = random.Random(seed)
    total = seconds * rate
    blend = rate // 2
    raw: list[float] = []
    low = 0.0
    for _ in range(total + blend):
        low = low * 0.985 + source.uniform(-1.0, 1.0) * 0.15
        raw.append(low)
    for index in range(blend):
        part = index / blend
        raw[index] = raw[index] * part + raw[total + index] * (1 - part)
    pip = rate * 80 // 1000
    samples = []
    for index in range(total):
        value = raw[index] * 3200
        place = index % rate
        if place < pip:
            value += 5000 * math.sin(2 * math.pi * 1000 * place / rate) * math.sin(math.pi * place / pip)
        samples.append(max(-32767, min(32767, round(value))))
    return samples


def encode_audio(spec: FootageSpec) -> Iterator[tuple[bytes, int]]:
    """(frame, pts in 90 kHz ticks from 0) of the sound track, exactly as long as the pictures."""
    if spec.audio == "aac":
        yield from _encode_aac(_street_sound(spec.seconds, AAC_RATE, spec.camera))
        return
    encoder = _audio_encoder("pcm_alaw", "s16", 8000)
    samples = _street_sound(spec.seconds, 8000, spec.camera)
    for index, start in enumerate(range(0, len(samples), G711_SAMPLES)):
        frame = _audio_frame(samples[start : start + G711_SAMPLES], 8000)
        for packet in encoder.encode(frame):
            yield bytes(packet), index * G711_SAMPLES * 90_000 // 8000


def _encode_aac(samples: list[int]) -> Iterator[tuple[bytes, int]]:
    frames = len(samples) // AAC_SAMPLES
    if len(samples) % AAC_SAMPLES:
        raise ValueError("the loop does not hold whole AAC frames: make it a multiple of 8 s")
    encoder = _audio_encoder("aac", "fltp", AAC_RATE)
    # the encoder needs a run-up: code two frames more and drop them, so that the loop's seam is not heard
    ahead = samples[-2 * AAC_SAMPLES :] + samples + samples[:AAC_SAMPLES]
    coded: list[bytes] = []
    for start in range(0, len(ahead), AAC_SAMPLES):
        coded += [bytes(packet) for packet in encoder.encode(_float_frame(ahead[start : start + AAC_SAMPLES]))]
    coded += [bytes(packet) for packet in encoder.encode(None)]
    # one frame of priming in front: coded[n] holds the samples of input frame n - 1
    for index, data in enumerate(coded[3 : 3 + frames]):
        yield adts(data), index * AAC_SAMPLES * 90_000 // AAC_RATE


def adts(frame: bytes, *, rate_index: int = _AAC_RATE_INDEX, channels: int = 1) -> bytes:
    """An AAC-LC frame with its ADTS header (ISO/IEC 13818-7 §6.2), no CRC."""
    size = len(frame) + 7
    return (
        bytes([
            0xFF, 0xF1, (1 << 6) | (rate_index << 2) | (channels >> 2), ((channels & 3) << 6) | (size >> 11),
            (size >> 3) & 0xFF, ((size & 7) << 5) | 0x1F, 0xFC,
        ])
        + frame
    )  # fmt: skip


def _audio_encoder(name: str, sample_format: str, rate: int) -> AudioCodecContext:
    encoder = av.CodecContext.create(name, "w")
    if not isinstance(encoder, AudioCodecContext):
        raise TypeError(f"{name} is not an audio encoder")
    encoder.format, encoder.layout, encoder.sample_rate = av.AudioFormat(sample_format), av.AudioLayout("mono"), rate
    encoder.time_base = Fraction(1, rate)
    if name == "aac":
        encoder.bit_rate = 32_000
    return encoder


def _audio_frame(samples: list[int], rate: int) -> AudioFrame:
    frame = AudioFrame("s16", "mono", len(samples))
    frame.planes[0].update(struct.pack(f"<{len(samples)}h", *samples).ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate = rate
    return frame


def _float_frame(samples: list[int]) -> AudioFrame:
    frame = AudioFrame("fltp", "mono", len(samples))
    content = struct.pack(f"<{len(samples)}f", *(sample / 32768 for sample in samples))
    frame.planes[0].update(content.ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate = AAC_RATE
    return frame
