"""`python -m tests.fuzz [--execs 200000] [--sequences 0] [--seed 1] [--target name]`: longer than the tests do.

Exits with 1 when something is found.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from tests.fuzz.engine import fuzz
from tests.fuzz.stateful import sequence
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--execs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target")
    parser.add_argument("--sequences", type=int, default=0)
    options = parser.parse_args()
    chosen = [target for target in TARGETS if options.target in (None, target.name)]
    found = 0
    for target in chosen:
        begun = time.perf_counter()
        finding = fuzz(target, execs=options.execs, seed=options.seed)
        found += finding is not None
        print(f"{target.name:10} {finding or 'nothing found'} in {time.perf_counter() - begun:.1f} s")
    for number in range(options.sequences):
        if fault := asyncio.run(sequence(options.seed + number)):
            found += 1
            print(f"sequence {options.seed + number}: {fault}")
    return 1 if found or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
