"""The three ways into the jail: authorized_keys, ForceCommand and Subsystem. Other clients take the first.

The forced commands also have to hold against a client that asks for something else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.integration import material
from tests.integration.harness import ANY, ServedCase
from tests.integration.material import Material, permissions
from tests.integration.sshd import TARGET, Way
from tests.support.processes import Argument, command, require


def setUpModule() -> None:
    require("sftp", "scp")


if TYPE_CHECKING:
    Mixin = ServedCase
else:
    # No test case by itself, or it would be run without a way in.
    Mixin = object


class RoundTrips(Mixin):
    """What has to work each way; mixed into a ``ServedCase``."""

    def test_sftp_works_in_the_jail(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        data.odd_files(self.local / "tree" / "odd")
        run = self.sftp(
            *("pwd", "put -rp tree", "get -rp tree back", "rename tree/f tree/g", "ln -s /tree/g link"),
            *("chmod 600 tree/odd/1.bin", "mkdir d", "cp tree/odd/1.bin d/copy", "ls -1", "df", "rm link"),
            "ls -1 /",
        )
        material.assert_same_trees(self, self.local / "tree", self.local / "back", data.seed)
        self.assertEqual(run.lines[0], "Remote working directory: /")
        self.assertEqual(permissions(self.jail / "tree" / "odd" / "1.bin"), 0o600)
        self.assertEqual((self.jail / "d" / "copy").stat().st_size, 1)
        self.assertEqual(run.lines[-2:], ["/d", "/tree"])

    def test_scp_works_in_the_jail(self) -> None:
        data = Material()
        data.tree(self.local / "tree")
        scp: list[Argument] = ["scp", "-F", self.sshd.ssh_config, "-rp"]
        self.client([*scp, "tree", "server:/"])
        self.client([*scp, "server:/tree", "back"])
        material.assert_both_ways(self, "tree", data.seed)


class ForcedCommands(Mixin):
    """What a client must not get when a command is forced; mixed into a ``ServedCase``."""

    def test_a_client_that_asks_for_a_command_does_not_run_it(self) -> None:
        trace = self.outside / "trace"
        argv: list[Argument] = ["ssh", "-F", self.sshd.ssh_config, TARGET]
        for wanted in ([f"touch {trace}"], [f"; touch {trace}"], []):
            with self.subTest(wanted=wanted):
                run = self.client([*argv, *wanted], stdin=f"touch {trace}\n".encode(), status=ANY)
                self.assertEqual(run.out, "")
        self.assertEqual(os.listdir(self.outside), [])
        self.wait_until_no_server_is_left()

    def test_sftp_over_a_command_instead_of_a_subsystem_is_in_the_jail_too(self) -> None:
        (self.jail / "f").touch()
        run = self.sftp("pwd", "ls -1", flags=["-s", "/any/command"])
        self.assertEqual(run.lines, ["Remote working directory: /", "f"])
        self.assertEqual(run.err, "")


class TestAuthorizedKeys(RoundTrips, ForcedCommands, ServedCase):
    way = Way.AUTHORIZED_KEYS


class TestForceCommand(RoundTrips, ForcedCommands, ServedCase):
    way = Way.FORCE_COMMAND


class TestSubsystem(RoundTrips, ServedCase):
    way = Way.SUBSYSTEM


class TestStartupErrors(ServedCase):
    """A server that cannot start: the client gets one line, which names no path of the host.

    For which reasons it does not is in tests/cli.
    """

    def test_an_ssh_client_gets_status_2_and_one_line_and_an_sftp_client_is_turned_away(self) -> None:
        missing = command("pysftpjail", "--logfile", self.server_log, self.jail / "missing")
        for server in (missing, self.jail_command("--no-such-option")):
            with self.subTest(server):
                self.serve(server)
                run = self.client(["ssh", "-F", self.sshd.ssh_config, TARGET], status=2)
                self.assertEqual(run.out, "")
                self.assertRegex(run.err, r"\Apysftpjail: [^\n]+\n\Z")
                self.assertIn("Connection closed", self.sftp("pwd", status=255).err)
        self.wait_until_no_server_is_left()
