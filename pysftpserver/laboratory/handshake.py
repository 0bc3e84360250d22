"""The login: one table for both sides, and the state machine of each, without I/O.

What may not enter: sockets, clocks, the comparison of passwords, what follows once a client is accepted.
Facts: docs/laboratory.md, "The login".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from pysftpserver.laboratory import wire
from pysftpserver.laboratory.wire import Codec, Malformed


class Step(enum.Enum):
    """What each side waits for from the other."""

    KEY = "key"
    PASSWORD = "password"
    NAME = "name"
    ACCEPTED = "accepted"


#: For each step: what the server sends at its beginning, and the step after the client's answer.
STEPS: Mapping[Step, tuple[str | None, Step | None]] = {
    Step.KEY: (None, Step.PASSWORD),  # the server's RSA key, which is not a message
    Step.PASSWORD: (wire.PASSWORD_WANTED, Step.NAME),
    Step.NAME: (wire.NAME_WANTED, Step.ACCEPTED),
    Step.ACCEPTED: (wire.ACCEPTED, None),
}


class ServerHandshake:
    """The server's side. The caller checks the client's answers, and calls next() after a good one."""

    def __init__(self) -> None:
        self.step = Step.KEY
        self._raw = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """In step KEY: (the encrypted key, the bytes after it) once the key is complete, else None."""
        assert self.step is Step.KEY
        self._raw += data
        if len(self._raw) < wire.RSA_BYTES:
            return None
        raw = bytes(self._raw)
        self._raw.clear()
        return raw[: wire.RSA_BYTES], raw[wire.RSA_BYTES :]

    @property
    def count(self) -> int:
        """Number of bytes received of an incomplete key."""
        return len(self._raw)

    def next(self) -> str:
        """Go to the next step; return what to send."""
        following = STEPS[self.step][1]
        assert following is not None
        self.step = following
        said = STEPS[following][0]
        assert said is not None
        return said


class ClientHandshake:
    """The client's side, from the server's first byte to ACCEPTED.

    answers: for the steps PASSWORD and NAME. key: the symmetric key. most: maximum size of a message in
    bytes.
    """

    def __init__(self, password: str, name: str, key: str, most: int) -> None:
        self._answers = {Step.PASSWORD: password, Step.NAME: name}
        self._key = key
        self._most = most
        self._raw = bytearray()
        self._trailing = False
        self.step = Step.KEY
        self.codec: Codec | None = None
        #: Whether the client has been accepted.
        self.is_done = False
        #: The server's reason for refusing this client, or None.
        self.refusal: str | None = None
        #: Messages that arrived together with ACCEPTED.
        self.texts: list[str] = []

    def feed(self, data: bytes) -> bytes:
        """Handle received bytes; return what to send. Raises Malformed."""
        if self.step is Step.KEY:
            self._raw += data
            return self._on_key()
        if self._trailing:  # the line end of the key, if it arrived by itself
            data = data.lstrip(b"\r\n")
            self._trailing = not data
        return self._on_messages(data)

    def _on_key(self) -> bytes:
        begun = bytes(self._raw[: len(wire.PEM_BEGIN)])
        if not wire.PEM_BEGIN.startswith(begun):
            # A server that admits no clients now sends its reason in place of its key.
            if b"\0" in self._raw:
                self.refusal = refusal(self._raw.partition(b"\0")[0].decode("utf-8", "replace"))
            if self.refusal is None and not wire.REFUSED_BEGIN.startswith(begun[: len(wire.REFUSED_BEGIN)]):
                raise Malformed("not an RSA key")
        if len(self._raw) > wire.MOST_PEM:
            raise Malformed("an RSA key without an end")
        head, end, rest = self._raw.partition(wire.PEM_END)
        if not end or self.refusal is not None:
            return b""
        answer = wire.encrypted_key(bytes(head + end) + b"\n", self._key)
        self.step = Step.PASSWORD
        self.codec = wire.codec(self._key, self._most)
        rest = rest.lstrip(b"\r\n")
        self._trailing = not rest
        return answer + self._on_messages(bytes(rest))

    def _on_messages(self, data: bytes) -> bytes:
        assert self.codec is not None
        texts = self.codec.feed(data)
        answers: list[str] = []
        for number, text in enumerate(texts):
            if text != STEPS[self.step][0]:
                self.refusal = refusal(text)
                if self.refusal is None:
                    raise Malformed(f"not {STEPS[self.step][0]!r}")
                break
            if self.step is Step.ACCEPTED:
                self.is_done = True
                self.texts = texts[number + 1 :]
                break
            answers.append(self._answers[self.step])
            following = STEPS[self.step][1]
            assert following is not None
            self.step = following
        if self.codec.failure is not None and self.refusal is None and not self.is_done:
            raise Malformed(self.codec.failure)
        return self.codec.encode(answers) if answers else b""


def refusal(text: str) -> str | None:
    """The server's reason if a message refuses the client, else None."""
    if text == wire.STOP:
        return "the server is going down"
    beginning = wire.refused(wire.Word.CONNECTION, "")
    return text.removeprefix(beginning) if text.startswith(beginning) else None
