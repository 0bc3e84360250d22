#!/bin/sh
# A throw-away pysftpweb with one user and a random password: tools/try-web.sh
#
# Prints the link and the password, and serves until Ctrl-C. All of its files are in one temporary directory,
# which is removed then. $SECONDS_TO_SERVE ends it after that time.
set -eu
cd "$(dirname "$0")/.."
bin=$(pwd -P)/.venv/bin

top=$(mktemp -d)
server=
tail=
stop() {
    [ -z "$tail" ] || kill "$tail" 2> /dev/null || true
    [ -z "$server" ] || kill "$server" 2> /dev/null || true
    [ -z "$server" ] || wait "$server" 2> /dev/null || true
    rm -rf "$top"
}
trap stop EXIT
trap 'exit 0' INT TERM HUP

umask 077
mkdir -p "$top/files/try/reports"
echo 'Whatever you put here goes when the server ends.' > "$top/files/try/welcome.txt"
printf 'day,visits\n2026-11-29,12\n2026-11-30,34\n' > "$top/files/try/reports/visits.csv"
password=$("$bin/python" -c 'import secrets; print(secrets.token_urlsafe(12))')
users="--users $top/users.toml"
# shellcheck disable=SC2086  # two words
{
    "$bin/python" "$bin/pysftpctl" $users --sftp-path "$top/files" add try
    echo "$password" | "$bin/python" "$bin/pysftpctl" $users passwd try
} > "$top/said" 2>&1 < /dev/null || { cat "$top/said" >&2; exit 1; }

root=
[ "$(id -u)" != 0 ] || root=--allow-root
# shellcheck disable=SC2086
"$bin/python" "$bin/pysftpweb" --listen-address 127.0.0.1 --port 0 $users --sftp-path "$top/files" \
    --auth-methods password --state "$top/state.sqlite" --drain-seconds 1 $root 2> "$top/log" < /dev/null &
server=$!

url=
while [ -z "$url" ]; do
    if ! kill -0 "$server" 2> /dev/null; then
        cat "$top/log" >&2
        exit 1
    fi
    sleep 0.1
    url=$(sed -n 's/.* listening on \(http[^ ]*\).*/\1/p' "$top/log" | head -n 1)
done

cat << TEXT
pysftpweb serves one user, whose files are a new directory. Open this in a browser:

    $url
    name      try
    password  $password

A WebDAV client takes ${url}dav/ with the same name and password. Ctrl-C ends the server and removes everything.
What it logs:

TEXT
tail -n +1 -f "$top/log" &
tail=$!
if [ -n "${SECONDS_TO_SERVE:-}" ]; then
    sleep "$SECONDS_TO_SERVE"
    kill "$server"
fi
wait "$server" || true
