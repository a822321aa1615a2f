"""Development tool: renders the bitmap font in ops/sim/glyphs.py anew from Noto Sans CJK SC with the ffmpeg program.

Run by hand (``python -m ops.sim.make_glyphs /path/to/NotoSansCJK-Bold.ttc``) after adding characters to CHARACTERS;
never needed at run time. Prints the new ATLAS text.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import textwrap
import zlib
from pathlib import Path

from ops.sim.glyphs import CHARACTERS, GLYPH_HEIGHT


def render(font: Path, character: str) -> bytes:
    """One glyph as GLYPH_HEIGHT rows, 4 bytes (32 bits) each, most significant bit left."""
    wide = ord(character) >= 0x2E80
    size = 31 if wide else 28
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text(character, encoding="utf-8")
        cell = 32 if wide else 16
        place = f"x=({cell}-text_w)/2:y={25 - 0}-ascent" if not wide else "x=0:y=27-ascent"
        drawing = f"drawtext=fontfile={font}:textfile={text}:fontsize={size}:fontcolor=white:{place}"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=black:s=32x32,format=gray", "-vf", drawing]
        command += ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
        pixels = subprocess.run(command, check=True, capture_output=True).stdout
    rows = bytearray()
    for y in range(GLYPH_HEIGHT):
        value = 0
        for x in range(32):
            value = value << 1 | (pixels[y * 32 + x] > 110)
        rows += value.to_bytes(4, "big")
    return bytes(rows)


def main() -> None:
    """Print the ATLAS literal for CHARACTERS."""
    atlas = b"".join(render(Path(sys.argv[1]), character) for character in CHARACTERS)
    print("\n".join(textwrap.wrap(base64.b85encode(zlib.compress(atlas, 9)).decode(), 116)))


if __name__ == "__main__":
    main()
