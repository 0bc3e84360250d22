"""Twisted Conch's SFTP server on a port of loopback: conch_server.py HOST_KEY AUTHORIZED_KEYS

It is what `twistd conch` serves to accounts of the host, with two changes: it does not change its user, and
the home is a FilePath, because SFTPServerForUnixConchUser reads its .path (twisted/twisted#9845: with
UnixConchUser's string, every request about a path fails).
"""

from __future__ import annotations

import os
import sys

from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.unix import UnixConchUser
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.filepath import FilePath


class User(UnixConchUser):
    """The account that this process runs as: no change of user is needed."""

    def getHomeDir(self):
        return FilePath(super().getHomeDir())

    def _runAsUser(self, what, *arguments, **keywords):
        calls = what if hasattr(what, "__iter__") else [(what, arguments, keywords)]
        result = None
        for function, *rest in calls:
            given, named = [*rest, (), {}][:2] if len(rest) != 1 else (rest[0], {})
            result = function(*given, **named)
        return result


class Realm:
    """Gives each login the same user."""

    def requestAvatar(self, name, mind, *interfaces):
        return interfaces[0], User(name.decode()), lambda: None


def main(host_key: str, authorized_keys: str) -> None:
    key = Key.fromFile(host_key)
    with open(authorized_keys, "rb") as lines:
        keys = [Key.fromString(line) for line in lines if line.strip()]
    factory = SSHFactory()
    factory.publicKeys = {key.sshType(): key.public()}
    factory.privateKeys = {key.sshType(): key}
    user = os.environ["USER"].encode()
    factory.portal = Portal(Realm(), [SSHPublicKeyChecker(InMemorySSHKeyDB({user: keys}))])
    listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    listening.addCallback(lambda port: print(f"listening on {port.getHost().port}", flush=True))
    reactor.run()


main(*sys.argv[1:])
