"""What gates ask, over real sockets, and what they make of the answers."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterator

from pysftpserver.failures import BadInput
from pysftpserver.site import file, magic
from pysftpserver.site.gates import (
    ACCEPT,
    QUARANTINE,
    REJECT,
    Away,
    Candidate,
    Failed,
    Gates,
    Verdict,
    ask_clamd,
    ask_program,
    clamd_verdict,
    program_verdict,
)
from pysftpserver.site.who import Who
from tests.site.gatekeepers import EVIL, MOST, Handler, clamd, listening, listens
from tests.support.cases import InAPlace
from tests.support.examples import given, settings, st
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE, until

WHO = Who("al", ("partners",), "10.1.2.3", "s1")
LARGE = 8 << 20  # bytes: more than sockets hold


def candidate(content: bytes, path: bytes = b"/in/x.csv", said: int | None = None) -> Candidate:
    """A file. said: its size as the storage says it."""

    def pieces() -> Iterator[bytes]:
        for off in range(0, len(content), 256 << 10):
            yield content[off : off + (256 << 10)]

    size = len(content) if said is None else said
    return Candidate(path, (os.fsdecode(path.rpartition(b"/")[2]),), size, pieces, WHO)


def gates(text: str) -> Gates:
    return Gates(file.parse(text, "s.toml"), WHO)


class Clamd(InAPlace):
    def test_it_finds_what_has_a_signature_and_says_what_is_too_large(self) -> None:
        with clamd(self.place) as path:
            for content, kind in (
                (b"fine", ACCEPT),
                (b"", ACCEPT),
                (b"x" * 300_000 + EVIL, QUARANTINE),
                (bytes(MOST + 1), REJECT),
                (bytes(LARGE), REJECT),
            ):
                verdict = ask_clamd(path, candidate(content), PATIENCE)
                self.assertEqual(verdict.kind, kind, verdict)
            self.assertEqual(verdict.words, "larger than the scanner takes")
            gate = gates(f'[[gate]]\nclamd = "{path}"').gates[0]  # without a quarantine
            verdict = gate.verdict(candidate(EVIL))
            self.assertEqual(verdict.kind, REJECT)
            self.assertTrue(verdict.words.startswith("the scanner found "), verdict)

    def test_only_an_ok_about_the_file_lets_it_in(self) -> None:
        for answer in (b"", b"OK", b"stream: ok", b"stream: X ERROR", b"other: OK", b"stream: OK FOUNDER"):
            self.assertRaises(Failed, clamd_verdict, answer)
        self.assertEqual(clamd_verdict(b"stream: OK").kind, ACCEPT)
        self.assertEqual(clamd_verdict(b"stream: OK FOUND").kind, QUARANTINE)


class Programs(InAPlace):
    def asked(self, handle: Handler, content: bytes = b"x", timeout: float = PATIENCE) -> Verdict:
        path = str(self.place / "gate.sock")
        try:
            with listening(path, handle):
                return ask_program(path, candidate(content), timeout)
        finally:
            os.unlink(path)

    def test_one_is_told_about_the_file_and_gets_its_content(self) -> None:
        found: list[object] = []

        def handle(talk: socketserver.StreamRequestHandler) -> None:
            found.append(json.loads(talk.rfile.readline()))
            found.append(talk.rfile.read(LARGE))
            talk.wfile.write(b'{"verdict": "quarantine", "words": "a\\u0007b", "more": 1}\n')

        verdict = self.asked(handle, bytes(LARGE))
        self.assertEqual((verdict.kind, verdict.words), (QUARANTINE, "a\\x07b"))
        self.assertEqual(
            found[0],
            {"version": 1, "path": "/in/x.csv", "size": LARGE, "user": "al", "groups": ["partners"],
             "address": "10.1.2.3", "session": "s1"},
        )  # fmt: skip
        self.assertEqual(found[1], bytes(LARGE))

    def test_one_may_answer_before_it_has_read_everything_and_need_not_hang_up(self) -> None:
        done = threading.Event()

        def handle(talk: socketserver.StreamRequestHandler) -> None:
            talk.wfile.write(b'{"verdict": "reject", "words": "no"}\n')
            done.wait(PATIENCE)

        try:
            self.assertEqual(self.asked(lambda talk: handle(talk), bytes(LARGE)).words, "no")
        finally:
            done.set()

    def test_what_is_no_answer_never_lets_a_file_in(self) -> None:
        self.assertRaises(Away, ask_program, str(self.place / "none"), candidate(b""), PATIENCE)
        done = threading.Event()
        for content in (b"", bytes(LARGE)):
            for says in (
                b"",
                b'{"verdict": "accept"}',
                b"{}\n",
                bytes(70_000),
                b"\xff\n",
                b"[" * 60_000 + b"\n",
            ):
                with self.assertRaises(Failed, msg=says[:9]):
                    self.asked(lambda talk, says=says: talk.wfile.write(says), content)  # type: ignore[misc]
            with self.assertRaises(Failed):
                self.asked(lambda talk: done.wait(PATIENCE), content, 0.05)  # type: ignore[arg-type, return-value]
        done.set()

    def test_a_file_that_changes_its_size_is_not_let_in(self) -> None:
        path = str(self.place / "gate.sock")

        def handle(talk: socketserver.StreamRequestHandler) -> None:
            talk.rfile.readline()
            talk.rfile.read(5)
            talk.wfile.write(b'{"verdict": "accept"}\n')

        with listening(path, handle):
            self.assertEqual(ask_program(path, candidate(b"12345"), PATIENCE).kind, ACCEPT)
            for content in (b"1234", b"123456"):
                self.assertRaises(Failed, ask_program, path, candidate(content, said=5), PATIENCE)

    @settings(max_examples=60, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from((ACCEPT, REJECT)),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(("verdict", "words", "x")), inner)
            ),
            max_leaves=6,
        )
    )
    def test_only_the_word_accept_accepts(self, said: object) -> None:
        try:
            verdict = program_verdict(json.dumps(said).encode())
        except Failed:
            return
        assert isinstance(said, dict)
        self.assertEqual(verdict.kind, said["verdict"])
        self.assertTrue(verdict.words.isprintable())

    def test_the_program_in_the_page_works(self) -> None:
        page = (ROOT / "docs" / "site.md").read_text()
        found = re.search(r"```python\n(import json, socketserver\n.*?)```", page, re.DOTALL)
        assert found is not None
        self.assertLessEqual(len(found[1].splitlines()), 10)
        path = str(self.place / "gate.sock")
        program = found[1].replace("/run/gate/gate.sock", path)
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            until(lambda: listens(path) or process.poll() is not None)
            self.assertEqual(ask_program(path, candidate(b"id;amount\n1;2\n"), PATIENCE).kind, ACCEPT)
            verdict = ask_program(path, candidate(b"something else"), PATIENCE)
            self.assertEqual((verdict.kind, verdict.words), (REJECT, "the first line is not id;amount"))
        finally:
            process.terminate()
            process.wait(PATIENCE)


class GatesOfASite(InAPlace):
    def verdict(self, text: str, content: bytes = b"x", path: bytes = b"/in/x.csv") -> str:
        found = Verdict(ACCEPT)
        for gate in gates(text).of(path):
            found = gate.verdict(candidate(content, path))
            if found.kind != ACCEPT:
                break
        return found.kind if found.kind != REJECT else found.words

    def test_one_that_is_away_rejects_or_accepts_and_one_that_fails_rejects(self) -> None:
        away = f'[[gate]]\nask = "{self.place}/none"\n'
        self.assertEqual(self.verdict(away), "what has to look at files is away; try again later")
        self.assertEqual(self.verdict(away + 'or = "accept"'), ACCEPT)
        path = f"{self.place}/gate.sock"
        with listening(path, lambda talk: None):
            text = f'[[gate]]\nclamd = "{path}"\nor = "accept"'
            self.assertEqual(self.verdict(text), "what has to look at files failed: no answer")
        self.assertEqual(self.verdict(text), ACCEPT)  # nobody listens on it any more

    def test_limits(self) -> None:
        for limit, content, path, kind in (
            ('size = "1 KiB"', bytes(1024), b"/x", ACCEPT),
            ('size = "1 KiB"', bytes(1025), b"/x", "larger than 1024 bytes"),
            ('pattern = ["*.csv", "{user}-?"]', b"", b"/d/X.CSV", ACCEPT),
            ('pattern = ["*.csv", "{user}-?"]', b"", b"/d/al-1", ACCEPT),
            ('pattern = "*.csv"', b"", b"/d/x.exe", "names have to be like *.csv"),
            ('magic = "pdf"', b"%PDF-1.4", b"/x", ACCEPT),
            ('magic = ["pdf", "text"]', b"caf\xc3\xa9", b"/x", ACCEPT),
            ('magic = ["pdf", "zip"]', b"caf\xc3\xa9", b"/x", "the content has to be pdf or zip"),
            ('magic = "hex cafebabe"', b"\xca\xfe\xba\xbe\0", b"/x", ACCEPT),
        ):
            text = f"[[gate]]\nlimit = {{ {limit} }}"
            self.assertEqual(self.verdict(text, content, path), kind, limit)
        with self.assertRaises(BadInput) as raised:
            gates('[[gate]]\nlimit = { magic = "hex 0" }')
        self.assertIn("s.toml: line 2: limit: hex 0: unknown; known are 7z, bzip2", raised.exception.message)

    def test_text_may_be_cut_off_only_where_the_look_ends(self) -> None:
        self.assertFalse(magic.is_kind("text", b"caf\xc3"))
        whole = b"x" * (magic.LONGEST_LOOK - 1) + b"\xc3"
        self.assertTrue(magic.is_kind("text", whole))
        self.assertFalse(magic.is_kind("text", b"a\0b"))
        self.assertTrue(magic.is_kind("tar", bytes(257) + b"ustar\0"))

    def test_they_are_for_users_and_paths(self) -> None:
        text = '[group]\nothers = "bo"\n[[gate]]\nlimit = {size = 0}\n'
        self.assertEqual(self.verdict(text + 'groups = "others"'), ACCEPT)
        self.assertEqual(self.verdict(text + 'users = "al"'), "larger than 0 bytes")
        self.assertEqual(self.verdict(text + 'path = "/out/**"'), ACCEPT)
        self.assertEqual(self.verdict(text + 'path = "/in/{user}"', path=b"/in/al"), "larger than 0 bytes")
        found = gates(text + 'path = ["/in/**", "/*/x"]')
        for old, new, differs in (
            (b"/in/a", b"/in/b", False),
            (b"/out/a", b"/in/b", True),
            (b"/in/a", b"/out/b", False),
            (b"/out", b"/in", True),
            (b"/out/d", b"/other", True),
            (b"/out/d", b"/out/e", False),
            (b"/out/d", b"/out/x", True),
        ):
            self.assertEqual(found.differ(old, new), differs, (old, new))


if __name__ == "__main__":
    unittest.main()
