#!/bin/sh
# Installs Lungwatch as a service, upgrades it, or removes it: `make install`, `make uninstall`.
# It first lists what it will do. With --dry-run it only does that.
#
#     systemd/install.sh install|uninstall [--dry-run]
#
# 0.1.0 cannot start again after an upgrade, so a backup comes first. For SQLite the installer makes it;
# for Postgres it asks for it, and BACKUP=made confirms that there is one.
# PYTHON names the interpreter (3.11 or newer, with venv). WHEELS names a folder of wheels, made by
# `make wheels` on another machine, for a machine without access to a package registry.
set -eu
umask 022  # the service must be able to read files made by root

here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
releases=/opt/lungwatch-releases
current=/opt/lungwatch
units=/usr/local/lib/systemd/system
data=/var/lib/lungwatch
backup=$data/lungwatch-0.1.0.db
settings=/etc/lungwatch/lungwatch.env
command=/usr/local/bin/lungwatch
service_units="lungwatch-worker.service lungwatch-retrain.service lungwatch-retrain.timer
    lungwatch-drift.service lungwatch-drift.timer lungwatch.target"

fail() {
    echo "install.sh: $1" >&2
    exit 2
}

# Copies the database as the service's user, with the settings of the service.
back_up() {
    [ "${BACKUP:-}" != made ] || return 0
    mkdir "$release/backup"
    printf '#!/bin/sh\nexec %s -m worker.db.backup "$1"\n' "$release/bin/python" \
        >"$release/backup/lungwatch"
    chmod 755 "$release/backup/lungwatch"
    LUNGWATCH_BIN=$release/backup sh "$here/systemd/lungwatch.sh" "$backup" ||
        fail "0.1.0 cannot start again after this upgrade, so make a backup of the database first
(systemd/README.md, \"Backup and restore\"), then: sudo make install BACKUP=made"
    rm -r "$release/backup"
}

install_it() {
    if [ -e "$current" ]; then what="Upgrades"; else what="Installs"; fi
    old_version=$("$current/bin/python" -c \
        'import importlib.metadata as it; print(it.version("lungwatch"))' 2>/dev/null || true)
    cat <<EOF
$what Lungwatch from $here:
  $releases/NAME     a new virtual environment with the locked packages
  $current              will point to it; the previous release stays, older ones are removed
  $units   the units; also /etc/sysusers.d and /etc/tmpfiles.d
  $command        the command, with the service's settings
  user lungwatch, $data, /etc/lungwatch: created if missing
  $settings  written if missing, never changed later
Then it (re)starts lungwatch.target. Films, results, models and settings stay as they are.
EOF
    case $old_version in
    0.1.*)
        cat <<EOF
$old_version cannot start again after this upgrade, so the database is backed up first:
  SQLite: to $backup; Postgres: make the backup yourself
EOF
        ;;
    esac
    [ "$dry" = no ] || return 0
    [ "$(id -u)" = 0 ] || fail "only root can install: sudo make install"
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "$python is not Python 3.11 or newer with venv: make install PYTHON=python3.12"

    release=$releases/$(date -u +%Y%m%d-%H%M%S)
    previous=$(readlink "$current" || true)
    # On failure the incomplete release is removed. The running one is not touched before the new
    # release has passed its checks.
    trap 'rm -rf "$release"' EXIT
    "$python" -m venv "$release"
    pip="$release/bin/python -m pip --disable-pip-version-check --quiet"
    from=""
    [ -z "${WHEELS:-}" ] || from="--no-index --find-links $WHEELS"
    # shellcheck disable=SC2086 # options are words
    for lock in requirements.lock training/requirements.lock; do
        $pip install $from --no-deps --require-hashes --requirement "$here/$lock"
    done
    $pip install --no-index --no-deps --no-build-isolation "$here"

    mkdir -p "$units" /etc/sysusers.d /etc/tmpfiles.d
    cp "$here/systemd/lungwatch.sysusers" /etc/sysusers.d/lungwatch.conf
    cp "$here/systemd/lungwatch.tmpfiles" /etc/tmpfiles.d/lungwatch.conf
    systemd-sysusers /etc/sysusers.d/lungwatch.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/lungwatch.conf
    if [ ! -e "$settings" ]; then
        (umask 027 && cp "$here/systemd/lungwatch.env" "$settings")
        chgrp lungwatch "$settings"
    fi
    { LUNGWATCH_MODELS=$(echo "$release"/lib/python3*/site-packages/worker/models) \
        "$release/bin/lungwatch" models verify &&
        LUNGWATCH_BIN=$release/bin sh "$here/systemd/lungwatch.sh" models verify; } ||
        fail "models or settings fail their checks with this release: nothing was changed"
    case $old_version in 0.1.*) back_up ;; esac

    trap - EXIT
    install -m 755 "$here/systemd/lungwatch.sh" "$command"
    for unit in $service_units; do install -m 644 "$here/systemd/$unit" "$units/$unit"; done
    ln -s "$release" "$current.new"
    mv -T "$current.new" "$current"
    systemctl daemon-reload
    systemctl enable --quiet lungwatch.target lungwatch-worker.service lungwatch-retrain.timer \
        lungwatch-drift.timer
    systemctl start lungwatch.target
    began=$(date +%s)
    systemctl restart lungwatch-worker.service ||
        fail "the worker does not start: see journalctl -u lungwatch-worker; the previous release is ${previous:-none}"
    echo "The worker was down for $(($(date +%s) - began)) s. Inbox: $data/inbox. Next: lungwatch status"
    for old in "$releases"/*; do
        [ "$old" = "$release" ] || [ "$old" = "$previous" ] || rm -rf "$old"
    done
}

uninstall_it() {
    cat <<EOF
Stops Lungwatch and removes its units, $command, $current and $releases.
Kept: $data with films, results and models, /etc/lungwatch, and the user lungwatch.
EOF
    [ "$dry" = no ] || return 0
    [ "$(id -u)" = 0 ] || fail "only root can uninstall: sudo make uninstall"
    # shellcheck disable=SC2086 # names are words
    systemctl stop $service_units 2>/dev/null || true
    systemctl disable --quiet $service_units 2>/dev/null || true
    for unit in $service_units; do rm -f "$units/$unit"; done
    rm -f "$command" /etc/sysusers.d/lungwatch.conf /etc/tmpfiles.d/lungwatch.conf "$current"
    rm -rf "$releases"
    systemctl daemon-reload
    systemctl reset-failed $service_units 2>/dev/null || true
}

dry=no
[ "${2:-}" != --dry-run ] || dry=yes
case "${1:-}" in
install) install_it ;;
uninstall) uninstall_it ;;
*) fail "usage: install.sh install|uninstall [--dry-run]" ;;
esac
