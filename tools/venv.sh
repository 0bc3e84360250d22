#!/bin/sh
# Makes .venv and installs the project there, editable: tools/venv.sh [--latest | --for PYTHON] [EXTRA[,EXTRA...]]
#
# Dependencies have the versions in tools/constraints.txt. With --latest, the newest ones that pyproject.toml
# allows are installed, into .venv-latest. With --for, the environment is for that interpreter: .venv- and its
# name.
# Does nothing if it was done before and the inputs are unchanged: the packaging files, the constraints, the
# commands in bin/ (an install copies them), the interpreter, and the directory itself, whose path is written
# into every script of a virtual environment. With --latest, it looks for newer versions each time.
# $PYTHON is the interpreter to use; without it, the first in $PATH that is 3.11 or newer.
set -eu
cd "$(dirname "$0")/.."
environment=.venv
how='--constraint tools/constraints.txt'
if [ "${1:-}" = --latest ]; then
    environment=.venv-latest
    how='--upgrade --upgrade-strategy eager'
    shift
fi
if [ "${1:-}" = --for ]; then
    PYTHON=$2
    environment=.venv-$(basename "$2")
    shift 2
fi
extra=${1:-}

suitable() {
    command -v "$1" > /dev/null &&
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null < /dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if suitable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed: none of ${PYTHON:-python3, python3.11 ...} is it" >&2
    return 1
}

python=$(find_python)
key=$({ pwd -P; "$python" -VV; sha256sum pyproject.toml setup.py tools/constraints.txt bin/*; } < /dev/null | sha256sum)

done_for() {
    [ "$(cat "$environment/.done-$1" 2> /dev/null)" = "$key" ] && "$environment/bin/python" -c '' 2> /dev/null
}

# An environment with an extra also serves for none, and the one for the tests includes a database.
case $extra in
    '') enough="test mongo,embedded sshd web laboratory" ;;
    mongo,embedded | sshd | web | laboratory) enough=test ;;
    *) enough= ;;
esac
for one in "$extra" $enough; do
    if [ "$environment" != .venv-latest ] && done_for "$one"; then
        exit 0
    fi
done

if ! cat "$environment"/.done-* 2> /dev/null | grep -qxF "$key"; then
    echo "Making the virtual environment $environment"
    # On Debian, venv needs a separate package.
    "$python" -c 'import ensurepip, venv' 2> /dev/null < /dev/null || tools/debian.sh venv
    "$python" -m venv --clear "$environment" < /dev/null
fi

# The tests need a hundred packages. An old pip reads the long indexes of some at half the speed; compiling all
# takes half a minute, and Python compiles the fifth that is imported on import.
if [ "$extra" = test ]; then
    how="$how --no-compile"
    "$environment/bin/python" -m pip -qq --disable-pip-version-check --no-input install --no-compile 'pip>=25' \
        < /dev/null || true
fi

echo "Installing the project${extra:+ and what '$extra' needs} into $environment"
# shellcheck disable=SC2086  # $how is several words
"$environment/bin/python" -m pip -qq --disable-pip-version-check --no-input install $how \
    --editable ".${extra:+[$extra]}" < /dev/null
echo "$key" > "$environment/.done-$extra"
