"""Patterns, held against a slow and simple reference."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import time
import unittest

from pysftpserver.site.patterns import Pattern, check_name, check_path, names_of
from tests.support.examples import given, settings, st
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT

EXAMPLES = 5000 if IS_HARD else 30
PIECES = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[]]", "[*]"]), min_size=1, max_size=4)
NAME_PATTERNS = PIECES.map("".join).filter(lambda name: "**" not in name)
PATTERNS = st.lists(st.one_of(st.just("**"), NAME_PATTERNS), max_size=5).map(
    lambda names: "/" + "/".join(names)
)
NAMES = st.lists(st.text("ab]*", min_size=1, max_size=4), max_size=5)


LOCALE = r"""
from pysftpserver.site.patterns import Patterns
from pysftpserver.site.who import Who
print(Patterns(["/caf\u00e9/**"], Who("al")).matches("/caf\u00e9/x".encode()))
"""


def reference(pattern: list[str], names: list[str]) -> bool:
    """Whether they match, by trying everything."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(reference(pattern[1:], names[count:]) for count in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and reference(pattern[1:], names[1:])


class AgainstTheReference(unittest.TestCase):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(PATTERNS, NAMES)
    def test_it_matches_what_the_reference_matches(self, text: str, names: list[str]) -> None:
        check_path(text)
        self.assertEqual(Pattern(text).matches(names), reference(names_of(text), names))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(PATTERNS, NAMES, NAMES, NAMES)
    def test_what_is_below_is_decided_by_the_states(
        self, text: str, one: list[str], other: list[str], below: list[str]
    ) -> None:
        pattern = Pattern(text)
        if pattern.states(one) == pattern.states(other):
            self.assertEqual(pattern.matches(one + below), pattern.matches(other + below))
        if below and pattern.matches(one + below):
            self.assertTrue(pattern.reaches_below(one))
        if pattern.is_deep and pattern.matches(one):
            self.assertTrue(pattern.matches(one + below))

    def test_no_path_takes_long(self) -> None:
        deep = Pattern("/" + "**/a*a*a*a*b/" * 8 + "x")
        names = ["a" * 250] * 16
        began = time.process_time()
        self.assertFalse(deep.matches(names))
        self.assertLess(time.process_time() - began, 1)

    def test_what_is_no_pattern(self) -> None:
        for text in ("a", "", "/a/../b", "/./a", "/a**", "/**a/b", "/[a", "/a[!]", "/{name}", "/a\0"):
            self.assertRaises(ValueError, check_path, text)
        for text in ("", "a/b", "[", "{x}"):
            self.assertRaises(ValueError, check_name, text)
        for text in ("/", "/**", "/a/**/b", "/[]]", "/[!]]", "/[[]", "/{user}-{group}/x", "/]"):
            check_path(text)


class Locale(unittest.TestCase):
    def test_paths_are_utf8_whatever_locale_a_client_asks_sshd_for(self) -> None:
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", LOCALE],
            env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.stdout, "True\n", done.stderr)
