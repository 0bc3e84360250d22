#!/bin/sh
# A throw-away message server, and a client of it on this terminal: tools/try-laboratory.sh
#
# The server has a random password, and Files on a temporary directory; all of it is removed when the client
# ends. Standard input may be a terminal or lines.
set -eu
cd "$(dirname "$0")/.."
bin=$(pwd -P)/.venv/bin

top=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || kill "$server" 2> /dev/null || true
    [ -z "$server" ] || wait "$server" 2> /dev/null || true
    rm -rf "$top"
}
trap stop EXIT
trap 'exit 0' INT TERM HUP

umask 077
mkdir "$top/files"
echo 'Whatever you put here goes when the client ends.' > "$top/files/welcome.txt"
"$bin/python" -c 'import secrets; print(secrets.token_urlsafe(12))' > "$top/password"

root=
[ "$(id -u)" != 0 ] || root=--allow-root
"$bin/python" "$bin/pysftplab" serve --port 0 --password-file "$top/password" --files "jail:$top/files" $root \
    2> "$top/log" < /dev/null &
server=$!

port=
while [ -z "$port" ]; do
    if ! kill -0 "$server" 2> /dev/null; then
        cat "$top/log" >&2
        exit 1
    fi
    sleep 0.1
    port=$(sed -n 's/.*listening on [^ ]* port \([0-9]*\)$/\1/p' "$top/log" | head -n 1)
done

cat << TEXT
A message server listens on port $port of 127.0.0.1, with the services Echo, Chat, Time and Files. What you type
is sent to Echo. Try :services, and :use chat. To join from another terminal:

    $bin/pysftplab connect --password-file $top/password --name other 127.0.0.1 $port

:quit or Ctrl-D ends the client and the server, and removes everything.

TEXT
"$bin/python" "$bin/pysftplab" connect --password-file "$top/password" 127.0.0.1 "$port"
