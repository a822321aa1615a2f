"""The import rule of the architecture is enforced, and the checker is shown to bite."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sipserver", "media", "catalog", "sharing", "api", "ops")


def lint(where: Path) -> subprocess.CompletedProcess[str]:
    checker = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([checker, "--no-cache"], cwd=where, capture_output=True, text=True, check=False)


def copy_tree(to: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", to)
    ignore = shutil.ignore_patterns("engine", "console", "__pycache__", "*.so")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, to / package, ignore=ignore)


def test_the_layers_hold_and_a_planted_upward_import_is_found(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    clean = lint(tmp_path)
    assert clean.returncode == 0, clean.stdout
    planted = tmp_path / "catalog" / "model.py"
    planted.write_text(planted.read_text("utf-8") + "\nimport api.app\n", "utf-8")
    assert lint(tmp_path).returncode != 0


def test_a_clock_in_the_protocol_core_is_found(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    planted = tmp_path / "sipserver" / "protocol" / "ids.py"
    planted.write_text(planted.read_text("utf-8") + "\nimport time\n", "utf-8")
    assert lint(tmp_path).returncode != 0
