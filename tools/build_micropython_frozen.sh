#!/bin/sh
# Builds MicroPython 1.25.0's 32-bit unix port with the kit's firmware frozen in, as a board's image has it, to measure its heap.
#   build_micropython_frozen.sh [FOLDER]   FOLDER: what `make firmware` wrote, build/firmware by default; makes
#                                          micropython32-frozen in ${LICHEN_TOOLS:-.tools}/micropython, prints one line
# Needs gcc, make, python3, xz-utils, dpkg-dev and a Debian mirror (DEBIAN_MIRROR where apt knows none), on amd64; about a
# minute. What a 32-bit program is built with is unpacked beside it. Does nothing where that firmware is frozen already.
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; -*) usage 'build_micropython_frozen.sh [FOLDER]' ;; esac
F=${1:-$ROOT/build/firmware}
[ -f "$F/manifest.py" ] || die "no firmware in $F; run: make firmware"
F=$(cd "$F" && pwd)
tool_dir micropython
OUT=$DIR/micropython32-frozen T=$DIR/frozen-i386
# the date of the build aside: it is another whenever the sources are
SUMS=$(cd "$F/source" && find . -name '*.py' ! -path ./lichen/__init__.py -exec sha256sum {} + | sort -k 2)
done_() { echo "micropython 1.25 with the firmware frozen in (32 bit): $OUT"; exit 0; }
good() { [ -x "$OUT" ] && "$OUT" -c 'import lichen.node' 2>/dev/null; }
if good && [ "$SUMS" = "$(cat "$OUT.sums" 2>/dev/null)" ]; then done_; fi
[ "$(dpkg --print-architecture)" = amd64 ] || die "is made for amd64 only"

W=$DIR/work-frozen; micropython_source "$W"
G=$(gcc -dumpversion); R=$W/root
( mkdir "$W/debs" && cd "$W/debs" && apt-get -o APT::Sandbox::User="$(id -un)" download libc6-dev-i386 libc6-i386 "lib32gcc-${G%%.*}-dev" ) >>"$W/log" 2>&1 ||
    { tail -n 2 "$W/log" >&2; die "what a 32-bit program is built with cannot be downloaded; run: apt-get update"; }
for d in "$W"/debs/*.deb; do dpkg-deb -x "$d" "$R"; done
L=$R/usr/lib32; C=$R/usr/lib/gcc/x86_64-linux-gnu/${G%%.*}
for l in libm libc; do rm -f "$L/$l.so"; done
ln -s "$R/lib32/libm.so.6" "$L/libm.so"
echo "OUTPUT_FORMAT(elf32-i386) GROUP ( $R/lib32/libc.so.6 $L/libc_nonshared.a AS_NEEDED ( $R/lib32/ld-linux.so.2 ) )" > "$L/libc.so"
{ # shellcheck disable=SC2016
  echo 'include("$(MPY_DIR)/extmod/asyncio")'; sed -n "s|freeze(\"source\"|freeze(\"$F/source\"|p" "$F/manifest.py"; } > "$W/manifest.py"
B="-B$C/32/ -B$L/"
run make -C ports/unix -j"$(nproc)" MICROPY_FORCE_32BIT=1 MICROPY_PY_BTREE=0 MICROPY_PY_FFI=0 BUILD=build-32 FROZEN_MANIFEST="$W/manifest.py" \
    CFLAGS_EXTRA="-isystem /usr/include/$(gcc -dumpmachine) -isystem $R/usr/include/$(gcc -dumpmachine) -isystem $R/usr/include $B" LDFLAGS_EXTRA="$B -L$L -L$C/32 -L$R/lib32"
rm -rf "$T"; mkdir "$T"; cp -L "$R/lib32/ld-linux.so.2" "$R/lib32/libc.so.6" "$R/lib32/libm.so.6" ports/unix/build-32/micropython "$T/"
wrap "$OUT" "exec '$T/ld-linux.so.2' --library-path '$T' '$T/micropython'"
printf '%s\n' "$SUMS" > "$OUT.sums"
cd "$DIR"; rm -rf "$W"
good || die "the new micropython does not start"
done_
