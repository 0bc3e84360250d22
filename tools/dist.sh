#!/bin/sh
# Builds the source distribution and, from it, the wheel: tools/dist.sh [DIRECTORY]
#
# They go into dist/, or into that directory. They contain only files that git tracks, as they are now, or all files of
# an unpacked source distribution, which has no git. The same commit gives the same bytes: times come from
# $SOURCE_DATE_EPOCH or the commit, and owners and order are fixed.
# $DIST_PYTHON has the modules build and twine; without it, .venv does.
set -eu
umask 022
cd "$(dirname "$0")/.."
python=${DIST_PYTHON:-$PWD/.venv/bin/python}
into=${1:-dist}
mkdir -p "$into"
into=$(cd "$into" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -e .git ]; then
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    git ls-files -z > "$work/listed"
else
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y PKG-INFO)}
    # Without the files that the build has added.
    find . -type f ! -path './.venv*' ! -path './dist/*' ! -path './build/*' ! -path './*.egg-info/*' \
        ! -path ./PKG-INFO ! -path ./setup.cfg -print0 > "$work/listed"
fi
export SOURCE_DATE_EPOCH

# setuptools would also include leftovers of older builds in the tree: a copy has none.
mkdir "$work/tree" "$work/sdist"
tar -cf - --null --no-recursion --verbatim-files-from -T "$work/listed" | tar -xf - -C "$work/tree" -m
build() {
    "$python" -m build "$@" < /dev/null > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
build --sdist --outdir "$work" "$work/tree"

archive=$(basename "$work"/*.tar.gz)
tar -xzf "$work/$archive" -C "$work/sdist"
tar -cf - -C "$work/sdist" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
    --numeric-owner --mode=go=rX,u+rw,a-s "${archive%.tar.gz}" | gzip -9n > "$into/$archive"

# From the archive, not from the tree: people who unpack it get the same wheel.
rm -rf "$work/sdist" && mkdir "$work/sdist"
tar -xzf "$into/$archive" -C "$work/sdist"
build --wheel --outdir "$into" "$work/sdist/${archive%.tar.gz}"
"$python" -m twine check --strict "$into/$archive" "$into/${archive%.tar.gz}"-*.whl
