#!/bin/sh
# Finds Chromium for the browser tests; it is too large to unpack beside the project, so the system's is used.
#   get_chromium.sh      prints one line, or names the package to install
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage get_chromium.sh ;; esac
for c in chromium chromium-browser google-chrome; do
    if p=$(command -v $c) && v=$("$p" --version 2>/dev/null); then
        echo "chromium $(echo "$v" | grep -o -E '[0-9][0-9.]+' | head -n1): $p"; exit 0
    fi
done
die "no Chromium here; run: apt-get install chromium"
