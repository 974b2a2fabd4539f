#!/bin/sh
# Gets Telegraf 1.37, the program that the benchmarks measure beside the gateway.
#   get_telegraf.sh      makes telegraf in ${LICHEN_TOOLS:-.tools}/telegraf and prints one line
# Takes an installed telegraf 1.37 if there is one; else builds the Go module with only the parts the benchmarks use
# (needs go >= 1.21, about a minute on 2 cores the first time). Does nothing where it is there already.
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage get_telegraf.sh ;; esac
VERSION=1.37.2
PARTS=inputs.mqtt_consumer,outputs.influxdb_v2,parsers.json,parsers.json_v2,parsers.influx,serializers.influx
version() { "$1" --version 2>/dev/null | sed -n 's/^Telegraf \(1\.37[0-9.]*\).*/\1/p'; }
done_() { echo "telegraf $(version "$DIR/telegraf"): $DIR/telegraf"; exit 0; }

tool_dir telegraf
[ -z "$(version "$DIR/telegraf")" ] || done_
if t=$(command -v telegraf) && [ -n "$(version "$t")" ]; then wrap "$DIR/telegraf" "exec '$t'"; done_; fi
command -v go >/dev/null || die "needs go; run: apt-get install golang-go"
GO=$(go env GOVERSION); at_least 1.21 "${GO#go}" || die "needs go 1.21 or newer, this is $GO; a newer golang-go is in Debian's backports"

run() { "$@" >>"$DIR/build.log" 2>&1 || { tail -n 5 "$DIR/build.log" >&2; die "the build failed; all it said is in $DIR/build.log"; }; }
echo "building Telegraf $VERSION, about a minute" >&2; : > "$DIR/build.log"
cd "$DIR"
# Built in its own folder of the module cache, since its go.mod replaces modules that a program requiring it would not.
SRC=$(GOFLAGS=-mod=mod go mod download -json "github.com/influxdata/telegraf@v$VERSION" 2>>"$DIR/build.log" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
[ -n "$SRC" ] || { tail -n 5 "$DIR/build.log" >&2; die "Telegraf's source cannot be fetched; all that was said is in $DIR/build.log"; }
cd "$SRC"
run go build -trimpath -tags "custom,$PARTS" -ldflags "-s -w -X github.com/influxdata/telegraf/internal.Version=$VERSION" -o "$DIR/telegraf.new" ./cmd/telegraf
[ -n "$(version "$DIR/telegraf.new")" ] || die "the new telegraf does not start; see $DIR/build.log"
mv "$DIR/telegraf.new" "$DIR/telegraf"; done_
