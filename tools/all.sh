#!/bin/sh
# Obtains every real component the tests can use, one line each; what is there already is left alone.
#   all.sh      as root it also installs the Debian packages that are missing; otherwise it names them
# Exits with 3 where one could not be had; the others are there all the same.
set -u
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage all.sh ;; esac
need=
while read -r program package; do command -v "$program" >/dev/null || need="$need $package"; done <<LIST
clang clang
protoc protobuf-compiler
pkg-config pkg-config
faketime faketime
cc gcc
systemd-analyze systemd
chromium chromium
LIST
if [ -n "$need" ] && [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    if { apt-get -qq install -y $need || { apt-get -qq update && apt-get -qq install -y $need; }; } >/dev/null 2>&1; then need=; fi
fi
lost=0
[ -z "$need" ] || { echo "all.sh: missing; run as root: apt-get install$need" >&2; lost=1; }
for part in get_mosquitto.sh get_micropython.sh 'get_micropython.sh 32' build_influxd.sh get_chromium.sh; do
    # shellcheck disable=SC2086
    sh "$ROOT/tools/"$part || lost=1
done
[ $lost = 0 ] || exit 3
