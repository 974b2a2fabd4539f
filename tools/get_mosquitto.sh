#!/bin/sh
# Gets a mosquitto broker, without root, on a Debian-family system.
#   get_mosquitto.sh      makes mosquitto and mosquitto_passwd in ${LICHEN_TOOLS:-.tools}/mosquitto and prints one line
# Takes the installed one if there is one; else unpacks the distribution's package, and the libraries the system lacks,
# beside the project (seconds, 6 MB). Does nothing where it is there already.
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage get_mosquitto.sh ;; esac
INSTEAD="run: apt-get install mosquitto"
version() { "$1" -h 2>/dev/null | sed -n 's/^mosquitto version //p'; }
done_() { echo "mosquitto $(version "$DIR/mosquitto"): $DIR/mosquitto"; exit 0; }

tool_dir mosquitto
[ -z "$(version "$DIR/mosquitto")" ] || done_
if m=$(PATH=$PATH:/usr/sbin command -v mosquitto) && p=$(command -v mosquitto_passwd); then
    wrap "$DIR/mosquitto_passwd" "exec '$p'"; wrap "$DIR/mosquitto" "exec '$m'"; done_
fi
for t in apt-get dpkg-deb; do command -v $t >/dev/null || die "no mosquitto here and no $t to fetch it; install the package mosquitto"; done

W=$DIR/work; R=$DIR/root; rm -rf "$W" "$R"; mkdir -p "$W/lists/partial" "$W/archives/partial" "$R"; cd "$W"
apt() { c=$1; shift; "$c" -qq "$@"; }                                     # the system's lists first
get() { apt apt-get download "$1" 2>"$W/log" && dpkg-deb -x "$1"_*.deb "$R"; }
if ! get mosquitto; then                                                  # none there, or too old: lists of our own
    apt() { apt_own "$W" "$@"; }
    if ! { apt apt-get update 2>"$W/log" && get mosquitto; }; then
        tail -n 2 "$W/log" >&2; die "the mosquitto package cannot be downloaded; $INSTEAD"
    fi
fi
L=$(find "$R" -type d -name '*-linux-*' | head -n1); L=${L:-$R/usr/lib/$(uname -m)-linux-gnu}
missing() { LD_LIBRARY_PATH=$L ldd "$R/usr/sbin/mosquitto" | awk '/not found/ {print $1}'; }
for package in $(apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    mosquitto | grep '^lib' | sort -u); do
    [ -n "$(missing)" ] || break
    dpkg -s "$package" >/dev/null 2>&1 || get "$package" || true
done
[ -z "$(missing)" ] || die "mosquitto still lacks $(missing | tr '\n' ' '); $INSTEAD"
for b in bin/mosquitto_passwd sbin/mosquitto; do wrap "$DIR/${b##*/}" "LD_LIBRARY_PATH='$L' exec '$R/usr/$b'"; done
[ -n "$(version "$DIR/mosquitto")" ] || die "the unpacked mosquitto does not start; $INSTEAD"
rm -rf "$W"; done_
