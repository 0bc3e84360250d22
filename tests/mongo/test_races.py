"""Two servers at one path: one wins, the other gets a clean status, and nothing is torn or lost.

First in every order that one can come between the other's commands (interleaving.py); then many at once,
for as long as it takes, in whatever order there is.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.pysftpexceptions import is_expected
from pysftpserver.storages.mongo.bucket import DIRECTORY
from tests.mongo.databases import DatabaseCase
from tests.mongo.interleaving import (
    EVERY,
    MOST_COMMANDS,
    InterleavingCase,
    Operation,
    append,
    both,
    chmod,
    create,
    mkdir,
    remove,
    rename,
    rmdir,
    upload,
)
from tests.mongo.sessions import get, orphans, put
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

ROUNDS = 25 if IS_HARD else 10
X = b"x" * 300_000  # two chunks


def of_today(
    pairs: tuple[tuple[Operation, Operation], ...],
) -> list[tuple[int, tuple[Operation, Operation]]]:
    """Every fifth pair with its number; all of them in `make test-hard`, since they take minutes."""
    return list(enumerate(pairs))[:: 1 if IS_HARD else 5]


class InEveryOrder(InterleavingCase):
    """The second of each pair comes whole, before each of the commands of the first (daily, every third)."""

    pairs: tuple[tuple[Operation, Operation], ...] = (
        (upload(b"f", b"one"), upload(b"f", b"two")),
        (upload(b"f", b"one"), both(upload(b"f", b"two"), upload(b"f", b"three"))),
        (append(b"f", b"+"), upload(b"f", b"two")),
        (append(b"f", b"+"), remove(b"f")),
        (append(b"f", b"+"), rename(b"f", b"n", False)),
        (create(b"n", b"one"), both(create(b"n", b"two"), upload(b"n", b"three"))),
        (create(b"n", b"one"), mkdir(b"n")),
        (mkdir(b"n"), create(b"n", b"one")),
        (mkdir(b"n"), mkdir(b"n")),
        (remove(b"f"), remove(b"f")),
        (remove(b"f"), upload(b"f", b"two")),
        (upload(b"f", b"one"), rename(b"f", b"g", True)),
        (upload(b"f", b"one"), chmod(b"f", 0o600)),
    )

    def test_one_wins_and_the_other_gets_a_clean_status(self):
        for number, (one, other) in of_today(self.pairs):
            with self.subTest(pair=number, has_transactions=self.has_transactions):
                self.assertEqual(list(self.problems(one, other)), [])


class RenamesInEveryOrder(InEveryOrder):
    pairs = (
        (rename(b"f", b"g", True), upload(b"g", b"two")),
        (rename(b"f", b"g", True), upload(b"f", b"two")),
        (rename(b"f", b"g", True), rename(b"g", b"n", False)),
        (rename(b"f", b"n", False), rename(b"g", b"n", False)),
        (rename(b"f", b"n", False), create(b"n", b"two")),
        (rename(b"f", b"n", False), remove(b"f")),
        (rename(b"empty", b"n", False), rmdir(b"empty")),
        (rename(b"d", b"n", False), create(b"d/y", b"two")),
        (rename(b"d", b"n", False), rename(b"d", b"o", False)),
    )


class RenamesWithoutTransactionsInEveryOrder(RenamesInEveryOrder):
    pairs = RenamesInEveryOrder.pairs[:-2]
    has_transactions = False

    def test_of_two_that_rename_a_directory_at_once_each_may_get_a_part_and_no_file_is_lost(self):
        for at in range(1, MOST_COMMANDS, EVERY):
            (_, state), was_there = self.interrupted(rename(b"d", b"n", False), rename(b"d", b"o", False), at)
            self.assertEqual([content for _, _, content in state if content == b"old d/x"], [b"old d/x"])
            self.assertEqual(self.damage(), [])
            if not was_there:
                return


class KeptRevisionsInEveryOrder(InEveryOrder):
    keeps_revisions = True
    pairs = (
        (remove(b"f"), append(b"f", b"+")),
        (append(b"f", b"+"), append(b"f", b"-")),
        (append(b"f", b"+"), remove(b"f")),
        (append(b"f", b"+"), rename(b"f", b"n", False)),
        (rename(b"f", b"n", False), append(b"f", b"+")),
    )


class EachInTheMiddleOfTheOther(InterleavingCase):
    """Each sees what the other has done before that one has done all of it."""

    pairs: tuple[tuple[Operation, Operation], ...] = (
        (upload(b"f", b"one"), upload(b"f", b"two")),
        (upload(b"f", b"one"), append(b"f", b"+")),
        (upload(b"f", b"one"), rename(b"g", b"f", True)),
        (upload(b"f", b"one"), rename(b"f", b"g", True)),
    )

    def test_one_wins_and_no_file_loses_its_chunks(self):
        for number, (one, other) in of_today(self.pairs):
            with self.subTest(pair=number):
                self.assertEqual(list(self.crossings(one, other)), [])

    def test_a_file_that_could_not_keep_its_name_and_was_renamed_meanwhile_keeps_its_chunks(self):
        def insert_directory(storage: SFTPServerMongoStorage, base: bytes) -> None:
            """As somebody does it who makes one, and has not looked for a file of that name yet."""
            storage.bucket.nodes.insert_one(
                storage.bucket.node(f"{base.decode().strip('/')}/n", DIRECTORY, 0o755)
            )

        renamed = 0
        for at in range(1, MOST_COMMANDS, EVERY):
            came, was_there = self.interrupted(
                create(b"n", b"one"), both(insert_directory, rename(b"n", b"m", False)), at
            )
            (did_create, did_rename), state = came
            renamed += did_create and did_rename
            self.assertEqual(did_rename, b"m" in [path for path, _, _ in state])
            self.assertEqual([text for text in self.damage() if "chunks" in text], [])
            if not was_there:
                break
        self.assertGreater(renamed, 0)


class ManyAtOnce(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storages = [self.open_storage() for _ in range(4)]
        self.seed = random.randrange(1 << 32)

    def together(self, work: Callable[[SFTPServerMongoStorage, int, random.Random], None]) -> None:
        """Have each storage do something, in a thread of its own, all at once."""
        errors: list[BaseException] = []
        barrier = threading.Barrier(len(self.storages))

        def run(storage: SFTPServerMongoStorage, number: int) -> None:
            try:
                barrier.wait(PATIENCE)
                work(storage, number, random.Random(self.seed + number))
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=run, args=pair) for pair in zip(self.storages, range(4), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive(), f"seed {self.seed}")
        self.assertEqual(errors, [], f"seed {self.seed}")
        self.assertEqual(orphans(self.database), 0, f"seed {self.seed}")
        for file in self.gridfs.find():
            self.assertEqual(len(file.read()), file.length, f"seed {self.seed}")

    def tries(self, call: Callable[..., object], *arguments: object) -> bool:
        """Whether it went well; if not, it has to say so cleanly."""
        try:
            call(*arguments)
        except Exception as error:
            if not is_expected(error):
                raise
            return False
        return True

    def test_what_another_program_has_put_over_a_file_is_replaced(self):
        for options in ({}, {"keep_revisions": True}):
            storage = self.open_storage(**options)
            put(storage, b"/f", b"ours")
            self.gridfs.put(b"theirs", filename="f")
            self.assertEqual(get(storage, b"/f"), b"theirs")
            put(storage, b"/f", b"ours again")
            self.assertEqual(get(storage, b"/f"), b"ours again")

    def test_of_many_that_create_a_file_one_does(self):
        won: list[tuple[int, int]] = []

        def work(storage: SFTPServerMongoStorage, number: int, order: random.Random) -> None:
            for turn in range(ROUNDS):
                path, flags = b"/%d" % turn, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                if self.tries(put, storage, path, b"%d" % number, flags):
                    won.append((turn, number))

        self.together(work)
        self.assertEqual(sorted(turn for turn, _ in won), list(range(ROUNDS)), f"seed {self.seed}")
        for turn, number in won:
            self.assertEqual(get(self.storages[0], b"/%d" % turn), b"%d" % number)

    def test_no_append_that_was_said_to_be_stored_is_lost(self):
        put(self.storages[0], b"/f", b"")
        stored: list[bytes] = []

        def work(storage: SFTPServerMongoStorage, number: int, order: random.Random) -> None:
            for turn in range(ROUNDS):
                text = b"%d %d" % (number, turn)
                if self.tries(put, storage, b"/f", text + b"\n", os.O_WRONLY | os.O_APPEND):
                    stored.append(text)

        self.together(work)
        content = get(self.storages[0], b"/f")
        self.assertEqual(sorted(content.splitlines()), sorted(stored), f"seed {self.seed}")

    def test_a_reader_of_what_many_write_rename_and_remove_gets_one_complete_file(self):
        contents = [X.replace(b"x", b"%d" % number) for number in range(4)]

        def read(storage: SFTPServerMongoStorage) -> None:
            content = get(storage, b"/f")
            if content not in contents:
                raise AssertionError(f"a mix of {set(content)}")

        def work(storage: SFTPServerMongoStorage, number: int, order: random.Random) -> None:
            own = b"/own%d" % number
            for _ in range(ROUNDS):
                kind = order.randrange(5)
                if kind == 0:
                    self.tries(lambda: put(storage, b"/f", contents[number]))
                elif kind == 1:
                    put(storage, own, contents[number])
                    self.tries(lambda: storage.rename(own, b"/f", True))
                elif kind == 2:
                    self.tries(lambda: storage.rename(b"/f", b"/g%d" % number, True))
                elif kind == 3:
                    self.tries(lambda: storage.rm(b"/f"))
                else:
                    self.tries(lambda: read(storage))

        self.together(work)
        for name, _ in self.storages[0].opendir(b"/"):
            if name not in (b".", b".."):
                self.assertIn(get(self.storages[0], b"/" + name), contents, f"seed {self.seed}")
