"""How a session begins and ends: INIT, broken lengths, the end of input; and the exit status then.

The reference ends a session that it cannot go on with by exit status 255 or 11; for ours anything but 0.
"""

import unittest
from collections.abc import Sequence
from typing import ClassVar

from . import packets
from .compare import DROP_IN, JAIL, Pair, Server
from .packets import ATTRS, VERSION
from .session import Session, SessionEnded

INIT = packets.packet(packets.INIT, packets.u32(3))
STAT = packets.packet(packets.REQUEST_TYPES["stat"], packets.u32(1) + packets.string(b"f"))


class Sessions:
    candidate: ClassVar[Server]

    def agree(self, *exchanges: tuple[bytes, int | None], well: bool) -> None:
        """Both must answer each piece with a packet of this type (None: not at all), and then exit.

        `well` is whether they exit with 0. The next piece is sent when the reply to the last is there: a
        server that ends takes along what it has sent and nobody has read.
        """
        with Pair(self.candidate) as pair:
            pair.end()
            for side in pair.sides:
                with side.start() as session:
                    types, status = _exchange(session, exchanges)
                expected = [kind for _, kind in exchanges if kind is not None]
                self.assertEqual((types, status == 0), (expected, well), side.server.name)

    def test_init_of_any_version_is_answered(self):
        for version in (0, 1, 2, 3, 4, 6, (1 << 32) - 1):
            with self.subTest(version=version):
                hello = packets.packet(packets.INIT, packets.u32(version))
                self.agree((hello, VERSION), (STAT, ATTRS), well=True)

    def test_init_with_extensions_is_answered(self):
        body = packets.u32(3) + packets.string(b"name@example.com") + packets.string(b"1")
        self.agree((packets.packet(packets.INIT, body), VERSION), (STAT, ATTRS), well=True)

    def test_a_second_init_is_answered_again(self):
        self.agree((INIT, VERSION), (STAT, ATTRS), (INIT, VERSION), (STAT, ATTRS), well=True)

    def test_a_request_before_init_ends_the_session(self):
        self.agree((STAT + INIT, None), well=False)
        self.agree((packets.packet(99, packets.u32(1)) + INIT, None), well=False)

    def test_an_init_that_is_cut_short_ends_the_session(self):
        self.agree((packets.packet(packets.INIT, b"\0\0") + STAT, None), well=False)

    def test_a_packet_of_262144_bytes_is_served_and_a_longer_one_ends_the_session(self):
        start = packets.u32(1) + packets.string(b"f")
        body = start + b"\0" * (262144 - 1 - len(start))
        stat = packets.REQUEST_TYPES["stat"]
        self.agree((INIT, VERSION), (packets.packet(stat, body), ATTRS), well=True)
        self.agree((INIT, VERSION), (packets.packet(stat, body + b"\0"), None), well=False)
        self.agree((INIT, VERSION), (b"\xff\xff\xff\xff\x11", None), well=False)

    def test_a_packet_too_short_for_its_id_ends_the_session(self):
        for size in (0, 1, 4):
            with self.subTest(size=size):
                short = packets.u32(size) + (b"\x11" + b"\0" * 8)[:size]
                self.agree((INIT, VERSION), (short + STAT, None), well=False)

    def test_the_end_of_input_ends_the_session_well_even_within_a_packet(self):
        self.agree(well=True)
        for rest in (b"", STAT[:3], STAT[:9]):
            with self.subTest(rest=rest):
                self.agree((INIT, VERSION), (rest, None), well=True)


def _exchange(session: Session, exchanges: Sequence[tuple[bytes, int | None]]) -> tuple[list[int], int]:
    """The types of all replies, and the exit status."""
    types = []
    try:
        for data, kind in exchanges:
            session.send(data)
            if kind is not None:
                types.append(session.receive()[0])
        session.stop_sending()
        while True:
            types.append(session.receive()[0])
    except SessionEnded:
        pass
    return types, session.end()


class OfTheDropIn(Sessions, unittest.TestCase):
    candidate = DROP_IN


class OfTheJail(Sessions, unittest.TestCase):
    candidate = JAIL
