#!/bin/sh
# Runs the tests with the distribution's own Python and with the newest one that is installed:
# tools/test-pythons.sh [nose2's arguments]
#
# $PYTHONS: the interpreters to use instead. Each has its own environment, .venv- and its name. All are tried;
# exits with 1 if a test failed with any of them.
set -u
cd "$(dirname "$0")/.."
status=0

newest() {
    for minor in 14 13 12 11; do
        if "python3.$minor" -c '' 2> /dev/null < /dev/null; then
            command -v "python3.$minor"
            return
        fi
    done
}

for python in ${PYTHONS:-/usr/bin/python3 $(newest)}; do
    echo "===== $("$python" -V), $python"
    if tools/venv.sh --for "$python" test; then
        "$(pwd)/.venv-$(basename "$python")/bin/python" tools/run_tests.py --jobs "$(nproc)" -- "$@" || status=1
    else
        status=1
    fi
done
exit $status
