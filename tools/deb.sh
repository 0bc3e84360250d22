#!/bin/sh
# Builds the Debian package from the distributions in dist/ and checks it with lintian: tools/deb.sh [DIRECTORY [VERSION]]
#
# The package goes into dist/, or into that directory, which then has to contain the distributions too. VERSION is the
# package's; by default it is made from the distributions' (2.0.0rc1 is 2.0.0~rc1-1, so that 2.0.0-1 is an upgrade).
# Its maintainer is the person who builds it: $DEBFULLNAME and $DEBEMAIL.
set -eu
umask 022
cd "$(dirname "$0")/.."
into=$(cd "${1:-dist}" && pwd)

upstream=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' pysftpserver/__init__.py)
debian=$(echo "$upstream" | sed -E 's/\.?(dev|rc|a|b)([0-9])/~\1\2/; s/\.post/+post/')
version=${2:-$debian-1}
archive=$into/pysftpserver-$upstream.tar.gz
wheel=$into/pysftpserver-$upstream-py3-none-any.whl
for file in "$archive" "$wheel"; do
    if [ ! -e "$file" ]; then
        echo "tools/deb.sh: $file: no such file; run \"make dist\" first" >&2
        exit 2
    fi
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y pysftpserver/__init__.py)}
[ ! -e .git ] || SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
maintainer="${DEBFULLNAME:-pysftpserver contributors} <${DEBEMAIL:-root@$(hostname -f 2> /dev/null || hostname)}>"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
tree=$work/pysftpserver-$upstream
tar -xzf "$archive" -C "$work" --no-same-owner
mkdir "$tree/wheel"
cp "$wheel" "$tree/wheel"
cp -r "$tree/packaging/debian" "$tree/debian"
sed -i "s|@MAINTAINER@|$maintainer|" "$tree/debian/control"
cat > "$tree/debian/changelog" << END
pysftpserver ($version) unstable; urgency=medium

  * Version $upstream. What changed is in
    /usr/share/doc/pysftpserver/changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

if ! (cd "$tree" && dpkg-buildpackage -b -us -uc) > "$work/log" 2>&1 < /dev/null; then
    cat "$work/log" >&2
    exit 1
fi
mv "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo "$into"
changes=$(echo "$into/pysftpserver_${version}"_*.changes)
# lintian warns when it runs as root, which it does not need. Without $DEBEMAIL, the address is at this host, which may
# have no full name.
address=root-in-contact,bogus-mail-host,bogus-mail-host-in-debian-changelog
[ -z "${DEBEMAIL:-}" ] || address=
lintian --fail-on error,warning --allow-root ${address:+--suppress-tags "$address"} "$changes"
echo "$into/pysftpserver_${version}_all.deb"
