"""md5sum and its like without a shell: an SFTP session answers a command line as coreutils would print it.

The command line is in sshd's SSH_ORIGINAL_COMMAND, or arrives on an exec channel. It can be one of WORDS with
one path, or with none and empty input; or rclone's question about the shell. Quotes work as in a POSIX shell;
anything else that a shell would expand, redirect or run is refused. The path goes to an SFTP session as
check-file-name, so the rules for requests apply to it. What may not enter: I/O, storages.
Facts: POSIX, "Shell Command Language", 2.2; md5sum(1); rclone's backend/sftp/sftp.go.
"""

from __future__ import annotations

import string

from pysftpserver.engine import wire
from pysftpserver.engine.checksums import ALGORITHMS
from pysftpserver.failures import show

#: Possible first words, and the algorithm of each.
WORDS = {(name if name == "crc32" else f"{name}sum").encode(): name for name in ALGORITHMS}
QUESTION = b"echo ${ShellId}%ComSpec%"  # rclone's: which shell is it? PowerShell and cmd.exe know these
ANSWER = b"%ComSpec%\n"  # a POSIX shell's
# Literal bytes outside of quotes, besides bytes beyond ASCII. To bash, ~ after = and : is a directory.
PLAIN = frozenset(f"{string.ascii_letters}{string.digits}/._-,:@+=%^".encode())
ESCAPED = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


class Refused(Exception):
    """The command is one of these, but without exactly one path, or with one that only a shell could make."""


class Output:
    """The output of a command, and its exit status."""

    def __init__(self, out: bytes, errors: bytes = b"", status: int = 0) -> None:
        self.out = out
        self.errors = errors
        self.status = status


class Command:
    """A command that is understood; the base class is rclone's question.

    requests: for an SFTP session, INIT included; empty if none is needed. reads: whether the input is needed.
    """

    requests = b""
    reads = False

    def output(self, data: bytes) -> Output:
        """Its output. data: the replies to the requests, or the input."""
        return Output(ANSWER)


class Sum(Command):
    """md5sum and its like. path: None: the digest of the input is wanted, which has to be empty."""

    def __init__(self, word: bytes, path: bytes | None) -> None:
        self.word = word
        self.path = path
        self.reads = path is None
        self._algorithm = WORDS[word]
        if path is not None:
            self.requests = wire.encode_packet(wire.SSH2_FXP_INIT, wire.SFTP_VERSION, b"")
            strings = (b"check-file-name", path, self._algorithm.encode())
            body = b"".join(map(wire.encode_string, strings)) + bytes(20)  # all of the file, in one block
            self.requests += wire.encode_packet(wire.SSH2_FXP_EXTENDED, 1, body)

    def output(self, data: bytes) -> Output:
        if self.path is None:
            if data:
                return self._failed(b"Input cannot be read here; give a path")
            return Output(line(ALGORITHMS[self._algorithm]().digest(), b"-"))
        return self._meant(data, self.path)

    def _meant(self, replies: bytes, path: bytes) -> Output:
        """The output for the session's replies."""
        try:
            kind, pos, end = _last(replies)
            if kind == wire.SSH2_FXP_EXTENDED_REPLY:
                algorithm, pos = wire.string_at(replies, pos, end)
                if algorithm.decode("latin-1") == self._algorithm:
                    return Output(line(replies[pos:end], path))
            elif kind == wire.SSH2_FXP_STATUS:
                return self._failed(wire.string_at(replies, pos + 4, end)[0])
        except wire.MalformedPacket:
            pass
        return self._failed(b"The session has ended")

    def _failed(self, words: bytes) -> Output:
        name = show(self.path if self.path is not None else b"-").encode()
        return Output(b"", b"%b: %b: %b\n" % (self.word, name, words), 1)


def understood(command: bytes) -> Command | None:
    """The command in a line; None if it is not one of these. Raises Refused."""
    if command == QUESTION:
        return Command()
    try:
        words = split(command)
    except ValueError:
        words = []
    word, *operands = words or command.split(None, 1)[:1] or [b""]
    if word not in WORDS:
        return None
    if not words or len(operands) > 1 or any(not one or one.startswith(b"-") for one in operands):
        raise Refused
    return Sum(word, operands[0] if operands else None)


def split(command: bytes) -> list[bytes]:
    """The words of a simple command. Raises ValueError if a shell would expand, redirect or run something."""
    words: list[bytearray] = []
    is_between = True
    at, end = 0, len(command)
    if b"\0" in command:
        raise ValueError
    while at < end:
        byte = command[at]
        at += 1
        if byte in b" \t":
            is_between = True
            continue
        if is_between:
            words.append(bytearray())
            is_between = False
        if byte in PLAIN or byte > 127 or (byte in b"~" and words[-1] and words[-1][-1] not in b"=:"):
            words[-1].append(byte)
        elif byte in b"'":
            close = command.index(b"'", at)
            words[-1] += command[at:close]
            at = close + 1
        elif byte in b'"':
            at = _double_quoted(command, at, words[-1])
        elif byte in b"\\" and command[at : at + 1] not in (b"", b"\n"):
            words[-1].append(command[at])
            at += 1
        else:
            raise ValueError
    return [bytes(word) for word in words]


def _double_quoted(command: bytes, at: int, word: bytearray) -> int:
    """Add the text in double quotes to a word; return where it ends. at: after the first quote."""
    while (byte := command[at : at + 1]) != b'"':
        if byte in (b"", b"$", b"`"):
            raise ValueError
        if byte == b"\\" and command[at + 1 : at + 2] in (b"$", b"`", b'"', b"\\"):
            at += 1
        elif byte == b"\\" and command[at + 1 : at + 2] == b"\n":
            raise ValueError
        word.append(command[at])
        at += 1
    return at + 1


def line(digest: bytes, name: bytes) -> bytes:
    """A line of md5sum's output: odd names are escaped, and the line says so."""
    escaped = name
    for byte, text in ESCAPED.items():  # the backslash first
        escaped = escaped.replace(byte, text)
    return b"%b%b  %b\n" % (b"\\" if escaped != name else b"", digest.hex().encode(), escaped)


def _last(replies: bytes) -> tuple[int, int, int]:
    """The type of the last packet, and where its body begins and ends. Raises MalformedPacket."""
    start, end = 0, len(replies)
    while True:
        stop = start + wire.PACKET_HEADER + wire.u32_at(replies, start, end)
        if stop > end or stop - start < wire.PACKET_HEADER + wire.REQUEST_HEADER:
            raise wire.MalformedPacket("ends inside a packet")
        if stop == end:
            return replies[start + wire.PACKET_HEADER], start + wire.PACKET_HEADER + wire.REQUEST_HEADER, end
        start = stop
