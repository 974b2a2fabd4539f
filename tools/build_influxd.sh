#!/bin/sh
# Builds InfluxDB 2.7.12 (a Go module with the Rust library libflux inside).
#   build_influxd.sh      makes influxd in ${LICHEN_TOOLS:-.tools}/influxd and prints one line
# Takes an installed influxd 2.7 if there is one; else needs go >= 1.21 (it fetches the 1.24 it wants by itself), cargo,
# clang, protobuf-compiler, pkg-config, and about 5 minutes on 2 cores. Does nothing where it is there already.
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage build_influxd.sh ;; esac
VERSION=2.7.12
version() { "$1" version 2>/dev/null | sed -n 's/^InfluxDB v\{0,1\}\(2\.7\.[0-9]*\).*/\1/p'; }
done_() { echo "influxd $(version "$DIR/influxd"): $DIR/influxd"; exit 0; }

tool_dir influxd
[ -z "$(version "$DIR/influxd")" ] || done_
if i=$(command -v influxd) && [ -n "$(version "$i")" ]; then wrap "$DIR/influxd" "exec '$i'"; done_; fi
need() { command -v "$1" >/dev/null || die "needs $1; run: apt-get install $2"; }
need go golang-go; need cargo cargo; need clang clang; need protoc protobuf-compiler; need pkg-config pkg-config
GO=$(go env GOVERSION); at_least 1.21 "${GO#go}" || die "needs go 1.21 or newer, this is $GO; a newer golang-go is in Debian's backports"

run() { "$@" >>"$DIR/build.log" 2>&1 || { tail -n 5 "$DIR/build.log" >&2; die "the build failed; all it said is in $DIR/build.log"; }; }
echo "building InfluxDB $VERSION, about 5 minutes" >&2; : > "$DIR/build.log"; mkdir -p "$DIR/module"
run env GOBIN="$DIR/tools" go install github.com/influxdata/pkg-config@v0.2.14   # tells cgo where libflux is, and builds it with cargo
# shellcheck disable=SC2016
printf '#!/bin/sh\nrustc=$1; shift\nexec "$rustc" "$@" --cap-lints warn\n' > "$DIR/tools/rustc"   # libflux denies warnings that newer compilers add
chmod +x "$DIR/tools/rustc"
cat > "$DIR/module/go.mod" <<MOD
module lichen/tools/influxd

go 1.24

require github.com/influxdata/influxdb/v2 v$VERSION

replace github.com/nats-io/nats-streaming-server v0.11.2 => github.com/influxdata/nats-streaming-server v0.11.3-0.20201112040610-c277f7560803
MOD
cd "$DIR/module"
run env PKG_CONFIG="$DIR/tools/pkg-config" RUSTC_WRAPPER="$DIR/tools/rustc" RUSTUP_TOOLCHAIN=stable \
    go build -mod=mod -trimpath -tags 'sqlite_foreign_keys,sqlite_json' -ldflags "-s -w -X main.version=$VERSION" \
    -o "$DIR/influxd.new" github.com/influxdata/influxdb/v2/cmd/influxd
[ -n "$(version "$DIR/influxd.new")" ] || die "the new influxd does not start; see $DIR/build.log"
mv "$DIR/influxd.new" "$DIR/influxd"; done_
