"""The fuzzers' targets without a fuzzer: the fixed corpus, some mutations of it, and bugs they must find.

`PYSFTP_FUZZ_MUTATIONS` sets the number of mutations for each target (a long run: 100000), and
`PYSFTP_FUZZ_SEED` the seed, a number or "random"; the ordinary run is the same every time.
"""

from __future__ import annotations

import os
import random
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from fuzz import certificates, corpus, mutator
from fuzz.gates import GatesTarget
from fuzz.laboratory import MessagesTarget, ServerTarget
from fuzz.site import SiteTarget
from fuzz.sksync import ParserTarget, SyncTarget
from fuzz.storages import CountingStorage, InJail, InMemory
from fuzz.targets import TARGETS, Run, SessionTarget, Ways, check_line, understand
from pysftpserver.engine.log import SFTPLog
from pysftpserver.failures import BadInput
from pysftpserver.laboratory import wire as laboratory_wire
from pysftpserver.laboratory.server import Server as LaboratoryServer
from pysftpserver.laboratory.services.echo import Echo
from pysftpserver.laboratory.session import Session as LaboratorySession
from pysftpserver.laboratory.wire import Encrypted, Plain
from pysftpserver.server import SFTPServer
from pysftpserver.service import sums
from pysftpserver.site import file as site_file
from pysftpserver.site import gates
from pysftpserver.site.patterns import Pattern
from pysftpserver.site.rules import Rules
from pysftpserver.sksync import wire
from pysftpserver.sksync.parsing import ContentParser, ListingParser
from pysftpserver.sksync.receiving import Receiver
from pysftpserver.sksync.session import Session
from pysftpserver.sshd import krl
from pysftpserver.uploads.files import StoredFile
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.hard import IS_HARD
from tests.support.packets import CREAT, HELLO, NO_ATTRS, READ, TRUNC, WRITE, request, string, u32, u64

MUTATIONS = int(os.environ.get("PYSFTP_FUZZ_MUTATIONS", "1500" if IS_HARD else "120"))
LONGEST = 1024  # bytes of a mutated input
MOST_TEXT = 150 << 10  # bytes of all of the corpus
WAYS = [1 << bit for bit in range(8)] + [Ways.PIECES | Ways.TIGHT, Ways.PIECES | Ways.TIGHT | Ways.WALKS]

OPEN = request("open", 1, string(b"f"), u32(READ | WRITE), NO_ATTRS)
FIRST = string(u32(1))
A_SESSION = [
    HELLO + OPEN,
    request("read", 2, FIRST, u64(0), u32(40_000)),
    request("write", 3, FIRST, u64(2), string(b"new")),
    request("fstat", 4, FIRST),
    request("mkdir", 5, string(b"made"), NO_ATTRS),
    request("opendir", 6, string(b"d")),
    request("readdir", 7, string(u32(2))),
    request("readlink", 8, string(b"l")),
    request("statvfs", 9, string(b".")),
]
SESSION = b"".join(A_SESSION)


def made(case: unittest.TestCase, name: str) -> Run:
    """A target that is removed at the end of the test."""
    run = TARGETS[name].make()
    if isinstance(place := getattr(run, "place", None), InJail):
        case.addCleanup(place.close)
    if isinstance(run, SyncTarget | ServerTarget):
        case.addCleanup(run.loop.close)
    return run


def raw(chance: random.Random) -> mutator.Raw:
    """A mutator of plain bytes, in libFuzzer's place."""

    def mutate(data: bytes, most: int) -> bytes:
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(changed) + 1)
            changed[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        return bytes(changed[:most])

    return mutate


class TheFixedCorpus(unittest.TestCase):
    def test_every_target_takes_every_input_of_its_corpus_in_every_way(self) -> None:
        for name, target in TARGETS.items():
            run = made(self, name)
            for origin, data in corpus.entries(*target.corpora):
                for ways in {data[0], *WAYS}:
                    with self.subTest(target=name, input=origin, ways=ways):
                        run(bytes([ways]) + data[1:])

    def test_every_target_takes_mutations_of_its_corpus(self) -> None:
        wanted = os.environ.get("PYSFTP_FUZZ_SEED", "3")
        seed = random.randrange(1 << 32) if wanted == "random" else int(wanted)
        for name, target in TARGETS.items():
            chance = random.Random(seed)
            run = made(self, name)
            mutate, cross = target.mutate or no_mutator, target.cross
            inputs = [data for _, data in corpus.entries(*target.corpora)]
            for number in range(MUTATIONS):
                data = mutate(chance.choice(inputs), LONGEST, chance, raw(chance))
                if cross is not None and number % 8 == 0:
                    data = cross(data, chance.choice(inputs), LONGEST, chance)
                try:
                    run(data)
                except AssertionError as error:
                    text = corpus.to_text(data, f"{name}: {error}")
                    self.fail(f"PYSFTP_FUZZ_SEED={seed}, mutation {number}:\n{text}")
                inputs[chance.randrange(len(inputs))] = data

    def test_every_target_has_seeds(self) -> None:
        for name, target in TARGETS.items():
            with self.subTest(name):
                self.assertTrue(list(corpus.entries(*target.corpora)))

    def test_it_is_short_readable_text(self) -> None:
        size = 0
        for path in corpus.HERE.rglob("*"):
            if path.is_file():
                text = path.read_text("ascii")
                size += len(text)
                with self.subTest(path.name):
                    self.assertEqual(path.suffix, ".txt")
                    self.assertLessEqual(max(map(len, text.splitlines())), corpus.COLUMNS)
                    self.assertTrue(text.startswith("# "))
        self.assertLessEqual(size, MOST_TEXT)

    def test_inputs_survive_being_written_as_text(self) -> None:
        inputs = [b"\0", bytes(range(256)), b"x" * 50]
        text = "# A file.\n\n" + "\n".join(corpus.to_text(data, "what it is " * 20) for data in inputs)
        self.assertEqual(corpus.from_text(text), inputs)
        with self.assertRaises(ValueError):
            corpus.from_text("no digits\n")


def no_mutator(data: bytes, most: int, chance: random.Random, plain: mutator.Raw) -> bytes:
    """For targets without a mutator of their own."""
    return plain(data, most)


class TheMutator(unittest.TestCase):
    def test_it_gives_the_same_for_the_same_seed_and_keeps_the_length(self) -> None:
        data = b"\0" + SESSION
        for seed in range(300):
            one, other = (
                mutator.mutate(data, 200, chance, raw(chance)) for chance in map(random.Random, (seed, seed))
            )
            self.assertEqual(one, other)
            self.assertLessEqual(len(one), 200)
            self.assertLessEqual(len(mutator.cross(data, one, 150, random.Random(seed))), 150)

    def test_most_of_what_it_makes_is_framed_and_begins_with_init(self) -> None:
        chance = random.Random(1)
        framed = 0
        for _ in range(300):
            packets, rest = mutator.cut(mutator.mutate(b"\0" + SESSION, 4096, chance, raw(chance))[1:])
            framed += bool(packets) and packets[0][:1] == HELLO[4:5] and not rest
        self.assertGreater(framed, 200)

    def test_it_makes_every_request(self) -> None:
        chance = random.Random(1)
        seen = set()
        data = b"\0"
        for _ in range(2000):
            data = mutator.mutate(data, 2000, chance, raw(chance))
            seen |= {packet[0] for packet in mutator.cut(data[1:])[0] if packet}
        self.assertLessEqual({kind for kind, _, _ in mutator.KINDS}, seen)


_handle, _data = SFTPServer.send_handle, SFTPServer.send_data


def _twice(server: SFTPServer, *status: Any) -> None:
    SFTPServer.send_status(server, *status)
    SFTPServer.send_status(server, *status)


def _less(server: SFTPServer, buffer: memoryview, start: int, end: int) -> int:
    return max(start, SFTPServer.consume(server, buffer, start, end) - 1)


def _by_level(server: SFTPServer, request_id: int, name: bytes) -> None:
    """Answer pieces, which are run with another log level, otherwise than the whole."""
    _handle(server, request_id, name + b"x" * (server.log.level > 0))


PIECES, TWICE = Ways.PIECES, Ways.TWICE
#: What is wrong: the words it is found with, the ways to run it, and the method that does it.
FAULTS: dict[str, tuple[str, int, str, Callable[..., Any]]] = {
    "a second reply": ("was answered as|more than", 0, "send_status", _twice),
    "no reply": ("was answered as|no reply", 0, "send_status", lambda *_: None),
    "another ID": (
        "request 1 was answered as 2",
        0,
        "send_handle",
        lambda s, i, text: _handle(s, i + 1, text),
    ),
    "another kind": ("bare OK", 0, "send_handle", lambda s, i, _: s.send_status(i)),
    "malformed": ("left over", 0, "send_data", lambda s, i, data: s.send(103, i, string(data) + b"x")),
    "more than asked": (
        "more data",
        0,
        "send_data",
        lambda s, i, data: _data(s, i, data + bytes(50_000)),
    ),
    "too long": ("a reply of 300009 bytes", 0, "send_data", lambda s, i, _: _data(s, i, bytes(300_000))),
    "bytes left": ("consumed|was answered|ended|came out", PIECES, "consume", _less),
    "pieces": ("in one piece .*, in pieces", TWICE, "send_handle", _by_level),
    "left open": ("handles were left open", 0, "close", lambda _: None),
}


class PlantedBugs(unittest.TestCase):
    """Each invariant can fail."""

    def finds(self, words: str, run: Run, ways: int = 0, stream: bytes = SESSION) -> None:
        with self.assertRaisesRegex(AssertionError, words):
            run(bytes([ways]) + stream)

    def memory(self, server_class: type[SFTPServer] = SFTPServer) -> SessionTarget:
        target = SessionTarget(InMemory())
        target.server_class = server_class
        return target

    def jail(self, storage_class: type[SFTPServerVirtualChroot]) -> SessionTarget:
        place = InJail()
        self.addCleanup(place.close)
        place._storages = [storage_class(place.jail)]
        place._storages[0].place = place  # type: ignore[attr-defined]
        return SessionTarget(place)

    def test_without_any_the_session_passes_in_every_way(self) -> None:
        run = self.jail(SFTPServerVirtualChroot)
        for ways in (0, *WAYS):
            self.memory()(bytes([ways]) + SESSION)
            run(bytes([ways & ~Ways.WALKS]) + SESSION)

    def test_whatever_a_session_does_wrong_in_one_method_is_found(self) -> None:
        for fault, (words, ways, name, method) in FAULTS.items():
            with self.subTest(fault):
                self.finds(words, self.memory(type("Server", (SFTPServer,), {name: method})), ways)

    def test_an_exception_that_comes_out_is_found(self) -> None:
        class Storage(CountingStorage):
            def mkdir(self, path: bytes, mode: int) -> None:
                raise KeyboardInterrupt

        target = self.memory()
        target.place.storage_class = Storage
        self.finds("KeyboardInterrupt came out", target)
        self.finds("KeyboardInterrupt came out", target, Ways.PIECES)

    def test_a_session_that_ends_too_early_or_not_at_all_is_found(self) -> None:
        class EndsEarly(SFTPServer):
            def send_handle(self, request_id: int, name: bytes) -> None:
                super().send_handle(request_id, name)
                self.end("enough")

        class GoesOn(SFTPServer):
            def end(self, reason: str) -> None:
                self.stopping = True

        self.finds("ended: enough", self.memory(EndsEarly))
        self.finds("ended: None", self.memory(GoesOn), stream=SESSION + bytes(8))

    def test_a_wrong_account_of_the_queue_is_found(self) -> None:
        class Server(SFTPServer):
            def send_handle(self, request_id: int, name: bytes) -> None:
                super().send_handle(request_id, name)
                self.output.size += 1

        self.finds("the queue's size is", self.memory(Server))
        self.finds("an empty queue counts", self.memory(Server), Ways.PIECES)

    def test_a_queue_without_a_limit_is_found(self) -> None:
        class Server(SFTPServer):
            def consume(self, buffer: memoryview, start: int, end: int) -> int:
                limit, self.queue_limit = self.queue_limit, 1 << 40
                try:
                    return super().consume(buffer, start, end)
                finally:
                    self.queue_limit = limit

        reads = HELLO + request("open", 1, string(b"big"), u32(READ), NO_ATTRS)
        reads += request("read", 2, FIRST, u64(0), u32(40_000)) * 400
        self.finds("bytes are queued", self.memory(Server), Ways.PIECES | Ways.TIGHT, reads)

    def test_handles_that_stay_open_are_found(self) -> None:
        class Storage(CountingStorage):
            def close(self, handle: Any) -> None:
                pass

        target = self.memory()
        target.place._tree.opened = 0  # type: ignore[union-attr]
        target.place.storage_class = Storage
        self.finds("1 files were left open", target)

    def test_memory_that_is_not_counted_is_found(self) -> None:
        class Storage(CountingStorage):
            def write(self, handle: Any, off: int, chunk: bytes) -> None:
                handle.node.content += chunk

        target = self.memory()
        target.place.storage_class = Storage
        self.finds("bytes are held", target)

    def test_descriptors_that_leak_are_found(self) -> None:
        class Storage(SFTPServerVirtualChroot):
            def mkdir(self, path: bytes, mode: int) -> None:
                self.leaked = os.dup(0)

        target = self.jail(Storage)
        self.finds("1 descriptors leaked", target)
        os.close(target.place._storages[0].leaked)  # type: ignore[union-attr]

    def test_changes_outside_the_jail_are_found(self) -> None:
        class Storage(SFTPServerVirtualChroot):
            def mkdir(self, path: bytes, mode: int) -> None:
                (self.place.canary / "new").touch()  # type: ignore[attr-defined]

        self.finds("outside the jail was changed", self.jail(Storage))

    def test_replies_that_tell_what_is_outside_the_jail_are_found(self) -> None:
        class Storage(SFTPServerVirtualChroot):
            def readlink(self, path: bytes) -> bytes:
                return os.fsencode(self.place.jail)  # type: ignore[attr-defined]

        self.finds("tells what is outside", self.jail(Storage))

    def test_changes_in_a_read_only_session_are_found(self) -> None:
        class Server(SFTPServer):
            def __init__(self, *arguments: Any, read_only: bool, **options: Any) -> None:
                super().__init__(*arguments, **options)

        self.finds("a read-only session", self.memory(Server), Ways.READ_ONLY)
        target = self.jail(SFTPServerVirtualChroot)
        target.server_class = Server
        self.finds("a read-only session", target, Ways.READ_ONLY)

    def test_log_lines_that_drive_a_terminal_are_found(self) -> None:
        for text in ("two\nlines", "\x1b[2J", "x" * 2000):
            with self.assertRaises(AssertionError):
                check_line(0, text)


class PlantedCase(unittest.TestCase):
    def finds(self, words: str, run: Run, data: bytes, planted: tuple[object, str, object]) -> None:
        run(data)
        with mock.patch.object(*planted), self.assertRaisesRegex(AssertionError, words):
            run(data)


class PlantedBugsInSync(PlantedCase):
    """Each invariant of the SK Sync targets can fail."""

    UPLOAD = b"\0pysksync 1\n1\n0\n/\n/c\n1000000100000 new\n\n3\nabc"
    LISTING = bytes([1 | 1 << 2 | 32 | 64]) + b"1000 a\n2000 b/c\n\nrest"
    DOWNLOAD = bytes([3 | 2 << 2 | 64]) + b"a\n1000\n3\nabc" + b"0" * 32 + b"\n"

    def test_what_a_parser_takes_and_should_not_is_found(self) -> None:
        self.finds(
            "ended: False", ParserTarget(), self.DOWNLOAD, (ContentParser, "_on_digest", lambda *_: None)
        )
        self.finds("ended: True", ParserTarget(), self.LISTING, (wire, "MOST_LINE", 5))

    def test_what_a_parser_makes_of_it_is_compared(self) -> None:
        self.finds("a second reading has", ParserTarget(), self.LISTING, (wire, "parse_time", lambda _: 7))

    def test_an_exception_that_comes_out_is_found(self) -> None:
        self.finds("KeyError came out", ParserTarget(), self.LISTING, (wire, "parse_time", {}.__getitem__))

    def test_bytes_that_are_passed_over_are_found(self) -> None:
        def feed(parser: ListingParser, data: bytes, start: int, end: int) -> int:
            before(parser, data, start, end)
            return end

        before = ListingParser.feed
        self.finds("were left", ParserTarget(), self.LISTING, (ListingParser, "feed", feed))

    def sync(self) -> SyncTarget:
        target = SyncTarget()
        self.addCleanup(target.place.close)
        self.addCleanup(target.loop.close)
        return target

    def test_faults_of_a_session_are_found(self) -> None:
        self.finds("a fault was logged", self.sync(), self.UPLOAD, (Receiver, "begin", None))
        self.finds("nothing was logged", self.sync(), self.UPLOAD, (SFTPLog, "write", lambda *_: None))
        self.finds(
            "SystemError came out",
            self.sync(),
            self.UPLOAD,
            (Session, "run", mock.Mock(side_effect=SystemError)),
        )

    def test_what_a_session_leaves_is_found(self) -> None:
        broken = self.UPLOAD[:-1]
        self.finds("left behind", self.sync(), broken, (StoredFile, "discard", lambda _: None))

    def test_changes_outside_the_jail_are_found(self) -> None:
        target = self.sync()

        def mkdir(*_: object) -> None:
            (target.place.canary / "new").touch()

        deep = self.UPLOAD.replace(b"new", b"new/new")
        self.finds("outside the jail", target, deep, (SFTPServerVirtualChroot, "mkdir", mkdir))


class PlantedBugsInCommands(PlantedCase):
    """The invariant of the target for command lines can fail."""

    def test_other_words_than_the_standard_librarys_are_found(self) -> None:
        self.finds("", understand, b"\0md5sum 'a'", (sums, "split", bytes.split))


class PlantedBugsInMessages(PlantedCase):
    """Each invariant of the message server's targets can fail."""

    PLAIN = b"\x08pw\0ann\0hello\0NAME ?\0TEXT = NAME ?\0" + b"x" * 61 + b"\0"
    TOKENS = b"\1pw\0\nann\0\nhello\0\nKEY = other\0"

    def server(self) -> ServerTarget:
        target = ServerTarget()
        self.addCleanup(target.loop.close)
        return target

    def test_what_a_codec_takes_and_should_not_is_found(self) -> None:
        for kind, data in ((Plain, self.PLAIN), (Encrypted, b"\1" + b"x" * 70 + b"\0")):
            self.finds(
                "failure|second", MessagesTarget(), data, (kind, "_refuse_if_longer", lambda *_: False)
            )

    def test_texts_that_are_not_the_same_escaped_are_found(self) -> None:
        target = MessagesTarget()
        self.finds("is not", target, self.PLAIN, (laboratory_wire, "escaped", lambda text: text))

    def test_what_a_session_answers_is_compared(self) -> None:
        def twice(self: Echo, client: Any, text: str) -> None:
            client.send(text)
            client.send(text)

        for data in (self.PLAIN, self.TOKENS):
            self.finds("and not", self.server(), data, (Echo, "on_message", twice))

    def test_faults_and_what_is_left_are_found(self) -> None:
        broken = mock.Mock(side_effect=KeyError)
        self.finds("a fault was logged", self.server(), self.PLAIN, (Echo, "on_message", broken))
        self.finds("KeyError came out", self.server(), self.PLAIN, (LaboratorySession, "_handle", broken))
        nothing = mock.Mock()
        self.finds("still counted", self.server(), self.PLAIN, (LaboratoryServer, "forget", nothing))
        self.finds("nothing was logged", self.server(), self.PLAIN, (SFTPLog, "write", nothing))


class PlantedBugsInSites(PlantedCase):
    """Each invariant of the target of site files can fail."""

    RULE = b'\0[[rule]]\npath = "/in"\nhidden = true\n'

    def test_a_wrong_decision_is_found(self) -> None:
        self.finds("second reading", SiteTarget(), self.RULE, (Rules, "_first", lambda *_: None))
        self.finds("second reading", SiteTarget(), self.RULE, (Pattern, "matches", lambda *_: True))

    def test_a_mistake_that_does_not_name_the_file_is_found(self) -> None:
        planted = mock.Mock(return_value=BadInput("line 1"))
        self.finds("name the file", SiteTarget(), b"\0x = 1\n", (site_file, "mistakes_of", planted))


class PlantedBugsInCertificates(PlantedCase):
    """Each invariant of the targets of certificates and lists of revoked ones can fail."""

    def seeds(self, name: str) -> list[bytes]:
        return [data for _, data in corpus.entries(name)]

    def test_a_certificate_that_is_read_or_judged_wrong_is_found(self) -> None:
        plain = self.seeds("certificates")[0]
        for words, name, planted in (
            ("somebody in", "faults", lambda it, names, *_: [] if names else ["no"]),
            ("everybody in", "faults", lambda *_: []),
            ("are not lines", "faults", lambda *_: ["a\nb"]),
            ("not known for one", "is_certificate", lambda _: False),
            ("not one line", "parse", mock.Mock(side_effect=certificates.BadCertificate("a\nb"))),
        ):
            data = plain if words != "somebody in" else self.seeds("certificates")[2]
            self.finds(words, certificates.certificate_target, data, (certificates, name, planted))

    def test_a_list_that_is_read_or_searched_wrong_is_found(self) -> None:
        first, bits = (self.seeds("revoked-keys")[one] for one in (0, 2))
        never = mock.Mock(return_value=False)
        self.finds("a second look", certificates.list_target, first, (krl._Certificates, "has", never))
        self.finds("a second look", certificates.list_target, bits, (krl._Certificates, "has", never))
        self.finds("is not revoked", certificates.list_target, first, (krl.Revoked, "has_key", never))
        words = mock.Mock(side_effect=certificates.BadList("a\nb"))
        self.finds("not one line", certificates.list_target, first, (certificates, "read", words))


class PlantedBugsInGates(PlantedCase):
    """Each invariant of the target of gates can fail."""

    TWICE = b'\1{"verdict": "reject", "verdict": "accept"}\n'

    def test_what_is_let_in_and_should_not_be_is_found(self) -> None:
        self.finds("second reading", GatesTarget(), self.TWICE, (gates, "_only_once", dict))
        self.finds(
            "second reading", GatesTarget(), b"\4stream: OK", (gates.Talk, "answer", lambda *_: b"stream: OK")
        )

    def test_words_that_are_none_for_a_client_are_found(self) -> None:
        self.finds(
            "words", GatesTarget(), b'\1{"verdict": "reject", "words": "\\u0007"}\n', (gates, "one_line", str)
        )


class TheJail(unittest.TestCase):
    def test_it_is_mended_after_whatever_was_done_to_it(self) -> None:
        place = InJail()
        self.addCleanup(place.close)
        before = place.snapshot()
        requests = [
            request("open", 1, string(b"f"), u32(WRITE | CREAT | TRUNC), NO_ATTRS),
            request("rename", 2, string(b"d"), string(b"e")),
            request("symlink", 3, string(b"e"), string(b"d")),
            request("mkdir", 4, string(b"new"), NO_ATTRS),
            request("rename", 5, string(b"e"), string(b"new/e")),
            request("remove", 6, string(b"big")),
            request("mkdir", 7, string(b"big"), NO_ATTRS),
            request("setstat", 8, string(b"/"), u32(4) + u32(0)),
        ]
        SessionTarget(place)(b"\0" + HELLO + b"".join(requests))
        self.assertNotEqual(place.snapshot(), before)
        place.fresh(False)
        self.assertEqual(place.snapshot(), before)

    def test_nothing_is_left_of_it(self) -> None:
        place = InJail()
        self.assertTrue(Path(place.place).is_dir())
        place.close()
        self.assertFalse(Path(place.place).exists())


if __name__ == "__main__":
    unittest.main()
