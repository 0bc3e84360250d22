#!/bin/sh
# An sftp session with pysftpmongo on a throw-away database, without an SSH server: tools/try-gridfs.sh
#
# For trying out and tests: the database server is SecantusDB, started for the session. Reads sftp's commands
# from standard input, a terminal or not. All of its files are in one temporary directory, which is removed when
# the session ends.
set -eu
cd "$(dirname "$0")/.."
bin=$(pwd -P)/.venv/bin

top=$(mktemp -d)
trap 'chmod -R u+rwX "$top"; rm -rf "$top"' EXIT
trap 'exit 1' HUP TERM

mkdir "$top/local" "$top/first" "$top/first/reports"
cat > "$top/first/welcome.txt" << 'TEXT'
This file is in a MongoDB-compatible database, in GridFS: one document says what it is called, and others
hold its content. Whatever you put here can be read by other programs through GridFS.

    ls -la               what is here
    put notes.txt        notes.txt lies in the session's local directory; "lls" lists that
    get -r reports       a directory with all that is in it
    mkdir, rename, rm, rmdir, chmod, ln -s, df -h, help

"bye" ends the session. The database and the local directory are removed then.
TEXT
printf 'month,visits\n2026-01,120\n2026-02,180\n' > "$top/first/reports/visits.csv"
printf 'Written on the client, for "put".\n' > "$top/local/notes.txt"

# sftp splits the argument of -D as a shell would.
server="\"$bin/python\" \"$bin/pysftpmongo\" --embedded \"$top/database\" --logfile \"$top/log\""

cd "$top/first"
if ! printf 'put welcome.txt\nput -r reports\n' | sftp -q -b - -D "$server" > "$top/said" 2>&1; then
    cat "$top/said" >&2
    exit 1
fi

cat << 'TEXT'
This is OpenSSH's sftp, talking to pysftpmongo without an SSH server in between.
Its "/" is a new bucket in a database server (SecantusDB) that was started for this session.
This is for trying out and tests: keep nothing here that matters.
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
