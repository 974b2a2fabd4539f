#!/bin/sh
# Builds MicroPython 1.25.0's unix port with sys.settrace, from Debian 13's source package: line coverage of the firmware.
#   build_micropython_trace.sh      makes micropython-trace in ${LICHEN_TOOLS:-.tools}/micropython and prints one line
# Needs gcc, make, python3, xz-utils, dpkg-dev and a Debian mirror (DEBIAN_MIRROR where apt knows none); about a minute.
# Does nothing where it is there already.
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage build_micropython_trace.sh ;; esac
tool_dir micropython
OUT=$DIR/micropython-trace
good() { [ -x "$OUT" ] && "$OUT" -c 'import sys; sys.settrace' 2>/dev/null; }
done_() { echo "micropython 1.25 with trace: $OUT"; exit 0; }
if good; then done_; fi
for t in gcc make python3 xz dpkg-source; do command -v $t >/dev/null || die "needs $t; run: apt-get install gcc make python3 xz-utils dpkg-dev"; done
KEY=
for k in /usr/share/keyrings/debian-archive-keyring.pgp /usr/share/keyrings/debian-archive-keyring.gpg; do [ ! -r $k ] || KEY=$k; done
[ -n "$KEY" ] || die "needs Debian's archive keys; run: apt-get install debian-archive-keyring"

W=$DIR/work-trace; rm -rf "$W"; mkdir -p "$W/lists/partial" "$W/archives/partial" "$W/none" "$W/dl" "$W/src/mbedtls"; : > "$W/status"
apt() { c=$1; shift; apt_own "$W" "$c" -o Dir::State="$W" -o Dir::State::status="$W/status" -o Dir::Etc::sourcelist="$W/sources.list" -o Dir::Etc::sourceparts="$W/none" "$@"; }
MIRROR=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v -i -E 'security|raspberrypi|raspbian|backports|ubuntu|nodesource' | head -n1)}
[ -n "$MIRROR" ] || die "no Debian mirror is known; set DEBIAN_MIRROR"
echo "deb-src [signed-by=$KEY] $MIRROR trixie main" > "$W/sources.list"
{ apt apt-get update && cd "$W/dl" && apt apt-get source --download-only micropython mbedtls; } >"$W/log" 2>&1 ||
    { tail -n 3 "$W/log" >&2; die "the sources cannot be downloaded"; }
tar -xf "$W"/dl/micropython_*.orig.tar.* -C "$W/src" --strip-components=1   # upstream's tree, without Debian's patches
tar -xf "$W"/dl/mbedtls_*.orig.tar.* -C "$W/src/mbedtls" --strip-components=1
cd "$W/src"; rmdir lib/mbedtls; ln -s ../mbedtls lib/mbedtls; mkdir -p lib/micropython-lib; touch lib/micropython-lib/README.md
# shellcheck disable=SC2016
printf 'include("$(MPY_DIR)/extmod/asyncio")\n' > manifest.py
run() { "$@" >>"$W/log" 2>&1 || { tail -n 5 "$W/log" >&2; die "the build failed; all it said is in $W/log"; }; }
run make -C mpy-cross -j"$(nproc)"
run make -C ports/unix -j"$(nproc)" MICROPY_PY_BTREE=0 MICROPY_PY_FFI=0 FROZEN_MANIFEST="$W/src/manifest.py" BUILD=build-trace \
    'CFLAGS_EXTRA=-DMICROPY_PY_SYS_SETTRACE=1 -DMICROPY_COMP_CONST=0'
mv -f ports/unix/build-trace/micropython "$OUT"; cd "$DIR"; rm -rf "$W"
good || die "the new micropython does not start"
done_
