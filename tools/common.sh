# What the scripts of this folder share: help, errors, where tools go, apt with lists of its own. Sourced, not run.
# shellcheck shell=sh
ROOT=$(cd "$(dirname "$0")/.." && pwd)

help() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p;}' "$0"; exit 0; }          # the head comment is the manual
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 3; }                 # 3: cannot be had here
usage() { printf 'usage: %s\n' "$*" >&2; exit 2; }
tool_dir() {  # tool_dir NAME: sets DIR to the absolute folder of that tool
    DIR=${LICHEN_TOOLS:-$ROOT/.tools}/$1
    mkdir -p "$DIR" 2>/dev/null || die "cannot write $DIR; set LICHEN_TOOLS to a folder of your own"
    DIR=$(cd "$DIR" && pwd); [ -w "$DIR" ] || die "cannot write $DIR; set LICHEN_TOOLS to a folder of your own"
}
wrap() {  # wrap FILE COMMAND: FILE runs COMMAND with its own arguments
    # shellcheck disable=SC2016
    printf '#!/bin/sh\n%s "$@"\n' "$2" > "$1.new"; chmod +x "$1.new"; mv -f "$1.new" "$1"
}
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }   # at_least WANTED HAVE
apt_own() {  # apt_own FOLDER COMMAND...: apt with lists and cache below FOLDER, as an ordinary user; the system's are neither read nor changed
    own=$1 command=$2; shift 2
    "$command" -qq -o Dir::State::Lists="$own/lists" -o Dir::Cache="$own" -o Dir::Cache::archives="$own/archives" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false "$@"
}
micropython_source() {  # micropython_source FOLDER: unpacks MicroPython 1.25.0 (Debian 13's source package, without Debian's patches) in FOLDER/src, builds mpy-cross; defines run, which logs to FOLDER/log
    src=$1 key=
    for t in gcc make python3 xz dpkg-source; do command -v $t >/dev/null || die "needs $t; run: apt-get install gcc make python3 xz-utils dpkg-dev"; done
    for k in /usr/share/keyrings/debian-archive-keyring.pgp /usr/share/keyrings/debian-archive-keyring.gpg; do [ ! -r $k ] || key=$k; done
    [ -n "$key" ] || die "needs Debian's archive keys; run: apt-get install debian-archive-keyring"
    rm -rf "$src"; mkdir -p "$src/lists/partial" "$src/archives/partial" "$src/none" "$src/dl" "$src/src/mbedtls"; : > "$src/status"
    apt() { c=$1; shift; apt_own "$src" "$c" -o Dir::State="$src" -o Dir::State::status="$src/status" -o Dir::Etc::sourcelist="$src/sources.list" -o Dir::Etc::sourceparts="$src/none" "$@"; }
    run() { "$@" >>"$src/log" 2>&1 || { tail -n 5 "$src/log" >&2; die "the build failed; all it said is in $src/log"; }; }
    mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v -i -E 'security|raspberrypi|raspbian|backports|ubuntu|nodesource' | head -n1)}
    [ -n "$mirror" ] || die "no Debian mirror is known; set DEBIAN_MIRROR"
    echo "deb-src [signed-by=$key] $mirror trixie main" > "$src/sources.list"
    { apt apt-get update && cd "$src/dl" && apt apt-get source --download-only micropython mbedtls; } >"$src/log" 2>&1 ||
        { tail -n 3 "$src/log" >&2; die "the sources cannot be downloaded"; }
    tar -xf "$src"/dl/micropython_*.orig.tar.* -C "$src/src" --strip-components=1
    tar -xf "$src"/dl/mbedtls_*.orig.tar.* -C "$src/src/mbedtls" --strip-components=1
    cd "$src/src"; rmdir lib/mbedtls; ln -s ../mbedtls lib/mbedtls; mkdir -p lib/micropython-lib; touch lib/micropython-lib/README.md
    run make -C mpy-cross -j"$(nproc)"
}
