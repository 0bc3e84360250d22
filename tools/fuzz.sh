#!/bin/sh
# Fuzzes every target for some time each: tools/fuzz.sh SECONDS
#
# Runs in .venv, which tools/venv.sh has made, and installs atheris there if it is missing: nothing else needs
# it, so it is not in an extra.
set -eu
cd "$(dirname "$0")/.."
seconds=$1

case $seconds in
"" | *[!0-9]*)
    echo "make fuzz: SECONDS is a number of seconds for each target, not '$seconds'" >&2
    exit 2
    ;;
esac

if ! .venv/bin/python -c 'import atheris' 2> /dev/null < /dev/null; then
    if ! .venv/bin/python -c 'import platform, sys
here = sys.implementation.name, sys.platform, platform.machine()
version = sys.version_info[:2]
sys.exit(here != ("cpython", "linux", "x86_64") or not (3, 11) <= version <= (3, 13))' < /dev/null; then
        echo "make fuzz: atheris needs CPython 3.11, 3.12 or 3.13 on x86_64 Linux; this is another" >&2
        exit 1
    fi
    echo "Installing atheris into .venv"
    .venv/bin/python -m pip -qq --disable-pip-version-check --no-input install \
        --requirement fuzz/requirements.txt < /dev/null
fi

exec .venv/bin/python fuzz/run.py all --seconds "$seconds"
