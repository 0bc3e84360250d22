#!/bin/sh
# Installs axe-core, with which the tests of the pages check accessibility: tools/axe.sh
#
# It is downloaded from npm, and one file of it goes into .venv-axe. The package must be bit for bit the tested one.
# If npm is missing, it says so and goes on: the checks that need it are skipped.
set -eu
cd "$(dirname "$0")/.."
wanted=4.14.1
sha512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

[ "$(cat .venv-axe/.done 2> /dev/null)" != "$wanted" ] || exit 0
if ! command -v npm > /dev/null; then
    echo "npm is missing: the checks of accessibility are skipped (apt-get install npm)" >&2
    exit 0
fi
echo "Installing axe-core $wanted into .venv-axe"
mkdir -p .venv-axe
npm pack --silent --pack-destination .venv-axe "axe-core@$wanted" < /dev/null > /dev/null
package=.venv-axe/axe-core-$wanted.tgz
echo "$sha512  $package" | sha512sum --check --quiet
tar -xzf "$package" -C .venv-axe --strip-components=1 package/axe.min.js
rm "$package"
echo "$wanted" > .venv-axe/.done
