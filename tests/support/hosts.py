"""A throw-away host: a copy of this one's files in memory, in which root may make accounts and run sshd.

It is an overlay in its own namespaces: nothing done there remains, and its processes end with it. Facts:
unshare(1), mount(8), Linux's documentation on overlayfs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

BIN = "/opt/pysftpserver/bin"  # where pages expect the program
ENTER = """\
mount -t tmpfs none "$1"
mkdir "$1/new" "$1/work" "$1/host"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/new,workdir=$1/work" "$1/host"
mount -t proc proc "$1/host/proc"
mount --rbind /dev "$1/host/dev"
mount -t tmpfs none "$1/host/run"
mkdir "$1/host/run/sshd"
exec chroot "$1/host" /bin/bash -eu -c "$2"
"""
SSHD = """\
ssh-keygen -A >&2
listens() {{ grep -c "^Server listening" /tmp/sshd.log || true; }}
until_it_listens_again() {{
    for try in $(seq {tries}); do
        [ "$(listens)" -gt "$1" ] && return
        sleep 0.05
    done
    cat /tmp/sshd.log >&2
    return 1
}}
start_sshd() {{
    touch /tmp/sshd.log
    before=$(listens)
    /usr/sbin/sshd -p {port} -o ListenAddress=127.0.0.1 -o PidFile=/run/sshd.pid -E /tmp/sshd.log
    until_it_listens_again "$before"
}}
systemctl() {{
    [ "$*" = "reload ssh" ] || return
    before=$(listens)
    kill -HUP "$(cat /run/sshd.pid)" && until_it_listens_again "$before"
}}
"""

CLIENT = """\
client() {
    key=$1 account=$2
    sftp -q -b - -P {port} -i "$key" -o IdentitiesOnly=yes -o IdentityAgent=none \\
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "$account@127.0.0.1"
}
"""


def run(script: str, port: int, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a bash script as root of a throw-away host, in its /tmp, with the commands of this project in BIN.

    The script has the functions start_sshd, systemctl (which reloads sshd) and client KEY ACCOUNT (sftp with
    its batch on standard input). Raises unittest.SkipTest if this host cannot make another.
    """
    if os.geteuid() or shutil.which("unshare") is None:
        raise unittest.SkipTest("root and unshare(1) are needed, to make accounts on a copy of this host")
    functions = SSHD.format(port=port, tries=int(20 * PATIENCE)) + CLIENT.replace("{port}", str(port))
    place = tempfile.mkdtemp(prefix="pysftpserver-host-")
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    try:
        argv = [*enter, "sh", "-eu", "-c", ENTER, "sh", place]
        tried = subprocess.run([*argv, "true"], capture_output=True, text=True, timeout=seconds)
        if tried.returncode:
            raise unittest.SkipTest(f"no overlay of this host can be made: {tried.stderr.strip()}")
        return subprocess.run(
            [
                *argv,
                "\n".join((_installation(), functions, "cd /tmp", script)),
            ],
            capture_output=True,
            text=True,
            timeout=seconds,
            env={"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
        )
    finally:
        os.rmdir(place)


def _installation() -> str:
    """The script that installs the commands in BIN, where every account may run them."""
    lines = [f"mkdir -p {BIN}"]
    for path in (os.path.realpath(sys.executable), os.path.realpath(os.__file__), str(ROOT / "bin")):
        for above in Path(path).parents:
            lines.append(f"chmod a+x {shlex.quote(str(above))}")
    for program in sorted((ROOT / "bin").iterdir()):
        copy = shlex.quote(f"{BIN}/{program.name}")
        lines.append(f"{{ echo '#!{sys.executable}'; tail -n +2 {shlex.quote(str(program))}; }} > {copy}")
    return "\n".join((*dict.fromkeys(lines), f"chmod 755 {BIN}/*"))
