"""The habits of the code base, checked: size caps, no sleeping tests, no way round the permission function."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sipserver", "media", "catalog", "sharing", "api", "ops")
MAX_LINES = 600


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return [ROOT / name for name in listed.splitlines() if name.endswith(suffixes) and (ROOT / name).is_file()]


def too_long(path: Path, text: str) -> str | None:
    lines = text.count("\n")
    return f"{path.name}: {lines} lines" if lines > MAX_LINES else None


def test_no_source_file_is_longer_than_the_cap() -> None:
    files = tracked(".py", ".rs", ".ts", ".vue", ".pyi")
    assert len(files) > 50
    assert [found for path in files if (found := too_long(path, path.read_text("utf-8")))] == []


def test_control_a_long_file_is_found() -> None:
    assert too_long(Path("long.py"), "x = 1\n" * (MAX_LINES + 1)) == "long.py: 601 lines"


def headless(path: Path, text: str) -> str | None:
    """Name the file when its first line does not say its job."""
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    if path.suffix in (".py", ".pyi"):
        good = first.startswith('"""') and len(first) > 12
    else:
        good = first.startswith(("//!", "//", "<!--", "/*")) and len(first) > 6
    return None if good else f"{path.relative_to(ROOT)}: {first[:60]!r}"


def test_every_file_says_its_job_in_its_first_line() -> None:
    files = [p for p in tracked(".py", ".rs") if p.read_text("utf-8").strip()]
    assert [found for path in files if (found := headless(path, path.read_text("utf-8")))] == []


SLEEP = re.compile(r"\b(?:time|asyncio|anyio)\.sleep\(\s*(?!0\s*\))")


def test_no_test_sleeps() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked(".py")
        if "tests" in path.relative_to(ROOT).parts and path != Path(__file__)
        if "bench" not in path.relative_to(ROOT).parts  # a benchmark may pace its load
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if SLEEP.search(line)
    ]
    assert offenders == []


def test_control_a_sleep_is_found() -> None:
    assert SLEEP.search("await asyncio.sleep(0.1)")
    assert SLEEP.search("time.sleep(1)")
    assert not SLEEP.search("await asyncio.sleep(0)")


def test_import_names_belong_to_us_alone() -> None:
    owners = packages_distributions()
    assert {name: sorted(set(owners.get(name, ["mingjian"]))) for name in PACKAGES} == {
        name: ["mingjian"] for name in PACKAGES
    }


# Nobody outside the permission layer may open, join or ticket a media session without a lease it issued: the calls
# that let bytes flow appear only where a Lease is an argument.
GUARDED = {"open_session", "grant", "ticket"}
ALLOWED = {"media/session.py", "sipserver/play.py"}


def guarded_calls(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in GUARDED:
            receiver = ast.unparse(node.func.value)
            if "media" in receiver or "plane" in receiver or "engine" in receiver:
                yield node.lineno, ast.unparse(node.func)


def test_only_the_play_service_lets_media_flow() -> None:
    offenders = [
        f"{name}:{line} {call}"
        for path in tracked(".py")
        if (name := str(path.relative_to(ROOT))).startswith(PACKAGES) and name not in ALLOWED
        for line, call in guarded_calls(path.read_text("utf-8"))
    ]
    assert offenders == []


def test_control_a_bypass_is_found() -> None:
    assert list(guarded_calls("self.media.open_session(session=1)")) == [(1, "self.media.open_session")]


def lease_makers(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] == "Lease"
    ]


def test_leases_are_made_by_the_sharing_layer_alone() -> None:
    offenders = [
        f"{name}:{line}"
        for path in tracked(".py")
        if (name := str(path.relative_to(ROOT))).startswith(PACKAGES) and not name.startswith("sharing/")
        for line in lease_makers(path.read_text("utf-8"))
    ]
    assert offenders == []
    assert lease_makers("x = Lease(key='a')") == [1]


@pytest.mark.parametrize("word", ["xfail", "skip", "skipif"])
def test_no_test_hides_behind_a_skip(word: str) -> None:
    pattern = re.compile(rf"pytest\.(mark\.)?{word}\b")
    offenders = [
        str(path.relative_to(ROOT))
        for path in tracked(".py")
        if "tests" in path.relative_to(ROOT).parts
        and path != Path(__file__)
        and pattern.search(path.read_text("utf-8"))
    ]
    assert offenders == []
