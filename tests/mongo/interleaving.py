"""Two storages at once, every way that one can come between two commands of the other.

An operation is a function of a storage and a directory, and a generator where it has steps that a client
takes one by one (open and write, then close). What may come out is what comes out when the steps are taken
in turns, whole; the database's commands of one operation are then interrupted, before each of them in turn,
by the whole of the other, and nothing else may come out. Or one of them fails and has changed nothing.
Or the other comes in two parts: up to before one of its commands, and the rest before a later one of the
first.
"""

from __future__ import annotations

import inspect
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from stat import S_ISDIR, S_ISLNK
from typing import Any
from unittest import mock

import pymongo
from bson import ObjectId
from pymongo import monitoring

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.pysftpexceptions import is_expected
from tests.mongo.databases import DatabaseCase
from tests.mongo.sessions import NEW, put
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

Operation = Callable[[SFTPServerMongoStorage, bytes], Any]
State = tuple[tuple[bytes, str, bytes], ...]
TEMPLATE = "template"
MOST_COMMANDS = 60  # of one operation
EVERY = 1 if IS_HARD else 3  # command of an operation that is interrupted
EVERY_STEP = 1 if IS_HARD else 2  # command of the other one that is stopped, and of those in between
BLOCKED = 0.15  # seconds after which an operation counts as waiting for the one that it interrupts


class Interruption(monitoring.CommandListener):
    """Calls something before a thread's command of some number is sent."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.left = 0
        self.call: Callable[[], None] = lambda: None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if threading.get_ident() == self.thread:
            self.left -= 1
            if self.left == 0:
                self.call()

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


# --- operations ---------------------------------------------------------------------------------------


def upload(name: bytes, content: bytes, flags: int = NEW) -> Operation:
    def operation(storage: SFTPServerMongoStorage, base: bytes) -> Iterator[None]:
        handle = storage.open(base + name, flags, 0o666)
        try:
            storage.write(handle, 0, content)
            yield
        except Exception:
            storage.abandon(handle)
            raise
        storage.close(handle)

    return operation


def append(name: bytes, content: bytes) -> Operation:
    return upload(name, content, os.O_WRONLY | os.O_APPEND)


def create(name: bytes, content: bytes) -> Operation:
    return upload(name, content, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def rename(old: bytes, new: bytes, replace: bool) -> Operation:
    return lambda storage, base: storage.rename(base + old, base + new, replace)


def remove(name: bytes) -> Operation:
    return lambda storage, base: storage.rm(base + name)


def mkdir(name: bytes) -> Operation:
    return lambda storage, base: storage.mkdir(base + name, 0o777)


def rmdir(name: bytes) -> Operation:
    return lambda storage, base: storage.rmdir(base + name)


def symlink(name: bytes) -> Operation:
    return lambda storage, base: storage.symlink(base + name, b"somewhere")


def chmod(name: bytes, mode: int) -> Operation:
    return lambda storage, base: storage.setstat(base + name, SFTPAttributes(permissions=mode))


def truncate(name: bytes, size: int) -> Operation:
    return lambda storage, base: storage.setstat(base + name, SFTPAttributes(size=size))


def both(*operations: Operation) -> Operation:
    """One after the other; each may fail, but then the rest is left."""

    def operation(storage: SFTPServerMongoStorage, base: bytes) -> Iterator[None]:
        for number, one in enumerate(operations):
            if number:
                yield
            yield from steps(one, storage, base)

    return operation


def steps(operation: Operation, storage: SFTPServerMongoStorage, base: bytes) -> Iterator[None]:
    result = operation(storage, base)
    if inspect.isgenerator(result):
        yield from result


class Doing:
    """An operation that is being done."""

    def __init__(self, operation: Operation, storage: SFTPServerMongoStorage, base: bytes) -> None:
        self._steps = steps(operation, storage, base)
        self.error: BaseException | None = None
        self.has_ended = False

    def step(self) -> None:
        if self.has_ended:
            return
        try:
            next(self._steps)
        except StopIteration:
            self.has_ended = True
        except Exception as error:
            self.error = error
            self.has_ended = True

    def finish(self) -> None:
        while not self.has_ended:
            self.step()


class InterleavingCase(DatabaseCase):
    """Two storages on one bucket, and a third one that looks at it."""

    has_transactions = True
    keeps_revisions = False

    def setUp(self) -> None:
        super().setUp()
        self.interruption = Interruption()
        self.pause = Interruption()
        self.first = self._open_listened(self.interruption)
        self.second = self._open_listened(self.pause)
        self.looking = self.open_storage()
        if not self.has_transactions:
            for storage in (self.first, self.second, self.looking):
                storage.bucket._has_transactions = False
        self._numbers = itertools.count()
        self._counts: dict[Operation, int] = {}

    def _open_listened(self, listener: Interruption) -> SFTPServerMongoStorage:
        made = pymongo.MongoClient

        def with_listener(*args: Any, **options: Any) -> pymongo.MongoClient[Any]:
            return made(*args, event_listeners=[listener], **options)

        with mock.patch("pymongo.MongoClient", with_listener):
            return self.open_storage(keep_revisions=self.keeps_revisions)

    def prepare(self) -> bytes:
        """A directory with something in it: a copy of the first one."""
        number = next(self._numbers)
        if not number:
            self._template = self._prepare()
        base = b"/%d/" % (number + 1)
        name = base.decode().strip("/")
        collections = {kind: self.database[f"fs.{kind}"] for kind in self._template}
        copies: dict[str, list[Any]] = {kind: [] for kind in self._template}
        identities = {doc["_id"]: ObjectId() for doc in self._template["files"]}
        for kind, docs in self._template.items():
            for doc in docs:
                copy = {**doc, "_id": identities.get(doc["_id"]) or ObjectId()}
                for field in ("filename", "path", "key", "parent"):
                    if isinstance(doc.get(field), str) and doc[field]:
                        copy[field] = name + doc[field][len(TEMPLATE) :]
                if "files_id" in doc:
                    copy["files_id"] = identities[doc["files_id"]]
                copies[kind].append(copy)
        for kind, collection in collections.items():
            collection.insert_many(copies[kind])
        return base

    def _prepare(self) -> dict[str, list[Any]]:
        base = f"/{TEMPLATE}/".encode()
        self.looking.mkdir(base, 0o777)
        self.looking.mkdir(base + b"d", 0o777)
        self.looking.mkdir(base + b"empty", 0o777)
        for name in (b"f", b"g", b"d/x"):
            put(self.looking, base + name, b"old " + name)
        return {kind: list(self.database[f"fs.{kind}"].find()) for kind in ("chunks", "files", "nodes")}

    # --- what comes out -----------------------------------------------------------------------------------

    def state(self, base: bytes) -> State:
        """All that is there: path, what it is, content."""
        found = []
        for name, attrs in self.looking.opendir(base):
            if name in (b".", b".."):
                continue
            path, mode = base + name, attrs.permissions or 0
            if S_ISDIR(mode):
                found.append((path, f"{mode:o}", b""))
                found += self.state(path + b"/")
            elif S_ISLNK(mode):
                found.append((path, f"{mode:o}", self.looking.readlink(path)))
            else:
                handle = self.looking.open(path, os.O_RDONLY, 0)
                found.append((path, f"{mode:o}", self.looking.read(handle, 0, 1 << 20)))
                self.looking.close(handle)
        return tuple(sorted(found))

    def outcome(self, base: bytes, *doings: Doing) -> tuple[tuple[bool, ...], State]:
        for doing in doings:
            if doing.error is not None and not is_expected(doing.error):
                raise doing.error
        shown = tuple((path[len(base) :], kind, content) for path, kind, content in self.state(base))
        return tuple(doing.error is None for doing in doings), shown

    def serial(self, one: Operation, other: Operation) -> set[tuple[tuple[bool, ...], State]]:
        """What comes out of all the ways to take the steps of two operations in turns."""
        outcomes = set()
        counts = [self.counted(operation) for operation in (one, other)]
        for turns in itertools.combinations(range(sum(counts)), counts[0]):
            base = self.prepare()
            doings = Doing(one, self.first, base), Doing(other, self.second, base)
            for turn in range(sum(counts)):
                doings[turn not in turns].step()
            for doing in doings:
                doing.finish()
            outcomes.add(self.outcome(base, *doings))
        return outcomes

    def count(self, operation: Operation) -> int:
        """How many steps an operation has."""
        doing = Doing(operation, self.first, self.prepare())
        for number in itertools.count(1):
            doing.step()
            if doing.has_ended:
                return number
        raise AssertionError

    def alone(self, operation: Operation) -> State:
        base = self.prepare()
        doing = Doing(operation, self.first, base)
        doing.finish()
        return self.outcome(base, doing)[1]

    def interrupted(self, one: Operation, other: Operation, at: int) -> tuple[Any, bool]:
        """What comes out when other comes before a command of one; and whether there was such a command."""
        base = self.prepare()
        doings = Doing(one, self.first, base), Doing(other, self.second, base)
        thread = threading.Thread(target=doings[1].finish)

        def interrupt() -> None:
            thread.start()
            thread.join(BLOCKED)

        self.interruption.call, self.interruption.left = interrupt, at
        self.interruption.thread = threading.get_ident()
        try:
            doings[0].finish()
        finally:
            self.interruption.thread = None
        was_there = self.interruption.left <= 0
        if was_there:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive(), "they wait for each other")
        else:
            doings[1].finish()
        return self.outcome(base, *doings), was_there

    def crossed(
        self, one: Operation, other: Operation, at: int, upto: int, further: int
    ) -> tuple[Any, tuple[bool, bool, bool]]:
        """What comes out when other comes before command at of one's last step, but only up to before command
        upto of its own last step; the rest of it comes as many commands of one further on. And whether there
        were such commands.
        """
        base = self.prepare()
        doings = Doing(one, self.first, base), Doing(other, self.second, base)
        for doing, operation in zip(doings, (one, other), strict=True):
            for _ in range(self.counted(operation) - 1):
                doing.step()
        stopped, goes_on = threading.Event(), threading.Event()

        def second() -> None:
            self.pause.thread = threading.get_ident()
            try:
                doings[1].finish()
            finally:
                self.pause.thread = None
                stopped.set()

        def stop() -> None:
            stopped.set()
            goes_on.wait(PATIENCE)

        def begin() -> None:
            thread.start()
            stopped.wait(BLOCKED)
            self.interruption.call, self.interruption.left = end, further

        def end() -> None:
            goes_on.set()
            thread.join(BLOCKED)

        thread = threading.Thread(target=second)
        self.pause.call, self.pause.left = stop, upto
        self.interruption.call, self.interruption.left = begin, at
        self.interruption.thread = threading.get_ident()
        try:
            doings[0].finish()
        finally:
            self.interruption.thread = None
            goes_on.set()
        has_begun = thread.ident is not None
        if has_begun:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive(), "they wait for each other")
        else:
            doings[1].finish()
        came_further = has_begun and self.interruption.left <= 0
        return self.outcome(base, *doings), (has_begun, self.pause.left <= 0, came_further)

    def counted(self, operation: Operation) -> int:
        """How many steps an operation has; it is only tried once."""
        if operation not in self._counts:
            self._counts[operation] = self.count(operation)
        return self._counts[operation]

    def crossings(self, one: Operation, other: Operation) -> Iterator[str]:
        """What comes out of the ways to cross them that no serial order explains: all in `make test-hard`.

        Daily these are a twenty-fourth: there are hundreds of ways, each of some 20 commands.
        """
        allowed = self.serial(one, other)
        allowed |= {((True, False), self.alone(one)), ((False, True), self.alone(other))}
        self.damage()
        for at in range(1, MOST_COMMANDS, 1 if IS_HARD else 6):
            for upto in range(1, MOST_COMMANDS, EVERY_STEP):
                for further in range(1, MOST_COMMANDS, EVERY_STEP):
                    came, (has_begun, has_stopped, came_further) = self.crossed(one, other, at, upto, further)
                    texts = [] if came in allowed else [str(came)]
                    for text in texts + self.damage():
                        yield f"before command {at}, up to {upto}, and {further} further on: {text}"
                    if not came_further or not has_stopped:
                        break
                if not has_begun or not has_stopped:
                    break
            if not has_begun:
                return
        raise AssertionError(f"more than {MOST_COMMANDS} commands")

    def problems(self, one: Operation, other: Operation) -> Iterator[str]:
        """What comes out that no serial order explains, before all commands or every third one."""
        allowed = self.serial(one, other)
        self.damage()
        for at in range(1, MOST_COMMANDS, EVERY):
            came, was_there = self.interrupted(one, other, at)
            texts = self.damage()
            if came not in allowed:
                spurious = ((True, False), self.alone(one)), ((False, True), self.alone(other))
                texts.append(f"fails without need {came[0]}" if came in spurious else str(came))
                self.damage()
            yield from (f"before command {at}: {text}" for text in texts)
            if not was_there:
                return
        raise AssertionError(f"more than {MOST_COMMANDS} commands")

    def damage(self) -> list[str]:
        """What is wrong with the bucket, which is emptied."""
        texts = []
        files = {doc["_id"]: doc for doc in self.database["fs.files"].find()}
        counts = {
            group["_id"]: group["count"]
            for group in self.database["fs.chunks"].aggregate(
                [{"$group": {"_id": "$files_id", "count": {"$sum": 1}}}]
            )
        }
        names: dict[str, int] = {}
        for identity, doc in files.items():
            name = doc["filename"]
            names[name] = names.get(name, 0) + 1
            if counts.pop(identity, 0) != -(-doc["length"] // doc["chunkSize"]):
                texts.append(f"chunks of {name} are missing")
        if counts:
            texts.append(f"{len(counts)} files' chunks are orphans")
        if not self.keeps_revisions:
            texts += [f"{name} has {count} documents" for name, count in names.items() if count > 1]
        nodes = self.database["fs.nodes"].find({"path": {"$in": list(names)}})
        texts += [f"{node['path']} is a file and a {node['kind']}" for node in nodes]
        paths = {doc["path"]: doc for doc in self.database["fs.nodes"].find()}
        texts += [
            f"{path} is in nothing"
            for path, doc in paths.items()
            if doc["parent"] and doc["parent"] not in paths
        ]
        for collection in ("files", "chunks", "nodes"):
            self.database[f"fs.{collection}"].delete_many({})
        return texts
