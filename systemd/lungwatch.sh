#!/bin/sh
# /usr/local/bin/lungwatch: runs the command with the service's settings, as the service's user.
# Root switches to that user, so that no file in its folders belongs to root; others need its group.
settings=/etc/lungwatch/lungwatch.env
secret=/etc/lungwatch/credentials/lungwatch_database_url
units=/etc/systemd/system
ours="LUNGWATCH_(INBOX|ARCHIVE|REFUSED|MODELS|DATABASE_URL)="

fail() {
    echo "lungwatch: $1" >&2
    exit 2
}

refuse() { fail "$settings, line $number: $1"; }

# Prints a drop-in of our units that has such a line.
drop_in() { grep -Els "^[[:space:]]*$1" "$units"/lungwatch-*.service.d/*.conf | head -n 1; }

# Reads lungwatch.env as systemd does for the service, without a shell or expansion. Ambiguous lines
# are refused: the command must not work on another inbox than the service.
read_settings() {
    number=0 cr=$(printf '\r')
    while IFS=' 	' read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        case $line in
        *"$cr"*) refuse "it has a carriage return, as in files from Windows" ;;
        '#'*\\ | ';'*\\) refuse "a comment must not end in a backslash" ;;
        '' | '#'* | ';'*) continue ;;
        esac
        name=${line%%=*} value=${line#*=} odd=
        case $name in
        "$line" | '' | [0-9]* | *[!A-Za-z0-9_]*) refuse "it is not NAME='value'" ;;
        esac
        case $value in
        \'*\')
            value=${value#?} value=${value%?}
            case $value in *\'*) odd=yes ;; esac
            ;;
        \"*\")
            value=${value#?} value=${value%?}
            case $value in *[\"\\]*) odd=yes ;; esac
            ;;
        [[:space:]]* | *[\'\"\\]*) odd=yes ;;
        esac
        [ -z "$odd" ] || refuse "it is ambiguous: write $name='value', with no ' inside"
        printf %s "$value" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1 || refuse "it is not UTF-8"
        export "$name=$value"
    done <"$settings"
}

# As in the units. lungwatch.env overrides them, here and there.
export LUNGWATCH_INBOX=/var/lib/lungwatch/inbox
export LUNGWATCH_ARCHIVE=/var/lib/lungwatch/archive
export LUNGWATCH_REFUSED=/var/lib/lungwatch/refused
export LUNGWATCH_MODELS=/var/lib/lungwatch/models
export LUNGWATCH_DATABASE_URL=sqlite:////var/lib/lungwatch/lungwatch.db
[ ! -d "${settings%/*}" ] || [ -x "${settings%/*}" ] ||
    fail "only root and the group lungwatch may use it: use sudo, or join the group and log in again"
for one in "$units"/lungwatch-*.service.d "$units"/lungwatch-*.service.d/*.conf; do
    [ ! -e "$one" ] || [ -r "$one" ] || fail "$one cannot be read: use sudo"
done
found=$(drop_in "Environment[[:space:]]*=.*$ours")
[ -z "$found" ] || fail "$found sets a folder or the database: set it in $settings instead, which everything reads"
if [ -r "$settings" ]; then
    read_settings
elif [ -e "$settings" ]; then
    fail "$settings cannot be read: use sudo"
fi
if [ -r "$secret" ]; then
    LUNGWATCH_DATABASE_URL=$(cat "$secret")
elif [ -n "$(drop_in '[A-Za-z]+Credential.*=[[:space:]]*lungwatch_database_url')" ]; then
    fail "$secret holds the database URL and cannot be read: use sudo"
fi

bin=${LUNGWATCH_BIN:-/opt/lungwatch/bin}
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=lungwatch --regid=lungwatch --init-groups --no-new-privs \
        env HOME=/var/lib/lungwatch "$bin/lungwatch" "$@"
fi
exec "$bin/lungwatch" "$@"
