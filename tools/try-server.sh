#!/bin/sh
# A throw-away pysftpd with one user and a temporary key: tools/try-server.sh
#
# Prints the sftp command to paste into another terminal, and serves until Ctrl-C. All of its files are in one
# temporary directory, which is removed then. $SECONDS_TO_SERVE ends it after that time.
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

ssh-keygen -q -t ed25519 -N '' -C try -f "$top/key"
mkdir -m 700 -p "$top/files/try"
echo 'Whatever you put here goes when the server ends.' > "$top/files/try/welcome.txt"
umask 077
printf '[users.try]\nkeys = ["%s"]\n' "$(cat "$top/key.pub")" > "$top/users.toml"

root=
[ "$(id -u)" != 0 ] || root=--allow-root
"$bin/python" "$bin/pysftpd" --listen-address 127.0.0.1 --sftp-port 0 --users "$top/users.toml" \
    --sftp-path "$top/files" --host-key-dir "$top/host-keys" --drain-seconds 1 $root 2> "$top/log" &
server=$!

port=
while [ -z "$port" ]; do
    if ! kill -0 "$server" 2> /dev/null; then
        cat "$top/log" >&2
        exit 1
    fi
    sleep 0.1
    port=$(sed -n 's/.* listening on [^ ]* port \([0-9]*\)$/\1/p' "$top/log" | head -n 1)
done

echo "[127.0.0.1]:$port $(ssh-keygen -y -f "$top/host-keys/ssh_host_ed25519_key")" > "$top/known_hosts"
cat << TEXT
pysftpd serves one user, whose "/" is a new directory. In another terminal:

    sftp -i $top/key -o UserKnownHostsFile=$top/known_hosts -P $port try@127.0.0.1

Ctrl-C ends the server and removes everything. What it logs:

TEXT
tail -n +1 -f "$top/log" &
tail=$!
trap 'kill "$tail" 2> /dev/null; exit 0' INT TERM HUP
if [ -n "${SECONDS_TO_SERVE:-}" ]; then
    sleep "$SECONDS_TO_SERVE"
    kill "$server"
fi
wait "$server" || true
kill "$tail" 2> /dev/null || true
