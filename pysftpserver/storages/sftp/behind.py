"""A storage's connection to the server behind: opens, reopens, uses and ends it; and what that server can do.

What may not enter: paths of clients, the requests of each method of the storage.
Facts: draft-ietf-secsh-filexfer-02, section 4; OpenSSH's PROTOCOL, section 4.
"""

from __future__ import annotations

import errno
import os

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.engine import wire
from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPFailure,
    SFTPSessionEnd,
    SFTPUnavailable,
    SFTPUnsupported,
)
from pysftpserver.storages.sftp import replies
from pysftpserver.storages.sftp.address import TIMEOUT, Address
from pysftpserver.storages.sftp.connection import GONE, OVER, Connection, ConnectionLost
from pysftpserver.storages.sftp.process import SSH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from pysftpserver.storages.sftp.connection import Buffer
    from pysftpserver.storages.sftp.handles import File
    from pysftpserver.storages.sftp.starter import Starter

    T = TypeVar("T")

WINDOW = 8 << 20  # bytes of READs and WRITEs in flight
CONNECTING = 30.0  # seconds for the connection, the login and the first replies
HURRY = 5.0  # seconds, the same for one of several storages
USUAL_READ = 32768  # bytes that every server takes in a READ or WRITE (the draft, section 3)
LEAST_READ = 4096  # bytes: a server that takes less would get very many requests in place of one
SLOW = 10  # times the timeout: fsync, copies and checksums
#: Extensions of the server behind, and the methods that need them, as in the engine's table.
NEEDED = {
    b"posix-rename@openssh.com": "rename(replace)",
    b"statvfs@openssh.com": "statvfs",
    b"fstatvfs@openssh.com": "fstatvfs",
    b"hardlink@openssh.com": "link",
    b"fsync@openssh.com": "fsync",
    b"lsetstat@openssh.com": "lsetstat",
    b"users-groups-by-id@openssh.com": "username",
}


class ServerBehind(SFTPAbstractServerStorage):
    """The part of a storage that is its connection. The arguments are SFTPServerProxyStorage's."""

    home = b"/"
    window = WINDOW

    #: Whether it connects when it is needed, and again once the connection is lost: for one of several
    #: storages. Also in a sandbox; open files stay lost.
    keeps_trying = False

    def __init__(
        self,
        remote: str,
        key: str | None = None,
        port: int | None = None,
        ssh_config_path: str | None = None,
        ssh_agent: bool = False,
        known_hosts_path: str | None = None,
        *,
        check_host_key: bool = True,
        root: bytes | None = None,
        password: str | None = None,
        password_file: str | None = None,
        timeout: float = TIMEOUT,
        ends_session: bool = False,
        program: str = "ssh",
    ) -> None:
        self.address = Address(
            remote, key, port, ssh_config_path, ssh_agent, known_hosts_path, check_host_key
        )
        if password_file is not None:
            from pysftpserver.host.wholefiles import first_line

            password = first_line(password_file, "password file", keep_spaces=True)
        self._password = self.address.password if password is None else password
        self.address.password = None
        self.timeout = timeout
        self.ends_session = ends_session
        self.extensions: dict[bytes, bytes] = {}
        self.lacks: frozenset[str] = frozenset()
        self._root = b"" if root is None else root.rstrip(b"/")
        self._program = program
        self._ssh: SSH | None = None
        self._starter: Starter | None = None
        self._open: Connection | None = None
        self._most_read = self._most_write = USUAL_READ
        self._users: dict[int, bytes | None] = {}
        self._groups: dict[int, bytes | None] = {}

    @property
    def label(self) -> str:
        """How messages to the operator name the storage."""
        return f"{self.address}{os.fsdecode(self._root)}"

    # --- the connection -----------------------------------------------------------------------------

    def connect(self, patience: float = CONNECTING) -> None:
        """Start ssh, log in, and ask what the server can do.

        patience: seconds. Raises SFTPUnavailable with a message for the operator. May be called again once
        the connection is lost; open files stay lost.
        """
        self._hang_up()
        try:
            if self._starter is None:
                self._ssh = ssh = SSH(self._command(patience), self._password)
            else:
                self._ssh = ssh = self._starter.start()
        except OSError as error:
            raise SFTPUnavailable(f"{self._program} cannot be started: {reason_of(error)}") from None
        self.use(Connection(ssh.reading, ssh.writing, patience, ssh.errors, ssh.listen, ssh.words))
        ssh.forget_password()

    def _command(self, patience: float) -> list[str]:
        return self.address.ssh_command(self._program, self._password is not None, max(1, int(patience)))

    def use(self, connection: Connection) -> None:
        """Say hello on a connection, and serve it from now on. Raises SFTPUnavailable, and closes it."""
        self._open = connection
        try:
            self._begin(connection)
        except (SFTPException, replies.BadReply) as error:
            words = str(error) if connection.lost is None else connection.reason
            self._hang_up()
            raise SFTPUnavailable(words) from None
        connection.timeout = self.timeout
        self.uses_network = False  # ssh does, and it runs

    def _begin(self, connection: Connection) -> None:
        version, self.extensions = replies.extensions_in(connection.hello())
        if version != wire.SFTP_VERSION:
            raise replies.BadReply(f"it speaks version {version} of SFTP")
        self.lacks = frozenset(method for name, method in NEEDED.items() if name not in self.extensions)
        limits = None
        if b"limits@openssh.com" in self.extensions:
            limits = connection.send(wire.SSH2_FXP_EXTENDED, wire.encode_string(b"limits@openssh.com"))
        start = connection.send(wire.SSH2_FXP_REALPATH, wire.encode_string(self._root or b"."))
        if limits is not None:
            _, read, write, _ = connection.decoded(limits, replies.limits_in)
            self._most_read = min(max(read or USUAL_READ, LEAST_READ), wire.MAX_DATA)
            self._most_write = min(max(write or USUAL_READ, LEAST_READ), wire.MAX_DATA)
        path = connection.decoded(start, replies.path_in)
        if self._root:
            self._root = path.rstrip(b"/")
            attrs = connection.decoded(
                connection.send(wire.SSH2_FXP_STAT, wire.encode_string(path + b"/.")), replies.attributes_in
            )
            if not (attrs.permissions or 0o040000) & 0o040000:
                raise SFTPFailure(f"{os.fsdecode(path)}: not a directory")
        else:
            self.home = path

    def territory(self) -> Sequence[int]:
        """No files of this host. Start the process that can connect again, if that may be needed."""
        if self.keeps_trying and self._starter is None:
            from pysftpserver.storages.sftp.starter import Starter

            self._starter = Starter(self._command(HURRY), self._password)
            self.uses_network = False
        return ()

    def release(self) -> None:
        self.close_client()

    def close_client(self) -> None:
        """End the connection, for good. May be called again."""
        self._hang_up()
        if self._starter is not None:
            self._starter.close()

    def _hang_up(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._ssh is not None:
            self._ssh.end()
            self._ssh = None

    @property
    def _connection(self) -> Connection:
        """The connection. Raises SFTPUnavailable if there is none, SFTPSessionEnd once it was lost."""
        connection = self._open
        is_lost = connection is None or connection.lost is not None and connection.reason != OVER
        if is_lost and self.keeps_trying:
            try:
                self.connect(HURRY)
            except SFTPUnavailable as error:  # whose words are the operator's
                raise ConnectionLost(GONE) from OSError(errno.ENOTCONN, str(error))
            connection = self._open
        if connection is None:
            raise SFTPUnavailable("The server behind is not connected")
        if connection.lost is None or connection.reason == OVER:
            return connection
        if self._ssh is not None:
            self._ssh.end()  # its descriptors and its process are useless now
            self._ssh = None
        if self.ends_session:
            raise SFTPSessionEnd(f"{self.label}: {connection.reason}")
        return connection

    def _ask(self, decode: Callable[[bytearray], T], kind: int, *fields: Buffer, slowly: bool = False) -> T:
        """Send a request, wait, and return its decoded reply. slowly: it may take very long."""
        connection = self._connection
        if not slowly:
            return connection.decoded(connection.send(kind, *fields), decode)
        connection.timeout = SLOW * self.timeout
        try:
            return connection.decoded(connection.send(kind, *fields), decode)
        finally:
            connection.timeout = self.timeout

    def _extended(
        self, name: bytes, decode: Callable[[bytearray], T], *fields: Buffer, slowly: bool = False
    ) -> T:
        """The same for an extension. Raises SFTPUnsupported if the server behind does not have it."""
        if name not in self.extensions:
            raise SFTPUnsupported
        return self._ask(decode, wire.SSH2_FXP_EXTENDED, wire.encode_string(name), *fields, slowly=slowly)

    def _name(self, handle: File) -> bytes:
        """The handle of an open file, encoded. Raises ConnectionLost if it was another connection's."""
        connection = handle.connection
        if connection is not self._open or self.keeps_trying and connection.lost is not None:
            raise ConnectionLost(GONE)
        return handle.name
