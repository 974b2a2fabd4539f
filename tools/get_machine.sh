#!/bin/sh
# Makes the system that the installer is tried in: a Debian 12 with systemd, mosquitto and chrony, and the Python packages of the lock.
#   get_machine.sh      as root, in ${LICHEN_TOOLS:-.tools}/machine (2 minutes, 700 MB); does nothing where it is there already
# Packages come from where this system gets its own. tests/test_deploy_machine.py boots it with systemd-nspawn.
set -eu
. "$(dirname "$0")/common.sh"
case ${1:-} in -h|--help) help ;; '') ;; *) usage get_machine.sh ;; esac
tool_dir machine
wheels() {  # anew when the lock has changed
    cmp -s "$ROOT/requirements.lock" "$DIR/wheels/requirements.lock" && return
    rm -rf "$DIR/wheels.new"; mkdir "$DIR/wheels.new"
    "$ROOT/.venv/bin/python" -m pip download --quiet --disable-pip-version-check --only-binary :all: --implementation cp --python-version 3.11 \
        --abi cp311 --abi abi3 --abi none --platform "manylinux2014_$(uname -m)" --platform "manylinux_2_28_$(uname -m)" \
        --no-deps --require-hashes -r "$ROOT/requirements.lock" -d "$DIR/wheels.new" || die "the Python packages cannot be downloaded"
    cp "$ROOT/requirements.lock" "$DIR/wheels.new/"; rm -rf "$DIR/wheels"; mv "$DIR/wheels.new" "$DIR/wheels"
}
done_() { wheels; echo "machine $(cat "$DIR/root/etc/debian_version"): $DIR/root"; exit 0; }

[ ! -e "$DIR/root/complete" ] || done_
[ "$(id -u)" = 0 ] || die "a system of its own can be made by root alone"
for t in debootstrap systemd-nspawn; do
    command -v $t >/dev/null || { apt-get -qq install -y --no-install-recommends debootstrap systemd-container >/dev/null 2>&1 ||
        die "$t is missing; run: apt-get install debootstrap systemd-container"; }
done
SITE=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n1)
[ -n "${DEBIAN_MIRROR:-$SITE}" ] || die "this system has no source of Debian 12; set DEBIAN_MIRROR"
rm -rf "$DIR/root"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3,python3-venv,mosquitto,chrony,procps \
    bookworm "$DIR/root" "${DEBIAN_MIRROR:-$SITE}" > "$DIR/log" 2>&1 || { tail -n 2 "$DIR/log" >&2; die "debootstrap failed; see $DIR/log"; }
# Nothing in it may touch the clock of the machine that it is tried on.
for unit in chrony.service systemd-timesyncd.service; do ln -sf /dev/null "$DIR/root/etc/systemd/system/$unit"; done
rm -rf "$DIR/root/var/cache/apt/archives"/*.deb "$DIR/root/var/lib/apt/lists"/*
touch "$DIR/root/complete"; done_
