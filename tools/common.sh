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
