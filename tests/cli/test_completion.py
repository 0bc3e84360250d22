"""Completion as bash, zsh and fish do it: daily by bash's function, in full in shells on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE
from tools.manual import completion
from tools.manual.commands import declaration, programs

#: What is typed, in a directory with what is in HERE, and what is offered then, among other things.
HERE = ("here-a/", "here-b/", "file.log", "site.toml")
OFFERED: dict[str, set[str]] = {
    "pysftpctl ": {"list", "deactivate", "bans", "help"},
    "pysftpctl --config file.log b": {"bans"},
    "pysftpctl bans --a": {"--add", "--admin-socket"},
    "pysftpctl help ba": {"bans"},
    "pysftpctl change bob --active ": {"yes", "no"},
    "pysftpctl add --run-as roo": {"root"},
    "pysftp-users --group roo": {"root"},
    "pysftpctl add --storage ": {"jail:", "s3://", "gridfs:", "site.toml"},
    "pysftpctl add --storage jail:h": {"here-a", "here-b"},
    "pysftpsite jail:h": {"here-a", "here-b"},
    "pysftpsite --log": {"--logfile", "--log-level"},
    "pysftpjail ": {"here-a", "here-b"},
    "pysftpjail --logfile f": {"file.log"},
    "pysftpjail --log-level ": {"QUIET", "VERBOSE"},
    "pysftpjail --log-level=V": {"VERBOSE"},
    "pysftpjail -p open,read": {"readdir", "readlink"},
    "pysftpserver -Q ": {"requests"},
    "pysftpremo users ": {"add", "remove"},
    "pysftpremo users add --per": {"--permissions"},
    "pysksync ": {"client", "make-cert", "file.log"},
    "pysksync client --dry": {"--dry-run"},
    "pysftpd --isolation ": {"process", "thread"},
}
#: What is not: by the same line.
NOT_OFFERED: dict[str, set[str]] = {
    "pysftpctl ": {"--config", "file.log", "here-a"},
    "pysftpctl bans --a": {"--active", "--add-key"},
    "pysftpjail ": {"file.log"},
    "pysftpctl add --storage ": {"file.log"},
    "pysftpjail --log-level ": {"file.log", "DEBUG3"},
}
PROMPT = "<prompt>"
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?<>=]*[a-zA-Z]|[()][0-9A-B]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[=>78])")


class InADirectory(unittest.TestCase):
    """Has the files for completion in place/share, and place/here to be in."""

    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.share = self.place / "share"
        for name, text in completion.files().items():
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.here = self.place / "here"
        for name in HERE:
            path = self.here / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.touch()


class Bash(InADirectory):
    def offered(self, *lines: str) -> dict[str, list[str]]:
        """What the functions for bash offer for each line."""
        script = ["compopt() { :; }", 'for file in "$1"/*; do . "$file"; done']
        for line in lines:
            words = [*re.findall(r"[^\s:=]+|[:=]+", line), *([""] if line[-1].isspace() else [])]
            script += [
                f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}",
                f"COMP_WORDS=({shlex.join(words)})",
                completion.function_name(words[0]),
                "printf '%s\\n' \"${COMPREPLY[@]}\" =====",
            ]
        done = subprocess.run(
            ["bash", "--norc", "-c", "\n".join(script), "bash", self.share / "bash-completion/completions"],
            cwd=self.here,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(done.stderr, "")
        replies = done.stdout.split("=====\n")
        return {line: reply.split() for line, reply in zip(lines, replies, strict=False)}

    def test_offers_what_may_stand_in_a_place(self):
        for line, words in self.offered(*OFFERED).items():
            last = re.split(r"[\s=:]", line)[-1]
            with self.subTest(line):
                shown = {word.rpartition(",")[2] for word in words}
                self.assertLessEqual(OFFERED[line], shown)
                self.assertEqual(shown & NOT_OFFERED.get(line, set()), set())
                self.assertTrue(all(word.startswith(last) for word in words), words)

    def test_offers_all_options_and_subcommands_of_every_command_and_no_others(self):
        flags, commands = {}, {}
        for program in programs():
            for place in completion.places_of(declaration(program)):
                line = " ".join((program.name, *place.words))
                flags[f"{line} --"] = {
                    flag for choice in place.options for flag in choice.flags if flag.startswith("--")
                }
                if place.commands and not place.arguments:
                    commands[f"{line} "] = {word for word, _ in place.commands}
        for wanted in (flags, commands):
            for line, words in self.offered(*wanted).items():
                with self.subTest(line):
                    self.assertEqual(set(words), wanted[line])

    def test_a_file_s_name_is_quoted_where_readline_inserts_it_as_it_is(self):
        (self.here / "e$(touch ran).toml").touch()
        (offered,) = self.offered("pysftpctl add --storage e").values()
        typed = subprocess.run(
            ["bash", "-c", f"printf %s {' '.join(offered)}"], cwd=self.here, capture_output=True, text=True
        )
        self.assertEqual(typed.stdout, "e$(touch ran).toml")
        self.assertNotIn("ran", os.listdir(self.here))

    def test_offers_nothing_where_anything_may_stand_and_no_options_behind_two_dashes(self):
        lines = ("pysftpctl bans --for ", "pysftpctl add ", "pysftpremo exec host -- --", "pysftpctl --nope=")
        self.assertEqual(self.offered(*lines), dict.fromkeys(lines, []))


@unittest.skipUnless(IS_HARD, "make test-hard types into bash, zsh and fish")
class OnATerminal(InADirectory):
    def test_bash_offers_what_may_stand_in_a_place(self):
        files = self.share / "bash-completion/completions"
        setup = [
            "bind 'set show-all-if-ambiguous on'; bind 'set completion-query-items 0'; PS1='> '",
            f"for file in {files}/*; do . $file; done",
        ]
        self.try_in(["bash", "--norc", "--noprofile", "-i"], setup, "\t")

    def test_zsh_offers_what_may_stand_in_a_place(self):
        setup = [
            f"PS1='> ' LISTMAX=10000; unsetopt prompt_sp; fpath=({self.share}/zsh/site-functions $fpath)",
            f"autoload -Uz compinit && compinit -u -d {self.place}/dump",
        ]
        self.try_in(["zsh", "-f", "-i"], setup, "\x04")

    def test_fish_offers_what_may_stand_in_a_place(self):
        setup = [
            f"set -p fish_complete_path {self.share}/fish/vendor_completions.d",
            "function fish_prompt; echo '> '; end",
        ]
        self.try_in(["fish", "--no-config", "--interactive"], setup, "\t")

    def test_fish_offers_nothing_else(self):
        path = f"set -p fish_complete_path {self.share}/fish/vendor_completions.d"
        for line, words in NOT_OFFERED.items():
            with self.subTest(line):
                done = subprocess.run(
                    ["fish", "--no-config", "-c", f"{path}; complete -C {shlex.quote(line)}"],
                    cwd=self.here, env=self.variables(), capture_output=True, text=True, timeout=PATIENCE,
                )  # fmt: skip
                offered = {one.partition("\t")[0] for one in done.stdout.splitlines()}
                offered |= {one.rstrip("/") for one in offered}
                self.assertLessEqual(OFFERED[line], offered, done.stderr)
                self.assertEqual(offered & words, set())

    def variables(self) -> dict[str, str]:
        """The environment, with commands that are there: fish completes no others."""
        commands = self.place / "bin"
        commands.mkdir(exist_ok=True)
        for program in programs():
            command = commands / program.name
            command.touch()
            command.chmod(0o755)
        return {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "HOME": str(self.place),
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
        }

    def try_in(self, shell: list[str], setup: list[str], key: str) -> None:
        """Type each line into a shell, press a key, and wait for what is to appear."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *shell],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=self.here, env=self.variables(),
        )  # fmt: skip
        os.close(theirs)
        try:
            for line in setup:
                os.write(ours, line.encode() + b"\r")
            os.write(ours, b"echo RE''ADY\r")
            self.wait_for(ours, {f"READY{PROMPT}"})
            for line, words in OFFERED.items():
                with self.subTest(line):
                    os.write(ours, line.encode() + key.encode())
                    self.wait_for(ours, words, line)
                os.write(ours, b"\x15echo NE''XT\r")  # in place of the line
                self.wait_for(ours, {f"NEXT{PROMPT}"})
        finally:
            process.kill()
            process.wait(PATIENCE)

    def wait_for(self, descriptor: int, words: set[str], typed: str = "") -> None:
        """Read until all words were shown, besides what is typed."""
        shown, end = "", time.monotonic() + PATIENCE
        missing = words
        while missing and time.monotonic() < end:
            if select.select([descriptor], [], [], 0.2)[0]:
                shown += os.read(descriptor, 65536).decode(errors="replace")
                # The line end that a prompt follows: only then is the terminal the shell's.
                text = re.sub(r"\r\n[\s⏎]*> ", PROMPT, ESCAPES.sub("", shown))
                missing = {word for word in words if word not in text}
        self.assertEqual(missing, set(), ESCAPES.sub("", shown)[-2000:])
