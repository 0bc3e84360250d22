"""The target for gates: the answers of scanners and programs, and how they are interpreted.

An input is one byte of ways (ASKS_PROGRAM, IS_EARLY, HANGS_UP, and the size of the file), and the bytes of
the answer, which arrive over a pair of sockets. Only an answer that a second, strict reading takes for an
accept may let the file in. What may not enter: atheris, storages.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from unittest import mock

from pysftpserver.site import file, gates
from pysftpserver.site.who import Who

ASKS_PROGRAM, IS_EARLY, HANGS_UP = 1, 2, 4
SIZES = (0, 1, 70_000)  # of the file
TEXT = '[[gate]]\n{} = "/nowhere"\nor = "accept"\nquarantine = "/kept"\ntimeout = 0.001\n'
END = {b"\n": "ask", b"\0": "clamd"}


class PairTalk(gates.Talk):
    """A connection whose other side sends some bytes, at once or when it is asked for its answer."""

    said = b""
    is_early = hangs_up = False

    def __init__(self, path: str, timeout: float) -> None:
        self._timeout = timeout
        self._socket, self.other = socket.socketpair()
        self._socket.setblocking(False)
        self._heed()
        if self.is_early:
            self._say()

    def send(self, data: bytes) -> bool:
        return not self.is_early  # it has read everything

    def _say(self) -> None:
        self.other.sendall(self.said)
        if self.hangs_up:
            self.other.shutdown(socket.SHUT_WR)

    def answer(self, end: bytes) -> bytes:
        self.other.settimeout(1)
        if not self.is_early:
            self._say()
        return super().answer(end)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.other.close()


class GatesTarget:
    """Asks a gate about a file."""

    def __init__(self) -> None:
        self._gates = {
            key: gates.Gates(file.parse(TEXT.format(key), "s.toml"), Who("al")).gates[0]
            for key in END.values()
        }

    def __call__(self, data: bytes) -> None:
        how, said = (data[0], data[1:]) if data else (0, b"")
        end = b"\n" if how & ASKS_PROGRAM else b"\0"
        is_early, size = bool(how & IS_EARLY) and bool(said), SIZES[(how >> 3) % len(SIZES)]

        def pieces() -> Iterator[bytes]:
            if size:
                yield bytes(size)

        candidate = gates.Candidate(b"/x", ("x",), size, pieces, Who("al"))
        kind = type("Talk", (PairTalk,), {"said": said, "is_early": is_early, "hangs_up": how & HANGS_UP})
        with mock.patch.object(gates, "Talk", kind):
            verdict = self._gates[END[end]].verdict(candidate)
        assert verdict.kind in gates.VERDICTS, f"{verdict.kind!r} is no verdict"
        assert verdict.words.isprintable() and len(verdict.words) <= gates.LONGEST_WORDS, (
            "not words for a client"
        )
        expected = _read(said, end, is_early)
        assert verdict.kind == expected, f"{verdict!r}, where a second reading says {expected}"


def _read(said: bytes, end: bytes, is_early: bool) -> str:
    """The verdict in an answer, as the documentation defines it; reject for anything else."""
    line = said.removesuffix(end)
    if line == said or end in line or len(said) > gates.LONGEST_ANSWER:
        return gates.REJECT
    if end == b"\0":
        words = line.decode("latin-1").strip(_SPACE)
        if words == "stream: OK":
            return gates.REJECT if is_early else gates.ACCEPT
        is_found = words.startswith("stream: ") and words.endswith(" FOUND")
        return gates.QUARANTINE if is_found else gates.REJECT
    try:
        pairs = json.loads(line.decode("utf-8", "strict"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return gates.REJECT
    if not isinstance(pairs, _Pairs) or not pairs.is_clear:
        return gates.REJECT
    found = dict(pairs.pairs)
    is_shaped = type(found.get("words", "")) is str and type(found.get("verdict")) is str
    return str(found["verdict"]) if is_shaped and found["verdict"] in gates.VERDICTS else gates.REJECT


_SPACE = " \t\n\r\v\f\x1c\x1d\x1e\x1f"  # in ASCII, as for str.strip()


class _Pairs:
    """A JSON object. is_clear: whether no object in it has a key twice."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs
        names = [name for name, _ in pairs]
        self.is_clear = len(set(names)) == len(names) and all(_is_clear(value) for _, value in pairs)


def _is_clear(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_clear, value))
    return not isinstance(value, _Pairs) or value.is_clear
