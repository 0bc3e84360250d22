"""Shared by doors over HTTP: the web server, and whole files of a storage."""

MOST_LOGIN = 16384  # bytes of the body of a login request
#: In an environ: a function that tells whether the peer has hung up. This package's server sets it.
IS_GONE = "pysftpserver.is_gone"
#: In an environ: claim(user) counts the request for a user who was not known when it got its thread. It
#: returns whether that user may have another one now.
CLAIM = "pysftpserver.claim"
#: In an environ: send(view), like PEP 3333's write(), for bytes and for views that change after the call.
SEND = "pysftpserver.send"
#: The same: send_file(descriptor, offset, size) sends from a file of the host by sendfile(2) and returns how
#: many bytes were sent; fewer only at the file's end. It is missing where TLS has to encrypt.
SEND_FILE = "pysftpserver.send_file"


class ReplyBroken(Exception):
    """A reply that has begun cannot be completed: the connection ends, so that the client can tell."""


class ProtocolError(Exception):
    """The peer, or an attacker, broke the protocol. The text is for people, and has no secrets."""
