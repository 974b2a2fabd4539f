#!/bin/sh
# Writes requirements.lock (base + hatchling: what `make demo` installs), requirements-dev.lock (base + dev) and
# requirements-bench.lock (base + the peers of benchmarks), with hashes, for Python 3.11 to 3.13.
#   tools/lock.sh [--upgrade]    keeps the versions already locked where they still fit; --upgrade takes the newest allowed
# Needs python3 with venv; resolves with uv, in a temporary environment. The same lock serves every platform (markers inside).
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; --upgrade|'') ;; *) usage 'lock.sh [--upgrade]' ;; esac
cd "$ROOT"
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; trap 'exit 1' INT TERM
if ! UV=$(command -v uv); then
    python3 -m venv "$T/venv" 2>"$T/log" || die "no virtual environment can be made; run: apt-get install python3-venv"
    "$T/venv/bin/pip" -q install uv; UV=$T/venv/bin/uv
fi
# uv has its own settings; the machine's pip knows where packages come from
[ -n "${UV_DEFAULT_INDEX:-}" ] || { UV_DEFAULT_INDEX=$(python3 -m pip config get global.index-url 2>/dev/null || true)
    [ -z "$UV_DEFAULT_INDEX" ] || export UV_DEFAULT_INDEX; }
sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml > "$T/build.in"      # the build back end, so that --no-build-isolation works
[ -s "$T/build.in" ] || { echo "pyproject.toml: no build-system.requires found" >&2; exit 1; }
compile() {  # compile OUTPUT ARGUMENT...: into a copy first, so that a failure leaves the lock alone
    out=$1; shift; [ ! -f "$out" ] || cp "$out" "$T/$out"
    "$UV" pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
        --output-file "$T/$out" "$@" >/dev/null
    { echo "# $out: every package with its hashes, made by tools/lock.sh from pyproject.toml"; cat "$T/$out"; } > "$T/done"
    cat "$T/done" > "$out"; echo "$out: $(grep -c '==' "$out") packages"
}
compile requirements.lock "$@" pyproject.toml "$T/build.in"
compile requirements-dev.lock "$@" --extra dev --constraint requirements.lock pyproject.toml
compile requirements-bench.lock "$@" --extra bench --constraint requirements-dev.lock pyproject.toml
