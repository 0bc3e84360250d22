#!/bin/sh
# Installs Azurite, an imitation of Azure's store, for `make test-hard`: tools/azurite.sh
#
# It comes from npm, into .venv-azurite, with a version that was tried. Where npm or its registry is missing, it
# says so and goes on: the tests that need it are skipped.
set -eu
cd "$(dirname "$0")/.."
wanted=azurite@3.37.0

[ "$(cat .venv-azurite/.done 2> /dev/null)" != "$wanted" ] || exit 0
if ! command -v npm > /dev/null; then
    echo "npm is missing: the tests on Azurite are skipped (apt-get install npm)" >&2
    exit 0
fi
echo "Installing $wanted into .venv-azurite"
# Its scripts are for native parts that it can do without.
if npm install --silent --no-fund --no-audit --ignore-scripts --prefix .venv-azurite "$wanted" < /dev/null; then
    echo "$wanted" > .venv-azurite/.done
else
    echo "npm could not install $wanted: the tests on Azurite are skipped" >&2
fi
