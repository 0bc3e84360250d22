"""The measurements of a probe, in this process, by a clock that only the line to the server moves."""

from __future__ import annotations

import unittest
from unittest import mock

from pysftpserver.contract.client import Client, Closed
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.probe import speed
from pysftpserver.probe.results import Figure
from tests.support.memory import SFTPServerMemoryStorage

DIRECTORY = b"/measured"
TRIP = 0.05  # seconds
SMALL = {"FILE": 1 << 18, "SIZES": (1 << 12, 1 << 15, 1 << 18, 1 << 20), "NAMES": 64, "HANDLES": 20}


class Clock:
    """Seconds that pass when a line says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Distant:
    """A line to a server that is a round trip away: what was sent until then is answered together.

    most: number of requests after which it ends.
    """

    def __init__(self, storage: SFTPServerMemoryStorage, clock: Clock, most: float = float("inf")) -> None:
        self._line = ServerLine(storage)
        self._clock = clock
        self._left = most

    def send(self, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise Closed("the line has ended")
        self._line.send(data)

    def receive(self, seconds: float) -> bytes:
        self._clock.now += TRIP
        return self._line.receive(seconds)

    def close(self) -> None:
        self._line.close()


class SpeedCase(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.storage = SFTPServerMemoryStorage()
        for name, value in {**SMALL, "ROUND_BYTES": 1 << 20}.items():
            self.enterContext(mock.patch.object(speed, name, value))
        client = self.session()
        client.mkdir(DIRECTORY)
        client.close()

    def session(self, most: float = float("inf")) -> Client:
        client = Client(Distant(self.storage, self.clock, most))
        client.hello()
        return client

    def measure(self, budget: float = 1000.0, figures: list[Figure] | None = None) -> dict[str, Figure]:
        """The figures by name; the directory is found empty afterwards."""
        self.progress: list[str] = []
        client = self.session()
        found = speed.measure(
            client,
            lambda: Distant(self.storage, self.clock),
            DIRECTORY,
            budget,
            self.progress.append,
            figures,
            self.clock,
        )
        self.assertEqual([name for name, _, _ in client.listing(DIRECTORY) if name.strip(b".")], [])
        return {figure.name: figure for figure in found}


class Figures(SpeedCase):
    figures: dict[str, Figure]

    def setUp(self) -> None:
        super().setUp()
        if not hasattr(Figures, "figures"):  # one measurement is enough for all
            Figures.figures = self.measure()

    def test_the_round_trip_is_shown_and_taken_out_of_what_is_asked_one_at_a_time(self) -> None:
        self.assertAlmostEqual(self.figures["round trip"].value, TRIP * 1000)
        alone = [figure for name, figure in self.figures.items() if name.endswith(", one at a time")]
        self.assertEqual(len(alone), 11)
        for figure in alone:
            with self.subTest(figure.name):
                self.assertAlmostEqual(figure.value, 0)
        pipelined = [figure for name, figure in self.figures.items() if name.endswith(", pipelined")]
        self.assertEqual(len(pipelined), 11)
        for figure in pipelined:
            with self.subTest(figure.name):
                self.assertLess(figure.value, TRIP * 1000 / 10)

    def test_what_is_announced_is_beside_what_is_taken(self) -> None:
        for name in (
            "longest READ answered whole",
            "longest WRITE",
            "longest packet",
            "open handles, of 20 tried",
        ):
            with self.subTest(name):
                self.assertGreater(self.figures[name].announced or 0, 0)
                self.assertGreater(self.figures[name].value, 0)
        self.assertEqual(self.figures["longest READ answered whole"].value, 255 << 10)
        taken = self.figures["longest packet"]
        self.assertGreaterEqual(taken.value, (taken.announced or 0) - speed.CLOSENESS)

    def test_throughput_is_measured_by_size_as_far_as_the_server_takes_it(self) -> None:
        for name in "READ of 4 KiB", "WRITE of 4 KiB", "READ of 32 KiB", "WRITE of 32 KiB":
            with self.subTest(name):
                self.assertEqual(self.figures[name].unit, "MB/s")
                self.assertGreater(self.figures[name].value, 0)
        self.assertNotIn("READ of 1024 KiB", self.figures)
        self.assertEqual(self.figures["READDIR"].unit, "names/s")


class Speed(SpeedCase):
    def test_nothing_is_begun_after_its_time(self) -> None:
        budget = 10.0
        self.measure(budget)
        # A part that has begun does its least: some requests of one kind, a round of transfers.
        self.assertLess(self.clock.now, budget + 4)
        self.assertEqual(len(self.progress), 6)

    def test_a_kind_that_is_refused_has_no_figure(self) -> None:
        with mock.patch.object(self.storage, "rename", side_effect=PermissionError(1, "no")):
            figures = self.measure()
        self.assertIn("REMOVE, pipelined", figures)
        self.assertNotIn("RENAME, pipelined", figures)

    def test_figures_before_a_failure_are_kept(self) -> None:
        found: list[Figure] = []
        client = self.session(most=200)
        with self.assertRaises(Closed):
            speed.measure(client, lambda: Distant(self.storage, self.clock), DIRECTORY, 1000.0, figures=found)
        self.assertEqual(found[0].name, "round trip")
