"""`python -m tests.fuzz [--execs 200000] [--seed 1] [--target name]`: fuzz longer than the tests do; red on a finding."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.engine import fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--execs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target")
    options = parser.parse_args()
    chosen = [target for target in TARGETS if options.target in (None, target.name)]
    found = 0
    for target in chosen:
        begun = time.perf_counter()
        finding = fuzz(target, execs=options.execs, seed=options.seed)
        found += finding is not None
        print(f"{target.name:10} {finding or 'nothing found'} in {time.perf_counter() - begun:.1f} s")
    return 1 if found or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
