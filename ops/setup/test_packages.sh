#!/bin/sh
# Installs the system programs that only tests need, where it may; otherwise names them in one line and goes on.
need=""
command -v chromium >/dev/null 2>&1 || need="$need chromium"
command -v ffmpeg >/dev/null 2>&1 || need="$need ffmpeg"
command -v ffprobe >/dev/null 2>&1 || need="$need ffmpeg"
command -v sipp >/dev/null 2>&1 || need="$need sip-tester"
{ command -v fc-list >/dev/null 2>&1 && fc-list :lang=zh 2>/dev/null | grep -q .; } || need="$need fontconfig fonts-noto-cjk"
[ -z "$need" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing for the tests:$need" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends $need >/dev/null && exit 0
fi
echo "not installed, and needed by some tests:$need (as root on Debian or Ubuntu: apt-get install$need)" >&2
exit 0
