#!/bin/sh
# An sftp session with pysftpjail on a throw-away jail, without an SSH server: tools/try.sh
#
# Reads sftp's commands from standard input, a terminal or not. All of its files are in one temporary
# directory, which is removed when the session ends.
set -eu
cd "$(dirname "$0")/.."
bin=$(pwd -P)/.venv/bin

top=$(mktemp -d)
trap 'chmod -R u+rwX "$top"; rm -rf "$top"' EXIT
trap 'exit 1' HUP TERM

jail=$top/jail
mkdir "$jail" "$jail/reports" "$top/local"
cat > "$jail/welcome.txt" << 'TEXT'
This is a jail: its directory is "/" for the whole session, and nothing outside it can be reached.

    ls -la               what is here
    cd /../../..         the top stays the top
    get passwd           a link to /etc/passwd; it means /etc/passwd in the jail, and there is none
    put notes.txt        notes.txt lies in the session's local directory; "lls" lists that
    get -r reports       a directory with all that is in it
    mkdir, rename, rm, rmdir, chmod, ln -s, df -h, help

"bye" ends the session. The jail and the local directory are removed then.
TEXT
ln -s /etc/passwd "$jail/passwd"
printf 'month,visits\n2026-01,120\n2026-02,180\n' > "$jail/reports/visits.csv"
printf 'Written on the client, for "put".\n' > "$top/local/notes.txt"

cat << 'TEXT'
This is OpenSSH's sftp, talking to pysftpjail without an SSH server in between.
Its "/" is a new directory with a few files; whatever you do, you cannot leave it.
"get welcome.txt", then "!cat welcome.txt" says what to try. "bye" ends and removes everything.

TEXT

cd "$top/local"
# On a terminal sftp is a separate job, so that Ctrl-C, which ends a line or a transfer there, does not reach
# make as well.
job_control=+m
[ ! -t 0 ] || job_control=-m
status=0
# sftp splits the argument of -D as a shell would.
sh "$job_control" -c '"$@"; exit $?' sh \
    sftp -D "\"$bin/python\" \"$bin/pysftpjail\" \"$jail\"" || status=$?
if [ "$status" -gt 1 ]; then
    echo "sftp ended with status $status" >&2
fi
exit "$status"
