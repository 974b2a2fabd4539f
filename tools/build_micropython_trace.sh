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
W=$DIR/work-trace; micropython_source "$W"
# shellcheck disable=SC2016
printf 'include("$(MPY_DIR)/extmod/asyncio")\n' > manifest.py
run make -C ports/unix -j"$(nproc)" MICROPY_PY_BTREE=0 MICROPY_PY_FFI=0 FROZEN_MANIFEST="$W/src/manifest.py" BUILD=build-trace \
    'CFLAGS_EXTRA=-DMICROPY_PY_SYS_SETTRACE=1 -DMICROPY_COMP_CONST=0'
mv -f ports/unix/build-trace/micropython "$OUT"; cd "$DIR"; rm -rf "$W"
good || die "the new micropython does not start"
done_
