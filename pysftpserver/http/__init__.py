"""What doors over HTTP share: the web server, and whole files of a storage."""

MOST_LOGIN = 16384  # bytes of the body of a login
#: In an environ: a function that tells whether the peer has hung up. This package's server sets it.
IS_GONE = "pysftpserver.is_gone"


class ProtocolError(Exception):
    """The peer, or an attacker, broke the protocol. The text is for people, and has no secrets."""
