"""Becomes another program: gives up root, ties its life to the parent's, then execs. Run as a script, never imported.

    python -I -S embedded_exec.py PARENT_PID UID GID SIGNAL PROGRAM ARGV0 [ARG ...]

UID -1 keeps the present user. It exists because the same done between fork and exec of a process with threads
(`preexec_fn`) may deadlock. SIGNAL is what the kernel sends us when the parent dies (prctl PR_SET_PDEATHSIG); it is
set after the change of user, which clears it, and survives the exec.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1
PARENT_IS_GONE = 111


def main(arguments: list[str]) -> None:
    """Never returns: execs, exits with 111 when the parent is gone already, or raises OSError."""
    parent, uid, gid, signal_number = (int(value) for value in arguments[:4])
    program, argv = arguments[4], arguments[5:]
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold personal data
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:
            sys.exit(PARENT_IS_GONE)
    os.execv(program, argv)  # noqa: S606 - the whole point; program and arguments come from our launcher


if __name__ == "__main__":
    main(sys.argv[1:])
