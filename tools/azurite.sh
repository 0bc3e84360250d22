#!/bin/sh
# Installs Azurite, an imitation of Azure's store, for `make test-hard`: tools/azurite.sh
#
# It is installed from npm into .venv-azurite, in a tested version. If npm or its registry is not available, it
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
# Its scripts build native parts, which are not needed.
if npm install --silent --no-fund --no-audit --ignore-scripts --prefix .venv-azurite "$wanted" < /dev/null; then
    echo "$wanted" > .venv-azurite/.done
else
    echo "npm could not install $wanted: the tests on Azurite are skipped" >&2
fi
