#!/bin/sh
# /usr/local/bin/lungwatch: the command, with the service's settings and as the service's user.
# Root becomes that user, so that nothing in its folders belongs to root; others need its group.
set -a
LUNGWATCH_INBOX=/var/lib/lungwatch/inbox
LUNGWATCH_ARCHIVE=/var/lib/lungwatch/archive
LUNGWATCH_REFUSED=/var/lib/lungwatch/refused
LUNGWATCH_MODELS=/var/lib/lungwatch/models
LUNGWATCH_DATABASE_URL=sqlite:////var/lib/lungwatch/lungwatch.db
[ ! -r /etc/lungwatch/lungwatch.env ] || . /etc/lungwatch/lungwatch.env
secret=/etc/lungwatch/credentials/lungwatch_database_url
[ ! -r "$secret" ] || LUNGWATCH_DATABASE_URL=$(cat "$secret")
set +a
bin=${LUNGWATCH_BIN:-/opt/lungwatch/bin}
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=lungwatch --regid=lungwatch --init-groups --no-new-privs \
        env HOME=/var/lib/lungwatch "$bin/lungwatch" "$@"
fi
exec "$bin/lungwatch" "$@"
