#!/bin/sh
# Installs, upgrades or removes the Lichen gateway on a Debian-family system with systemd; run it as root, as often as you like.
#   install.sh install     installs from this checkout, or upgrades to it; what is there already is left alone
#   install.sh uninstall   removes the program and its units; readings, configuration and secrets stay
#     --lan           broker and page listen on all addresses (install; kept by later runs). Default: on this machine alone
#     --no-broker     the broker is elsewhere: mosquitto is not touched
#     --no-time       this machine serves no time: chrony is not touched
#     --wheels DIR    takes Python packages from a folder and not from the network
#     --purge         with uninstall: removes readings, configuration, secrets and the user too, after asking
#     --yes           does not ask
#     --dry-run       says what it would do and does nothing
# A configuration file that you have edited is never overwritten: what is new comes beside it as FILE.new.
set -eu
SOURCE=$(cd "$(dirname "$0")/.." && pwd)
OPT=/opt/lichen ETC=/etc/lichen STATE=/var/lib/lichen UNIT=lichen-gateway.service
SECRETS=$ETC/credentials RECORD=$ETC/installed.sha256
PASSWORDS=/etc/mosquitto/lichen.passwords ACL=/etc/mosquitto/lichen.acl
BROKER_CONF=/etc/mosquitto/conf.d/lichen.conf TIME_CONF=/etc/chrony/conf.d/lichen.conf
UNIT_FILE=/etc/systemd/system/$UNIT COMMAND=/usr/local/bin/lichen
LAN='' PAGE=127.0.0.1 BROKER=1 TIME=1 WHEELS='' PURGE='' YES='' DRY='' WORK=''
BROKER_CHANGED='' PASSWORDS_CHANGED='' TIME_CHANGED='' GATEWAY_CHANGED=''

say() { printf '%s%s\n' "${DRY:+would: }" "$*"; }                        # each thing that is done, before it is done
note() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p;}' "$0" >&2; exit 2; }
do_() { [ -n "$DRY" ] || "$@"; }
is_edited() {  # is_edited FILE: whether it is no more what this script has put there
    [ -e "$1" ] && ! { [ -e "$RECORD" ] && grep -qxF "$(sha256sum "$1")" "$RECORD"; }
}
remember() {
    ! grep -qsxF "$(sha256sum "$1")" "$RECORD" || return 0
    grep -vF "  $1" "$RECORD" 2>/dev/null > "$WORK/record" || true
    sha256sum "$1" >> "$WORK/record"; install -m 644 "$WORK/record" "$RECORD"
}
put() {  # put SOURCE FILE MODE GROUP: sets PUT where it changes something that is in use
    PUT=''
    if cmp -s "$1" "$2"; then [ -n "$DRY" ] || remember "$2"; return 0; fi
    if is_edited "$2"; then
        cmp -s "$1" "$2.new" && return 0
        say "$2 was edited and stays; the new one becomes $2.new: compare them"
        do_ install -m "$3" -o root -g "$4" "$1" "$2.new"; return 0
    fi
    say "write $2"
    PUT=1
    [ -n "$DRY" ] || { install -D -m "$3" -o root -g "$4" "$1" "$2"; rm -f "$2.new"; remember "$2"; }
}
random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

check_system() {
    [ "$(id -u)" = 0 ] || die "run it as root: sudo $0 ..."
    [ -d /run/systemd/system ] || die "systemd does not run here; without it see docs/deployment.md, by hand"
    [ "$(getconf LONG_BIT)" = 64 ] || die "this system is of 32 bits; Lichen's packages need 64"
}

packages() {
    need=''
    python3 -c 'import ensurepip, venv' 2>/dev/null || need="$need python3 python3-venv"
    [ -z "$BROKER" ] || command -v mosquitto_passwd >/dev/null || need="$need mosquitto"
    [ -z "$TIME" ] || [ -d /etc/chrony ] || need="$need chrony"
    if [ -n "$need" ]; then
        say "install the packages$need"
        # shellcheck disable=SC2086
        do_ env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $need >/dev/null ||
            die "the packages$need cannot be installed; run apt-get update, then again"
    fi
    [ -n "$DRY" ] || python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Lichen needs Python 3.11 or newer"
}

user() {
    getent passwd lichen >/dev/null && return
    say "add the user and group lichen"
    do_ useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin lichen
}

program() {  # each version in a folder of its own, so that the change from one to the other is one step, and back
    files=$(cd "$SOURCE" && find pyproject.toml requirements.lock README.md gateway calibration firmware_micropython deploy docs \
        -type f ! -path '*/__pycache__/*' ! -name '*.pyc' | LC_ALL=C sort)
    hash=$(cd "$SOURCE" && printf '%s\n' "$files" | tr '\n' '\0' | xargs -0 sha256sum | sha256sum | cut -c1-12)
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$SOURCE/pyproject.toml")
    RELEASE=$OPT/releases/$version-$hash
    OLD=$(readlink "$OPT/current" 2>/dev/null || true)
    if [ -e "$RELEASE/complete" ]; then
        [ "$OLD" = "$RELEASE" ] && { note "version $version-$hash is installed already"; return; }
    else
        say "make an environment in $RELEASE from requirements.lock"
        [ -n "$DRY" ] || build
    fi
    say "make $version-$hash the version in use${OLD:+, instead of ${OLD##*/}}"
    do_ point_to "$RELEASE"
    GATEWAY_CHANGED=1
}

build() {
    rm -rf "$RELEASE"; mkdir -p "$RELEASE" "$WORK/source"
    (cd "$SOURCE" && printf '%s\n' "$files" | tr '\n' '\0' | xargs -0 cp --parents -t "$WORK/source")
    python3 -m venv "$RELEASE" || die "no environment can be made; install the package python3-venv"
    set -- "$RELEASE/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir
    "$@" ${WHEELS:+--no-index --find-links "$WHEELS"} --require-hashes -r "$SOURCE/requirements.lock" ||
        die "Python packages cannot be had; nothing was changed. Is there a network? Else --wheels DIR (docs/deployment.md)"
    "$@" --no-index --no-deps --no-build-isolation "$WORK/source" || die "the program cannot be built; nothing was changed"
    cp -r "$WORK/source/deploy" "$WORK/source/docs" "$RELEASE/"
    "$RELEASE/bin/lichen" --help >/dev/null || die "the new version does not start; nothing was changed"
    touch "$RELEASE/complete"
}

point_to() { ln -sfn "$1" "$OPT/current.new"; mv -T "$OPT/current.new" "$OPT/current"; }

configuration() {
    [ -d "$SECRETS" ] || { say "make $SECRETS"; do_ install -d -m 755 "$ETC"; do_ install -d -m 700 "$SECRETS"; }
    cp "$SOURCE/deploy/gateway.toml" "$WORK/gateway.toml"
    if [ -n "$LAN" ] || grep -qs '^host = "0.0.0.0"$' "$ETC/gateway.toml"; then
        PAGE=$(hostname); sed -i 's/^host = "127.0.0.1"$/host = "0.0.0.0"/' "$WORK/gateway.toml"
    fi
    put "$WORK/gateway.toml" "$ETC/gateway.toml" 640 "$(getent group lichen >/dev/null && echo lichen || echo root)"
    [ -z "$PUT" ] || GATEWAY_CHANGED=1
    [ -s "$SECRETS/broker-password" ] && return
    GATEWAY_CHANGED=1
    if [ -z "$BROKER" ]; then
        note "put the gateway's password at your broker into $SECRETS/broker-password (mode 600), then run this again"
        return
    fi
    say "make a random password for the gateway in $SECRETS/broker-password"
    [ -n "$DRY" ] || (umask 077; random > "$SECRETS/broker-password")
    PASSWORDS_CHANGED=1
}

broker() {
    [ -n "$BROKER" ] || return 0
    group=$(getent group mosquitto >/dev/null && echo mosquitto || echo root)
    if [ -n "$PASSWORDS_CHANGED" ] || ! grep -qs '^gateway:' "$PASSWORDS"; then
        say "give the user gateway that password in $PASSWORDS"
        [ -n "$DRY" ] || broker_password
        PASSWORDS_CHANGED=1
    fi
    put "$SOURCE/deploy/mosquitto/lichen.acl" "$ACL" 640 "$group"
    [ -z "$PUT" ] || PASSWORDS_CHANGED=1
    cp "$SOURCE/deploy/mosquitto/lichen.conf" "$WORK/lichen.conf"
    if [ -n "$LAN" ] || grep -qs '^listener 1883$' "$BROKER_CONF"; then
        sed -i 's/^listener 1883 127.0.0.1$/listener 1883/' "$WORK/lichen.conf"
    fi
    put "$WORK/lichen.conf" "$BROKER_CONF" 644 root
    BROKER_CHANGED=$PUT
}

broker_password() {  # mosquitto_passwd -U: a password as an argument would stand in the list of processes
    (umask 077; printf 'gateway:%s\n' "$(cat "$SECRETS/broker-password")" > "$WORK/gateway")
    mosquitto_passwd -U "$WORK/gateway"
    { grep -v '^gateway:' "$PASSWORDS" 2>/dev/null || true; cat "$WORK/gateway"; } > "$WORK/passwords"
    install -m 640 -o root -g "$group" "$WORK/passwords" "$PASSWORDS"
}

time_server() {
    [ -n "$TIME" ] || return 0
    put "$SOURCE/deploy/chrony/lichen.conf" "$TIME_CONF" 644 root
    TIME_CHANGED=$PUT
}

units() {
    put "$SOURCE/deploy/lichen" "$COMMAND" 755 root
    put "$SOURCE/deploy/$UNIT" "$UNIT_FILE" 644 root
    [ -z "$PUT" ] || { GATEWAY_CHANGED=1; do_ systemctl daemon-reload; }
}

start() {
    if [ -n "$BROKER_CHANGED" ]; then
        say "restart mosquitto"; do_ systemctl enable --quiet mosquitto
        do_ systemctl restart mosquitto || die "mosquitto does not start; see: journalctl -u mosquitto, /var/log/mosquitto"
    elif [ -n "$PASSWORDS_CHANGED" ]; then
        say "let mosquitto read its passwords and access list again"; do_ systemctl reload-or-restart mosquitto
    fi
    if [ -n "$TIME_CHANGED" ]; then
        say "restart chrony"; do_ systemctl restart chrony || note "chrony does not start; see: journalctl -u chrony"
    fi
    if ! [ -s "$SECRETS/broker-password" ]; then [ -n "$DRY" ] || return 0; fi
    systemctl is-enabled --quiet $UNIT 2>/dev/null || { say "start the gateway with the system"; do_ systemctl enable --quiet $UNIT; }
    if [ -n "$GATEWAY_CHANGED" ]; then
        say "restart the gateway"; do_ systemctl restart $UNIT || go_back
    elif ! systemctl is-active --quiet $UNIT; then
        say "start the gateway"; do_ systemctl start $UNIT || die "it does not start; see: journalctl -u $UNIT -n 20"
    fi
    [ -n "$DRY" ] || forget_old_versions
}

go_back() {
    journalctl -u $UNIT -n 5 --no-pager -o cat >&2 || true
    if [ -z "$OLD" ] || [ "$OLD" = "$RELEASE" ] || ! [ -e "$OLD/complete" ]; then die "the gateway does not start; the lines above say why"; fi
    note "the new version does not start; back to ${OLD##*/}"
    point_to "$OLD"
    if systemctl restart $UNIT; then die "the upgrade failed and ${OLD##*/} runs again; the lines above say why"; fi
    die "neither version starts; the copy of the store from before the upgrade is below $STATE (docs/upgrades.md)"
}

forget_old_versions() {  # the one before stays, to go back to
    for folder in "$OPT"/releases/*; do
        case $folder in "$RELEASE" | "${OLD:-$RELEASE}") ;; *) say "remove the old version ${folder##*/}"; rm -rf "$folder" ;; esac
    done
}

install_() {
    packages; user; program; configuration; broker; time_server; units; start
    [ -z "$DRY" ] || { note "nothing was done"; return; }
    systemctl --no-pager -n 0 status $UNIT 2>/dev/null | sed -n 's/^ *\(Active\|Status\): /\1: /p'
    note "the page: http://$PAGE:8080/ · the log: journalctl -u $UNIT · a kit: docs/deployment.md"
}

remove() {  # remove FILE...: what was edited is kept beside the configuration
    for file in "$@"; do
        [ -e "$file" ] || continue
        if [ -z "$PURGE" ] && is_edited "$file"; then
            say "remove $file, which was edited; it is kept as $ETC/${file##*/}.edited"; do_ cp -p "$file" "$ETC/${file##*/}.edited"
        else say "remove $file"; fi
        do_ rm -f "$file" "$file.new"
    done
}

uninstall() {
    if [ -n "$PURGE" ] && [ -z "$YES$DRY" ]; then
        [ -t 0 ] || die "--purge removes all readings; without a terminal to ask on it needs --yes"
        printf 'This removes all readings in %s, the configuration and all passwords. Type "purge" to go on: ' "$STATE"
        read -r answer; [ "$answer" = purge ] || die "nothing was removed"
    fi
    if systemctl cat $UNIT >/dev/null 2>&1; then say "stop the gateway"; do_ systemctl disable --quiet --now $UNIT; fi
    remove "$UNIT_FILE" "$COMMAND"
    do_ systemctl daemon-reload; do_ systemctl reset-failed $UNIT 2>/dev/null || true
    if [ -e "$BROKER_CONF" ] && [ -n "$BROKER" ]; then
        remove "$BROKER_CONF"; say "restart mosquitto"; do_ systemctl try-restart mosquitto || true
    fi
    if [ -e "$TIME_CONF" ]; then remove "$TIME_CONF"; say "restart chrony"; do_ systemctl try-restart chrony || true; fi
    [ ! -e $OPT ] || { say "remove $OPT"; do_ rm -rf $OPT; }
    if [ -z "$PURGE" ]; then
        note "kept: readings in $STATE, $ETC, $PASSWORDS, $ACL, the user lichen; and the packages mosquitto and chrony"; return
    fi
    for path in $STATE $ETC /etc/systemd/system/$UNIT.d $PASSWORDS $ACL; do
        [ ! -e "$path" ] || { say "remove $path"; do_ rm -rf "$path"; }
    done
    getent passwd lichen >/dev/null && { say "remove the user lichen"; do_ userdel lichen; }
    note "kept: the packages mosquitto and chrony, and what mosquitto has stored of its own"
}

ACTION=''
while [ $# -gt 0 ]; do
    case $1 in
    install | upgrade) ACTION=install_ ;;
    uninstall) ACTION=uninstall ;;
    --lan) LAN=1 ;;
    --no-broker) BROKER='' ;;
    --no-time) TIME='' ;;
    --wheels) shift; [ $# -gt 0 ] || usage; WHEELS=$(cd "$1" && pwd) ;;
    --purge) PURGE=1 ;;
    --yes) YES=1 ;;
    --dry-run) DRY=1 ;;
    *) usage ;;
    esac
    shift
done
[ -n "$ACTION" ] || usage
[ -n "$DRY" ] || check_system
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT; trap 'exit 1' INT TERM
umask 022
$ACTION
