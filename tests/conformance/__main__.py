"""Prints id -> clause -> verdict -> test for every row of the conformance matrix (JSON lines; table on stderr).

A test answers a row by carrying its id in its name (`test_REG_01_...`). A row without a test is printed as missing.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ID = re.compile(r"(?<![A-Z])([A-Z]{2,3})_(\d{2})(?!\d)")
FIRST_SET = HERE / "first_set.txt"


def ids_in(name: str) -> list[str]:
    """The matrix ids a test name carries, e.g. `test_REG_01_REG_02_x` -> REG-01, REG-02."""
    return [f"{area}-{number}" for area, number in ID.findall(name)]


def pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def collect() -> list[str]:
    listed = pytest("--collect-only", "tests")
    nodes = [line.split(" ")[0] for line in listed.stdout.splitlines() if "::" in line]
    if listed.returncode != 0 or not nodes:
        sys.exit(f"collecting the tests failed:\n{listed.stdout[-2000:]}")
    return sorted({node.split("[")[0] for node in nodes if ids_in(node.split("::")[-1].split("[")[0])})


def run(nodes: list[str]) -> dict[str, dict[str, bool]]:
    """Run the tests; the answer maps id -> {test: passed}."""
    results: dict[str, dict[str, bool]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        pytest(f"--junitxml={report}", *nodes)
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own report
            name = case.get("name", "").split("[")[0]
            good = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
            test = f"{case.get('classname', '').replace('.', '/')}.py::{name}"
            for row in ids_in(name):
                results[row][test] = results[row].get(test, True) and good
    return results


def main() -> int:
    with (HERE / "matrix.tsv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    wanted = set(FIRST_SET.read_text("utf-8").split())
    results = run(collect())
    unknown = sorted(set(results) - {row["id"] for row in rows})
    if unknown:
        sys.exit(f"tests name rows that do not exist: {', '.join(unknown)}")
    counts: dict[str, int] = defaultdict(int)
    failed = False
    for row in rows:
        tests = results.get(row["id"], {})
        verdict = "missing" if not tests else "pass" if all(tests.values()) else "fail"
        counts[verdict] += 1
        failed |= verdict == "fail" or (verdict == "missing" and row["id"] in wanted)
        fact = {"id": row["id"], "source": row["clause"], "verdict": verdict, "test": ", ".join(sorted(tests)) or None}
        print(json.dumps(fact, ensure_ascii=False))
        print(
            f"{row['id']:8} {row['clause'][:24]:24} {verdict:8} {row['title'][:44]:44} {fact['test'] or ''}",
            file=sys.stderr,
        )
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"\n{len(rows)} rows: {summary}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
