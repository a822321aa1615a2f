#!/bin/sh
# Says in one clear line which tool a machine lacks and how to get it; silent when all are there.
missing=0
say() { printf 'missing: %s\n' "$1" >&2; missing=1; }
PY="${PYTHON:-python3}"
if ! command -v "$PY" >/dev/null 2>&1; then
  say "Python 3.11 or newer - Debian/Ubuntu: apt-get install python3 python3-venv; others: https://www.python.org/downloads/"
elif ! "$PY" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  say "Python 3.11 or newer (found $("$PY" -V 2>&1)) - set PYTHON=/path/to/python3.11 or install it"
elif ! "$PY" -c 'import ensurepip, venv' 2>/dev/null; then
  say "the Python module venv - Debian/Ubuntu: apt-get install python3-venv"
fi
command -v cargo >/dev/null 2>&1 || say "Rust (cargo) 1.85 or newer - https://rustup.rs"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || say "a C linker for Rust - Debian/Ubuntu: apt-get install gcc libc6-dev"
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
  say "Node.js 20 or newer with npm - https://nodejs.org"
elif ! node -e 'process.exit(+process.versions.node.split(".")[0] < 20 ? 1 : 0)'; then
  say "Node.js 20 or newer (found $(node --version)) - https://nodejs.org"
fi
exit $missing
