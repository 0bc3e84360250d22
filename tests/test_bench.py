"""The benchmark: its tables say what was missed, and its rows on GridFS work, on very little."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from bench import (
    delay,
    distance,
    drivers,
    gridfs,
    laboratory,
    mounts,
    objects,
    proxy,
    pysftpd,
    remo,
    site,
    sksync,
    stored,
    warm,
    webdav,
    webdav_sides,
)
from bench.gridfs import GROUP, MIB, Sizes
from bench.run import (
    SERVERS,
    Memory,
    Result,
    durations,
    measure_door,
    measure_gridfs,
    memory_line,
    tables,
)
from tests.sshd.inprocess import asynchronous
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

LITTLE = Sizes(transfer=4 * MIB, sought=4 * MIB, reads=20, names=20, others=200, many=200)
WITHOUT_A_DRIVER = "import sys; sys.modules['pymongo'] = sys.modules['gridfs'] = None; "
WITHOUT_A_DATABASE = """
from bench import gridfs_sides
from pysftpserver.storages.embedded import EmbeddedFailed
def no_database(directory):
    raise EmbeddedFailed("SecantusDB is missing: install it")
gridfs_sides.EmbeddedMongo = no_database
"""
RUN = "import sys; from bench.run import main; sys.exit(main())"


def result(name: str, ratio: float, **known) -> Result:
    """Ours took two seconds."""
    given = {"target": None, "most": None, "limit": None, "contenders": SERVERS, **known}
    spreads = {"spread_reference": 0.1, "spread_ours": 0.2, "note": ""}
    return Result(name=name, reference=2 * ratio, ours=2.0, ratio=ratio, **spreads, **given)


class Tables(unittest.TestCase):
    def test_a_target_that_was_missed_is_called_that(self):
        rows = tables(
            [
                result("reached", 0.81, target=0.80),
                result("too slow", 0.79, target=0.80),
                result("small enough", 1.30, most=1.30),
                result("too large", 1.31, most=1.30),
                result("without", 0.10),
            ]
        ).splitlines()[2:]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        self.assertEqual(
            {row[0]: row[4] for row in cells},
            {
                "reached": "0.80",
                "too slow": "0.80 missed",
                "small enough": "at most 1.30",
                "too large": "at most 1.30 missed",
                "without": "",
            },
        )

    def test_every_pair_of_contenders_has_a_table_and_only_one_with_limits_has_their_column(self):
        text = tables(
            [
                result("one", 1.5, limit=0.5),
                result("two", 1.5),
                result("three", 1.5, contenders=("their", "our")),
            ]
        )
        one, two = (table.splitlines() for table in text.split("\n\n"))
        self.assertEqual(
            one[0], "| work | sftp-server | pysftpjail | ratio | target | spread | no protocol |"
        )
        self.assertEqual(two[0], "| work | their | our | ratio | target | spread |")
        self.assertEqual(one[2], "| one | 3.000 s | 2.000 s | 1.50 |  | 10% / 20% | 0.500 s |")
        for table in (one, two):
            self.assertEqual(len({row.count("|") for row in table}), 1)

    def test_very_short_times_are_in_microseconds(self):
        self.assertEqual(durations(0.05, 0.000_5), ["50,000 µs", "500 µs"])
        self.assertEqual(durations(0.05, 0.005), ["0.050 s", "0.005 s"])

    def test_memory_has_to_stay_below_its_target(self):
        self.assertEqual(
            memory_line(Memory("here", 60 * MIB - 1, 60 * MIB)), "here: 60.0 MiB, target below 60"
        )
        self.assertTrue(memory_line(Memory("here", 60 * MIB, 60 * MIB)).endswith("below 60 missed"))
        self.assertEqual(memory_line(Memory("here", 3 * MIB // 2)), "here: 1.5 MiB")


class MeasuredCase(unittest.TestCase):
    def measured(self, module: Any, little: Any, measure: Any = None) -> tuple[list[Result], list[Memory]]:
        """Every row of a group, measured once, and the memory that belongs to them."""
        measure = measure or partial(measure_door, module)
        with tempfile.TemporaryDirectory() as directory:
            results, memory = measure(Path(directory), 1, module.GROUP, little)
        names = [contest.name for contest in module.contests(little)]
        self.assertEqual([row.name for row in results[: len(names)]], names)
        for row in results:
            with self.subTest(row.name):
                self.assertIn(module.GROUP, row.name)
                self.assertGreater(min(row.reference, row.ours), 0)
        return results, memory


class OnSKSync(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts all servers of the group: only in make test-hard")
    def test_every_row_can_be_measured_and_directions_are_compared(self):
        little = sksync.Sizes(files=9, each=1000, big=4 * MIB)
        results, memory = self.measured(sksync, little)
        self.assertEqual(memory, [])
        compared = [row for row in results if row.contenders == sksync.DIRECTIONS[:2]]
        self.assertEqual((len(results) - len(list(sksync.contests(little))), len(compared)), (5, 5))
        for row in compared:
            self.assertAlmostEqual(row.ratio, row.reference / row.ours)

    def test_small_files_may_take_four_times_as_long_and_what_two_interpreters_take(self):
        for seconds in (0.02, 0.1, 3.0):
            self.assertAlmostEqual(seconds / sksync.small_target(seconds), 4 * seconds + 0.15)


class OnRemo(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts all servers of the group: only in make test-hard")
    def test_every_row_can_be_measured_and_the_growth_of_the_server(self):
        little = remo.Sizes(transfer=8 * MIB, commands=3)
        results, memory = self.measured(remo, little)
        self.assertEqual(len(results), len(list(remo.contests(little))))
        self.assertEqual([known.most for known in memory], [remo.MOST_GROWTH])

    def test_commands_are_to_come_to_two_hundred_a_second(self):
        contest = list(remo.contests(remo.Sizes()))[-1]
        measured = result(contest.name, 0.5)  # the reference took one second
        found = remo.with_target(contest, measured)
        # With that ratio, the 400 of them take two seconds.
        self.assertAlmostEqual(found.reference / (found.target or 0), 400 / 200)


class OnWebDAV(MeasuredCase):
    @unittest.skipUnless(IS_HARD and webdav_sides.MODULE.exists(), "it needs nginx: only in make test-hard")
    def test_every_row_can_be_measured_and_the_growth_of_the_server(self):
        little = webdav.Sizes(transfer=8 * MIB, entries=20, listings=1)
        results, memory = self.measured(webdav, little)
        self.assertEqual(len(results), len(list(webdav.contests(little))))
        self.assertEqual([known.most for known in memory], [webdav.MOST_GROWTH])


class OnWhatIsStored(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "each server is started twice: only in make test-hard")
    def test_every_row_can_be_measured(self):
        little = stored.Sizes(synced=20, files=3, each=1000)
        results, memory = self.measured(stored, little)
        self.assertEqual((len(results), memory), (len(list(stored.contests(little))), []))

    def test_syncing_may_add_a_second_to_a_sync(self):
        contest = next(stored.contests(stored.Sizes()))
        found = stored.with_target(contest, result(contest.name, 0.25))  # the reference took half a second
        self.assertAlmostEqual(found.reference / (found.target or 0), 0.5 + 1.0)

    def test_the_command_that_does_not_sync_is_ours_in_all_else(self):
        python, script, *command = drivers.unsynced_command("pysftpjail")
        done = subprocess.run(
            [python, script, *command, "--list-requests"], capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual((done.returncode, done.stdout.split()[0]), (0, "open"), done.stderr)


class OnPysftpd(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts all servers of the group: only in make test-hard")
    def test_every_row_can_be_measured_and_the_memory_of_idle_sessions(self):
        little = pysftpd.Sizes(  # a smaller part costs less than the kernel counts
            transfer=4 * MIB, part=64 * MIB, clients=2, logins=2, idle=4, working=2, rest=1
        )
        results, memory = self.measured(pysftpd, little)
        self.assertEqual(len(results), len(list(pysftpd.contests(little))))
        self.assertEqual(len(memory), len(pysftpd.IDLE))
        for idle in memory:
            self.assertIn("4 idle sessions", idle.name)
            self.assertGreater(idle.size, 2 * MIB)


class OverADistance(MeasuredCase):
    @unittest.skipUnless(IS_HARD and shutil.which("rclone"), "it starts three servers: make test-hard")
    def test_every_row_can_be_measured(self):
        little = distance.Sizes(trips=(4,), transfers=(4 * MIB,), files=3)
        results, memory = self.measured(distance, little)
        self.assertEqual((len(results), memory), (len(list(distance.contests(little))), []))

    @asynchronous
    async def test_the_proxy_delays_what_passes_in_both_directions_and_changes_nothing(self):
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(MIB):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        client, theirs = socket.socketpair()
        theirs.setblocking(False)
        passing = asyncio.create_task(delay.served(theirs, server.sockets[0].getsockname()[1], 0.05))
        reader, writer = await asyncio.open_connection(sock=client)
        sent = random.randbytes(3 * MIB)
        began = time.monotonic()
        writer.write(sent)
        first = await reader.readexactly(1)
        self.assertGreaterEqual(time.monotonic() - began, 0.1)
        writer.write_eof()
        self.assertEqual(first + await reader.read(-1), sent)
        writer.close()
        await passing
        server.close()


class OnWarm(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts all servers of the group: only in make test-hard")
    def test_every_row_can_be_measured_and_has_the_ratio_of_its_greatest_time(self):
        little = warm.Sizes(starts=1, sessions=1, at_once=1)
        results, memory = self.measured(warm, little)
        self.assertEqual((len(results), memory), (len(list(warm.contests(little))), []))
        for contest, row in zip(warm.contests(little), results, strict=True):
            if contest.most is not None:
                self.assertAlmostEqual(row.reference / row.target, contest.most)


class OnObjects(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts all servers of the group: only in make test-hard")
    def test_every_row_can_be_measured_and_the_memory_with_it(self):
        little = objects.Sizes(transfer=MIB, keys=10, files=10, each=1024)
        results, memory = self.measured(objects, little)
        self.assertEqual((len(results), len(memory)), (len(list(objects.contests(little))), 2))


@unittest.skipUnless(IS_HARD, "tests/integration/test_proxy.py goes the same ways")
class OnTheProxy(MeasuredCase):
    def test_every_row_can_be_measured(self):
        little = proxy.Sizes(transfer=4 * MIB, files=2, names=2)
        results, memory = self.measured(proxy, little)
        self.assertEqual((len(results), memory), (len(list(proxy.contests(little))), []))


class OnMounts(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts sixteen servers: only in make test-hard")
    def test_every_row_can_be_measured(self):
        little = mounts.Sizes(file=MIB, times=1)
        results, memory = self.measured(mounts, little)
        self.assertEqual((len(results), memory), (len(list(mounts.contests(little))), []))


class OnSites(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts many servers: only in make test-hard")
    def test_every_row_can_be_measured(self):
        little = site.Sizes(file=MIB, times=1, stats=100)
        results, memory = self.measured(site, little)
        self.assertEqual((len(results), memory), (len(list(site.contests(little))), []))


class OnLaboratory(MeasuredCase):
    def test_every_row_can_be_measured_and_what_is_lost_is_found(self):
        little = laboratory.Sizes(clients=5, messages=20, length=100, connections=4)
        results, memory = self.measured(laboratory, little)
        self.assertEqual((len(results), memory), (len(list(laboratory.contests(little))), []))

    def test_an_answer_that_is_lost_or_not_in_its_order_is_found(self):
        from bench.laboratory_sides import Sides, started

        with tempfile.TemporaryDirectory() as directory:
            little = laboratory.Sizes(clients=2, messages=3, connections=1)
            with started(Path(directory), little) as sides:
                self.assertIsInstance(sides, Sides)
                sides._answers.reverse()
                with self.assertRaisesRegex(RuntimeError, "not in its order"):
                    sides.echoed("encrypted", 3)


class OnGridFS(MeasuredCase):
    @unittest.skipUnless(IS_HARD, "it starts all servers of the group: only in make test-hard")
    def test_every_row_can_be_measured(self):
        from bench import gridfs_sides

        with (
            tempfile.TemporaryDirectory() as directory,
            gridfs_sides.EmbeddedMongo(Path(directory, "data")) as server,  # one for all rows
            mock.patch.object(gridfs_sides, "EmbeddedMongo", return_value=nullcontext(server)),
        ):
            results, memory = self.measured(gridfs, LITTLE, measure_gridfs)
        self.assertEqual((len(results), len(memory)), (len(list(gridfs.contests(LITTLE))), 3))
        for known in memory:
            with self.subTest(known.name):
                self.assertGreater(known.size, 0)
                self.assertLess(known.size, 200 * MIB)

    def test_no_database_is_started_for_rows_that_are_not_wanted(self):
        with tempfile.TemporaryDirectory() as directory:
            self.assertEqual(measure_gridfs(Path(directory), 1, "session start", LITTLE), ([], []))

    def test_a_word_that_no_row_has_is_said_to_be_one(self):
        done = subprocess.run(
            [sys.executable, "-c", RUN, "--only", f"{GROUP} nothing"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(
            (done.returncode, done.stdout, done.stderr),
            (1, "", f"No row has '{GROUP} nothing' in its name\n"),
        )

    def test_what_is_not_installed_is_one_line_and_no_traceback(self):
        for name, code in (("driver", WITHOUT_A_DRIVER), ("database", WITHOUT_A_DATABASE)):
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                report = Path(directory, "bench.json")
                done = subprocess.run(
                    [sys.executable, "-c", code + RUN, "--only", GROUP, "--json", report],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, r"\AThe rows on gridfs are left out: .*install.*\n\Z")
                self.assertFalse(report.exists())
