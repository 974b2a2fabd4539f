#!/bin/sh
# Gets MicroPython's unix port (Debian 13's 1.25.0), without root, on a Debian-family system, amd64 or arm64.
#   get_micropython.sh [64|32]     makes micropython (64, default) or micropython32 (32: the boards' word size)
#                                  in ${LICHEN_TOOLS:-.tools}/micropython and prints one line
# Takes the installed one if it is good enough; else unpacks Debian's package beside its own C library (seconds, 6 MB).
# Does nothing where it is there already. Environment:
#   MICROPYTHON=/path/to/binary   use this one, download nothing
#   DEBIAN_MIRROR=<base URL>      any Debian mirror; needed only where apt knows none (Ubuntu)
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-64} in -h|--help) help ;; 64|32) BITS=${1:-64} ;; *) usage 'get_micropython.sh [64|32]' ;; esac
SUITE=trixie OLDEST=1.23
INSTEAD="on Debian 13 run: apt-get install micropython; elsewhere set MICROPYTHON to a binary"
PROBE='import sys,socket,select,asyncio,tls,hashlib,vfs
vfs.VfsLfs2
print("%d.%d.%d" % sys.implementation[1][:3], 32 if sys.maxsize < 1 << 32 else 64)'

good() {  # good BINARY: starts, has what the firmware needs, right word size, new enough; sets `got`
    got=$(timeout 20 "$1" -c "$PROBE" 2>/dev/null) && [ "${got#* }" = "$BITS" ] && at_least $OLDEST "${got%% *}"
}
done_() { echo "micropython ${got%% *} ($BITS bit): $OUT"; exit 0; }

tool_dir micropython
OUT=$DIR/micropython; [ "$BITS" = 64 ] || OUT=$DIR/micropython32
if good "$OUT"; then done_; fi
for m in "${MICROPYTHON:-}" "$(command -v micropython || true)"; do
    if [ -n "$m" ] && good "$m"; then wrap "$OUT" "exec '$m'"; done_; fi
done

for t in apt-get dpkg-deb; do command -v $t >/dev/null || die "needs $t (a Debian-family system); $INSTEAD"; done
HOST=$(dpkg --print-architecture)
case $HOST:$BITS in
    *:64|armhf:32|i386:32) ARCH=$HOST ;;
    amd64:32) ARCH=i386 ;;
    arm64:32) ARCH=armhf ;;      # needs a processor and kernel that run 32-bit ARM programs
    *) die "Debian has no $BITS-bit package for $HOST" ;;
esac
KEY=
for k in /usr/share/keyrings/debian-archive-keyring.pgp /usr/share/keyrings/debian-archive-keyring.gpg; do [ ! -r $k ] || KEY=$k; done
[ -n "$KEY" ] || die "needs Debian's archive keys; run: apt-get install debian-archive-keyring"

W=$DIR/work-$ARCH; T=$DIR/$SUITE-$ARCH; rm -rf "$W" "$T"
mkdir -p "$W/lists/partial" "$W/archives/partial" "$W/none" "$W/debs" "$T"; : > "$W/status"
apt() {  # of that suite and architecture only; the machine's proxy and certificate settings stay in force
    c=$1; shift
    apt_own "$W" "$c" -o Dir::State="$W" -o Dir::State::status="$W/status" -o Dir::Etc::sourcelist="$W/sources.list" \
        -o Dir::Etc::sourceparts="$W/none" -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts="$W/none" \
        -o Dir::Etc::trustedparts="$W/none" -o APT::Architecture="$ARCH" -o APT::Architectures="$ARCH" "$@"
}
# every base URL apt is configured with that looks like a Debian archive, the user's first
{ echo "${DEBIAN_MIRROR:-}"
  apt-get -q -o Dir::State::Lists="$W/lists" --print-uris update 2>/dev/null | sed -n "s|^'\(.*\)/dists/.*|\1|p" |
      grep -v -i -E 'security|raspberrypi|raspbian|backports|ubuntu|nodesource' || true; } | awk 'NF && !s[$0]++' > "$W/mirrors"
found=
while [ -z "$found" ] && read -r mirror; do
    echo "deb [arch=$ARCH signed-by=$KEY] $mirror $SUITE main" > "$W/sources.list"
    if apt apt-get update >"$W/log" 2>&1 && apt apt-cache show micropython >/dev/null 2>&1; then found=1; fi
done < "$W/mirrors"
[ -n "$found" ] || { [ ! -s "$W/log" ] || tail -n 2 "$W/log" >&2; die "no Debian mirror with $SUITE in reach, set DEBIAN_MIRROR; $INSTEAD"; }

packages=$(apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    --no-pre-depends micropython | grep -E '^lib(c6|ffi|mbed|gcc-s)' | sort -u)
# shellcheck disable=SC2086
( cd "$W/debs" && apt apt-get download micropython $packages ) >"$W/log" 2>&1 ||
    { tail -n 2 "$W/log" >&2; die "the micropython package cannot be downloaded; $INSTEAD"; }
for d in "$W"/debs/*.deb; do dpkg-deb -x "$d" "$W/root"; done
LD=$(find "$W/root/usr/lib" "$W/root/lib" -path '*-linux-*/ld-linux*.so.*' 2>/dev/null | head -n1); L=$(dirname "$LD")
cp "$W/root/usr/bin/micropython" "$W/root/usr/share/doc/micropython/copyright" "$T/"
# shellcheck disable=SC2086
for l in libc.so.6 libm.so.6 libffi.so.? libmbedcrypto.so.?? libmbedtls.so.?? libmbedx509.so.? "${LD##*/}"; do cp -L "$L"/$l "$T/"; done
for l in libgcc_s.so.1 libpthread.so.0 libdl.so.2 libresolv.so.2 libnss_dns.so.2 libnss_files.so.2; do
    [ ! -e "$L/$l" ] || cp -L "$L/$l" "$T/"; done
wrap "$OUT" "exec '$T/${LD##*/}' --library-path '$T' '$T/micropython'"
rm -rf "$W"
good "$OUT" || { rm -f "$OUT"; die "the unpacked micropython does not run here; $INSTEAD"; }
done_
