"""Which addresses are in which networks."""

from __future__ import annotations

import unittest

from pysftpserver.service.networks import Networks
from pysftpserver.service.settings import networks, span


class Membership(unittest.TestCase):
    def test_an_address_is_in_a_network_however_it_is_written(self) -> None:
        some = Networks(["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"])
        for address in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::1%eth0", "198.51.100.7"):
            self.assertIn(address, some)
        for address in ("192.0.3.1", "2001:db9::1", "198.51.100.8", "?", "", "alice"):
            self.assertNotIn(address, some)

    def test_a_network_may_be_written_as_one_of_mapped_addresses(self) -> None:
        self.assertIn("192.0.2.9", Networks(["::ffff:192.0.2.0/120"]))
        self.assertNotIn("192.0.3.9", Networks(["::ffff:192.0.2.0/120"]))

    def test_an_address_with_a_zone_is_no_network(self) -> None:
        for text in ("fe80::1%eth0", 'fe80::1%a" x', "!::1%\nx", "fe80::%a/64"):
            with self.subTest(text), self.assertRaisesRegex(ValueError, "networks such as"):
                Networks([text])

    def test_denied_networks_go_before_allowed_ones(self) -> None:
        some = Networks(["10.0.0.0/8", "!10.1.0.0/16"])
        self.assertIn("10.2.0.1", some)
        self.assertNotIn("10.1.0.1", some)

    def test_with_denied_ones_alone_all_others_are_allowed(self) -> None:
        some = Networks(["!10.1.0.0/16"])
        self.assertIn("192.0.2.1", some)
        self.assertNotIn("10.1.0.1", some)
        self.assertNotIn("?", some)

    def test_no_networks_are_false_and_have_no_address(self) -> None:
        self.assertFalse(Networks(()))
        self.assertNotIn("192.0.2.1", Networks(()))

    def test_settings_take_networks_and_times_and_say_what_they_have_to_be(self) -> None:
        self.assertEqual(networks().parse("192.0.2.0/24, ::1"), ("192.0.2.0/24", "::1"))
        with self.assertRaisesRegex(ValueError, "networks such as"):
            networks().parse("192.0.2.0/24, example.net")
        times = {text: span(text) for text in ("90", "90s", "5m", "4h", "365d")}
        self.assertEqual(list(times.values()), [90, 90, 300, 14400, 31_536_000])
        for text in ("", "0", "m", "1w", "-1s", "1.5h", "366d", "9" * 30, "¹s"):
            with self.assertRaises(ValueError):
                span(text)
