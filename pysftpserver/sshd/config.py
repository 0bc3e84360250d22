"""The settings of pysftpd; pysftpctl and pysftp-keys take the part that they need.

What may not enter: SSH, and what a setting does. Facts: docs/sshd.md; solt_sftp's names and defaults.
"""

from __future__ import annotations

import os

from pysftpserver.people.settings import PeopleSettings
from pysftpserver.service.settings import (
    BYTES,
    COUNT,
    DIRECTORY,
    FILE,
    FLAG,
    PORT,
    Kind,
    Setting,
    StrangerSettings,
    networks,
    one_of,
    optional,
    seconds,
    text,
    texts,
    whole,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


def processes(most: int) -> Kind[int]:
    """A number of processes; auto is the number of processors that this one may use."""
    number = whole(1, most)

    def parse(value: str) -> int:
        if value.lower() == "auto":
            return min(most, len(os.sched_getaffinity(0)))
        try:
            return number.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return Kind(parse, number.metavar, (int, str))


# fmt: off
class ServerSettings(PeopleSettings, StrangerSettings):
    """The settings of pysftpd."""

    INSTEAD_OF_ROOT = "make an account with: useradd --system pysftpd, and add --account pysftpd"

    port = Setting(
        PORT, 2200, "Listen on this port; 0 is any free one, which the log names.", aliases=("sftp_port",)
    )
    auth_methods = PeopleSettings.auth_methods.reloading()
    lookup_command = PeopleSettings.lookup_command.reloading()
    lookup_url = PeopleSettings.lookup_url.reloading()
    lookup_token_file = PeopleSettings.lookup_token_file.reloading()
    lookup_seconds = PeopleSettings.lookup_seconds.reloading()
    lookup_cache = PeopleSettings.lookup_cache.reloading()
    lookup_most = PeopleSettings.lookup_most.reloading()
    audit_level = Setting(
        one_of("files", "operations", "all", metavar="LEVEL"), "operations",
        "Record operations, with the bytes that were moved at the close of each file; files, without "
        "look-ups, such as STAT, that are not refused; or all, which has a record of each READ and WRITE as "
        "well and makes transfers slower.",
    )
    audit_digests = Setting(
        FLAG, False, "Record the SHA-256 of every file that is stored or fetched, at its close."
    )
    trusted_user_ca_keys = Setting(
        optional(FILE), None,
        "Let users log in with OpenSSH certificates of the CAs whose public keys are in this file, one on "
        "each line.", reloads=True,
    )
    revoked_keys = Setting(
        optional(FILE), None,
        "Refuse the keys, certificates and CAs in this file: an OpenSSH KRL, or public keys and fingerprints "
        "(SHA256:...), one on each line. While it cannot be read, no key lets anybody in.", reloads=True,
    )
    host_key = Setting(
        optional(FILE), None,
        "Use the private host key in this file instead of those in the host key directory.",
    )
    host_key_dir = Setting(
        optional(DIRECTORY), None, "Directory of the host keys, which are generated at the first start.",
        unset="host-keys",
    )
    banner = Setting(
        optional(FILE), None, "Show the text in this file to clients before they log in.", reloads=True
    )
    listen_address = Setting(
        optional(texts("ADDRESS", ",")), None,
        "Listen on these addresses, separated by commas; none is all of IPv4 and IPv6.",
        unset="all addresses",
    )
    workers = Setting(
        processes(256), 1,
        "Number of processes that serve; they share the port. auto means one for each processor.",
    )
    isolation = Setting(
        one_of("process", "thread"), "process",
        "Serve each session in a process of its own, sandboxed (process), or all sessions in one process, in "
        "threads (thread). Users of GridFS, fsspec or an object store are always served in threads.",
    )
    account = Setting(
        optional(text("ACCOUNT")), None,
        "Account of the host that the server becomes when root starts it, before it reads keys or listens.",
        unset="the one that starts it",
    )
    run_as = Setting(
        optional(text("ACCOUNT")), None,
        "Account of the host that sessions with a process run as, unless their users have one of their own "
        "(run_as); it needs account, and isolation = process.",
        unset="the server's own",
    )
    run_as_accounts = Setting(
        optional(texts("ACCOUNTS", ",")), None,
        "Accounts of the host that users may have, and @groups whose members they may be, separated by "
        "commas.",
    )
    max_sessions = Setting(
        COUNT, 1000,
        "Maximum number of sessions that are processes, idle ones included; one user may have half of them.",
    )
    session_files = Setting(
        whole(64, 1_000_000), 1024, "Maximum number of descriptors of one session's process.", reloads=True
    )
    session_memory = Setting(
        whole(16, 1_000_000, "MIB"), 128,
        "Maximum memory of one session's process (MiB), beyond what it begins with.", reloads=True,
    )
    session_seconds = Setting(
        whole(1, 1_000_000, "SECONDS"), 60,
        "End a session's process that spends more processor time than this on one request.", reloads=True,
    )
    session_idle = Setting(
        optional(whole(1, 1_000_000, "SECONDS")), 30,
        "End the process of a session in a folder that has had nothing to do and nothing open for this many "
        "seconds; the next request starts another one. none means never.",
        reloads=True,
    )
    max_per_user = Setting(
        optional(COUNT), 100, "Maximum number of connections of one user; none means no limit.", reloads=True
    )
    max_handles = Setting(
        COUNT, 1024,
        "Maximum number of files and directories that one user has open in all sessions.",
        reloads=True,
    )
    max_checksums = Setting(
        optional(whole(0, 1_000_000)), None,
        "Maximum number of files of which checksums are computed at once; other requests for checksums wait. "
        "One user may have half of them. With 0, there are no checksums.",
        unset="the number of processors, and at least 2",
    )
    auth_tries = Setting(
        whole(1, 1000), 6,
        "Maximum number of attempts to log in on one connection: keys, passwords, other requests.",
        reloads=True,
    )
    login_bytes = Setting(
        BYTES, 1 << 20, "Maximum number of bytes that a client may send before it has logged in.",
        reloads=True,
    )
    buffer_bytes = Setting(
        whole(1 << 20, 1 << 62, "BYTES"), 512 << 20,
        "Maximum number of bytes that are kept for all clients: received and not served, or not sent yet. "
        "One user may have three eighths. At more, the user with the most loses a connection.",
        reloads=True,
    )
    window = Setting(
        whole(128 << 10, 1 << 30, "BYTES"), 32 << 20,
        "Maximum number of bytes that a client may send ahead in one session; no more is kept for it. A "
        "window begins with 2 MiB, and grows where a client fills it and buffer_bytes allows that.",
        reloads=True,
    )
    rekey_timeout = Setting(
        seconds(), 120.0,
        "Close a connection if a key exchange after the login takes longer than this many seconds.",
        reloads=True,
    )
    proxy_from = Setting(
        optional(networks()), None,
        "Networks of load balancers, separated by commas: connections from these have to begin with a PROXY "
        "header (version 1 or 2), whose address counts as the client's.", reloads=True,
    )
    allow_setid = Setting(
        FLAG, False, "Keep the set-uid and set-gid bits of permissions that clients send.", reloads=True
    )
    atomic_uploads = Setting(
        FLAG, False,
        "Receive each upload to a folder in a temporary file, and rename it into place when it is closed.",
    )
    durable = Setting(
        FLAG, False,
        "Reply to a request that changes something in a folder only when the change is on the disk.",
    )
    read_only = Setting(FLAG, False, "Refuse requests that would change anything.", reloads=True)
    pid_file = Setting(optional(FILE), None, "Write the process number to this file.")
    ciphers = Setting(
        optional(texts("NAMES", ",")), None,
        "Encryption algorithms, separated by commas, the preferred one first.",
        unset="a choice of strong ones, the fastest on this processor first",
    )
    macs = Setting(
        optional(texts("NAMES", ",")), None,
        "Integrity algorithms, separated by commas, the preferred one first.",
        unset="a choice of strong ones",
    )
    kex = Setting(
        optional(texts("NAMES", ",")), None,
        "Key exchange algorithms, separated by commas, the preferred one first.",
        unset="a choice of strong ones",
    )
    admin_socket = Setting(optional(FILE), None, "Local socket on which the server answers pysftpctl.")
    web_socket = Setting(
        optional(FILE), None,
        "Local socket of pysftpweb, its link_socket: `ssh HOST web` then prints a link that opens the user's "
        "session in a browser.", reloads=True,
    )
    metrics = Setting(
        optional(PORT), None, "Serve metrics for Prometheus, and /health, on this port of 127.0.0.1."
    )
    metrics_users = Setting(
        whole(0, 10_000), 0,
        "Number of users for whom each process has metrics by name: those who log in first. The others are "
        "counted together.",
    )

    web = Setting(
        optional(text("ADDRESS:PORT")), None,
        "Serve the same users in a browser on this address, and the operators' page: run pysftpweb as well.",
    )
    web_url = Setting(
        optional(text("URL")), None,
        "With web, where people reach it: the URL of a proxy on this host that serves HTTPS.",
        unset="the address of web",
    )

    @property
    def counts_requests(self) -> bool:
        """Whether requests are counted, for metrics or for the operators' page."""
        return self.metrics is not None or self.web is not None

    @property
    def checksums(self) -> int:
        """Maximum number of files of which checksums are computed at once."""
        if self.max_checksums is not None:
            return self.max_checksums
        return max(2, len(os.sched_getaffinity(0)))

# fmt: on


class KeysSettings(ServerSettings):
    """The same for pysftp-keys: sshd starts it in a directory that has no file of users."""

    users = Setting(
        optional(FILE), None, "Read the users from this TOML file instead of Redis.", unset="Redis"
    )
