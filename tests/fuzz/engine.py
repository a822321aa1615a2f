"""A small deterministic fuzzer: the same seed gives the same inputs; every finding names its seed and input."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sipserver.protocol.errors import GbError

SLOW = 0.15  # seconds of processor time; the bar is 0.05, a shared machine may be three times slower
_SPECIAL = bytes.fromhex("00 0a 0d 20 09 22 27 28 29 2c 2f 3a 3b 3c 3d 3e 3f 40 5b 5c 5d 25 7f 80 c0 ff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`run` may raise GbError, nothing else; `seeds` and `words` are what inputs are made of."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    target: str
    number: int
    data: bytes
    fault: str


def mutated(rng: random.Random, target: Target) -> bytes:
    """One input: a seed with one to eight changes."""
    data = bytearray(rng.choice(target.seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(9)
        if kind == 0:
            data[at:at] = bytes((rng.choice(_SPECIAL),)) * rng.choice((1, 1, 2, 3, 100))
        elif kind == 1:
            data[at:at] = rng.choice(target.words)
        elif kind == 2:
            del data[at : at + rng.choice((1, 1, 2, 8, 64))]
        elif kind == 3 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 4:
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.choice((4, 16, 64, 256))]
        elif kind == 5:
            other = rng.choice(target.seeds)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        elif kind == 6:
            data[at:at] = str(rng.choice((0, -1, 255, 65_536, 2**31, 2**32, 2**64, 10**30))).encode()
        elif kind == 7:
            data[at : at + 1] = rng.choice(_SPECIAL).to_bytes(1, "big")
        else:
            lines = bytes(data).split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        del data[60_000:]
    return bytes(data)


def fuzz(target: Target, *, execs: int, seed: int) -> Finding | None:
    """The first input that does what it must not, or None."""
    rng = random.Random(f"{target.name}-{seed}")
    for number in range(execs):
        data = mutated(rng, target)
        try:
            seconds = _run(target, data)
            # The collector and other threads count as ours now and then; a slow input is slow every time.
            for _ in range(2):
                if seconds > SLOW:
                    seconds = min(seconds, _run(target, data))
        except Exception as error:  # noqa: BLE001 - finding these is what this is for
            return Finding(target=target.name, number=number, data=data, fault=repr(error)[:200])
        if seconds > SLOW:
            return Finding(target=target.name, number=number, data=data, fault=f"{seconds:.3f} s")
    return None


def _run(target: Target, data: bytes) -> float:
    """Processor seconds for one input; whatever is no GbError goes up."""
    begun = time.process_time()
    try:
        target.run(data)
    except GbError:
        pass
    return time.process_time() - begun
