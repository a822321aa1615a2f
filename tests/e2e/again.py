"""Runs `mingjian serve` again and again without importing everything anew: one fork a line on standard input.

Says `{"pid": …}` for each, then what it prints itself, and `{"ended": …}` with its wait status when it is gone. A fork
is a fresh process in every respect that matters here: own sockets, own threads, own databases, killed on its own.
"""

from __future__ import annotations

import json
import os
import sys

import ops.serve
from ops.cli import main


def say(**fact: int) -> None:
    print(json.dumps(fact), flush=True)


def run() -> None:
    assert ops.serve  # imported before the first fork
    sys.argv = ["mingjian", "serve"]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            main()
            os._exit(0)
        say(pid=child)
        _, status = os.waitpid(child, 0)
        say(ended=status)


if __name__ == "__main__":
    run()
