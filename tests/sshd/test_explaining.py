"""pysftpctl explain: whether a user can log in, and why not."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

from pysftpserver.cli.pysftpctl import COMMANDS
from pysftpserver.failures import BadInput
from tests.sshd.certifying import WorkshopCase
from tests.sshd.running import write_private
from tests.support.forked import run
from tests.support.processes import command


class Explaining(WorkshopCase):
    def setUp(self) -> None:
        self.place = self.workshop.place
        self.files = self.place / "files"
        (self.files / "alice").mkdir(parents=True, exist_ok=True)
        self.revoked = self.place / "revoked"
        self.revoked.write_text("")
        self.public = self.key.with_suffix(".pub")
        self.users("alice", keys=[self.public.read_text().strip()])

    def users(self, name: str, **fields: object) -> None:
        lines = [f"{field} = {json.dumps(value)}" for field, value in fields.items()]
        write_private(self.place / "users.toml", "\n".join([f"[users.{name}]", *lines]) + "\n")

    def explained(self, name: str, *words: str | Path, can: bool, **settings: object) -> str:
        """What the command says, with the settings as of a server's file."""
        every = {"users": self.place / "users.toml", "sftp_path": self.files, "revoked_keys": self.revoked}
        every |= {"trusted_user_ca_keys": self.authority.with_suffix(".pub"), **settings}
        config = self.place / "pysftpd.toml"
        config.write_text("".join(f"{key} = {json.dumps(str(value))}\n" for key, value in every.items()))
        arguments = ["--config", config, "explain", name, *words]
        with redirect_stdout(io.StringIO()) as said:
            status = COMMANDS.run([str(word) for word in arguments])
        self.assertEqual(status, 0 if can else 1, said.getvalue())
        self.assertTrue(said.getvalue().endswith(f"{name} {'can' if can else 'cannot'} log in\n"))
        return said.getvalue()

    def test_who_can_log_in_is_told_how(self) -> None:
        certificate = self.workshop.certify(self.authority, self.key, "-O", "source-address=10.0.0.0/8")
        said = self.explained("alice", "--key", self.public, "--from", "192.0.2.1", can=True)
        for words in (
            "is active",
            "by publickey",
            "the user has it",
            "192.0.2.1 are served",
            "can be opened",
        ):
            self.assertIn(words, said)
        said = self.explained("alice", "--key", certificate, "--from", "::ffff:10.0.0.1", can=True)
        self.assertIn("in order", said)
        self.assertIn("for some addresses only", self.explained("alice", "--key", certificate, can=True))
        ca = self.authority.with_suffix(".pub").read_text().strip()
        self.users("alice", keys=[f'cert-authority,principals="deploy,alice" {ca}'])
        nobody = self.workshop.key().with_suffix(".pub")
        how = {"trusted_user_ca_keys": nobody, "can": True}
        said = self.explained("alice", "--key", certificate, "--from", "10.0.0.1", **how)  # type: ignore[arg-type]
        self.assertIn("for one of these principals: deploy, alice", said)
        self.assertIn("in order", said)

    def test_what_speaks_against_a_login_is_told(self) -> None:
        bob = self.workshop.certify(self.authority, self.key, "-V", "-2d:-1d", principals="bob")
        other = self.workshop.key().with_suffix(".pub")
        for words, settings, reason in (
            (["--key", other], {}, "not one of the user's"),
            (["--key", "SHA256:nothing"], {}, "not one of the user's"),
            (["--key", self.public], {"auth_methods": "password"}, "no method of the user takes a key"),
            (["--key", bob], {}, "expired, none of its principals is the user's"),
            (["--from", "10.0.0.1"], {"deny_networks": "10.0.0.0/8"}, "in deny_networks"),
            (["--from", "10.0.0.1"], {"allow_networks": "11.0.0.0/8"}, "not in allow_networks"),
            ([], {"auth_methods": "password"}, "the user has no password"),
            ([], {"sftp_path": self.place / "none"}, "is missing"),
            ([], {"run_as": "nobody"}, "sessions cannot run as nobody"),
            ([], {"trusted_user_ca_keys": self.place / "none"}, "no such file"),
        ):
            with self.subTest(reason):
                self.assertIn(reason, self.explained("alice", *words, can=False, **settings))
        self.revoked.write_bytes(self.public.read_bytes())
        for words in ([self.public], [self.workshop.certify(self.authority, self.key)]):
            self.assertIn("revoked", self.explained("alice", "--key", *words, can=False))
        # The CA could certify another key, and without it there is none.
        self.explained("alice", can=True)
        self.assertIn("no key that is accepted", self.explained("alice", can=False, trusted_user_ca_keys=""))
        self.assertIn("unknown", self.explained("nobody", can=False))
        self.users("alice", active=False, folder="alice")
        self.assertIn("not active", self.explained("alice", can=False))
        self.users("alice", keys=[self.public.read_text().strip()], folder="alice", networks="!192.0.2.0/24")
        said = self.explained("alice", "--from", "192.0.2.1", can=False)
        self.assertIn("192.0.2.1 is none of the user's networks: !192.0.2.0/24", said)
        self.explained("alice", "--from", "192.0.3.1", can=True)
        self.users("alice", methods=["password"], keys=[self.public.read_text().strip()], folder="alice")
        self.assertIn("wanted is password; add password to auth_methods", self.explained("alice", can=False))
        self.users("alice", actve=False)
        self.assertIn("unusable: 'actve'", self.explained("alice", can=False))

    def test_what_is_no_question_is_one_line_and_status_2(self) -> None:
        for words, said in (
            (["--key", self.key], "this is a private key"),
            (["--key", self.place / "none"], "no such file"),
            (["--from", "somewhere"], "not the address"),
        ):
            with self.assertRaisesRegex(BadInput, said) as caught:
                self.explained("alice", *words, can=False)
            self.assertEqual(caught.exception.status, 2)

    def test_in_json_it_is_one_object(self) -> None:
        where = command("pysftpctl", "--users", self.place / "users.toml", "--sftp-path", self.files)
        done = run([*where, "explain", "alice", "--json"], text=True)
        said = json.loads(done.stdout)
        self.assertEqual((said["user"], said["can_log_in"]), ("alice", True))
        self.assertEqual(said["checks"][0], {"ok": True, "what": "the user is active"})
