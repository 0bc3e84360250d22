#!/bin/sh
# Runs the whole suite four ways, to find tests that depend on luck: tools/test-hard.sh [RUNS]
#
# Alone, with two busy loops on each processor, four processes at once, and in random order. All ways are tried,
# RUNS times each; exits with 1 if a test failed in any. Tests that are too long for daily runs are included:
# PYSFTP_TEST_HARD=1 enables them.
set -u
cd "$(dirname "$0")/.."
runs=${1:-1}
processors=$(nproc)
jobs=$((processors + 2)) # as "make test" has it
loops=
said=
status=0
export PYSFTP_TEST_HARD=1

# They end when this script ends, for any reason.
busy() {
    for _ in $(seq $((2 * processors))); do
        setpriv --pdeathsig KILL sh -c 'while :; do :; done' &
        loops="$loops $!"
    done
}

idle() {
    # shellcheck disable=SC2086  # process ids
    [ -z "$loops" ] || kill $loops
    loops=
}
trap idle EXIT
trap 'exit 1' INT TERM

try() {
    way=$1
    shift
    echo "===== $way"
    began=$(date +%s)
    if .venv/bin/python tools/run_tests.py "$@"; then
        verdict=passed
    else
        verdict=FAILED
        status=1
    fi
    said="$said$verdict: $way, $(($(date +%s) - began)) s
"
}

for run in $(seq "$runs"); do
    try "alone, run $run" --jobs "$processors"
    busy
    try "with two busy loops on each processor, run $run" --jobs "$jobs"
    idle
    try "four processes at once, run $run" --jobs 4
    try "in random order, run $run" --jobs "$jobs" --shuffle
done
printf '%s' "$said"
exit $status
