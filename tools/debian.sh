#!/bin/sh
# Installs the Debian packages that a task needs and that are missing: tools/debian.sh WORD
#
# WORD is a first word in tools/debian-packages.txt. No daemon is left running or enabled: the tests run their
# own sshd. On a system that is not based on Debian, it says what is needed and goes on.
set -eu
cd "$(dirname "$0")/.."

packages=$(awk -v word="$1" '$1 == word { print $2 }' tools/debian-packages.txt)
# The list is split into words wherever it is used: package names contain no spaces.
if [ -z "$packages" ]; then
    echo "tools/debian.sh: no such word in tools/debian-packages.txt: $1" >&2
    exit 2
fi

if ! command -v dpkg-query > /dev/null; then
    echo "Not a Debian system: what these packages hold is taken to be there:" $packages >&2
    exit 0
fi

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    root() { "$@"; }
elif command -v sudo > /dev/null && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
    root() { sudo "$@"; }
else
    echo "Missing Debian packages; as root: apt-get install$missing" >&2
    exit 1
fi

echo "Installing Debian packages:$missing"

policy=/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then
    policy=
else
    printf '#!/bin/sh\nexit 101\n' | root tee "$policy" > /dev/null
    trap 'root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    root chmod 755 "$policy"
fi

install_missing() {
    # env, because sudo drops the environment.
    root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install $missing \
        < /dev/null > "$log" 2>&1
}

log=$(mktemp)
root apt-get -qq update < /dev/null > "$log" 2>&1 || cat "$log" >&2
if ! install_missing; then
    cat "$log" >&2
    rm -f "$log"
    echo "apt-get could not install:$missing" >&2
    exit 1
fi
rm -f "$log"

# Packages installed only for their programs: without this, their daemons would run from the next boot on.
disable() {
    for service in "$@"; do
        if command -v systemctl > /dev/null; then
            root systemctl --quiet disable "$service" > /dev/null 2>&1 || true
        fi
        root update-rc.d "${service%.*}" disable > /dev/null 2>&1 || true
    done
}
for package in $missing; do
    case $package in
        openssh-server) disable ssh.service ;;
        redis-server) disable redis-server.service ;;
        haproxy) disable haproxy.service ;;
        nginx-light) disable nginx.service ;;
        fail2ban) disable fail2ban.service ;;
        clamav-daemon) disable clamav-daemon.service clamav-daemon.socket clamav-freshclam.service ;;
    esac
done
