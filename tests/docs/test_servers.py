"""What the pages have people type to make users, keys and settings, and to start the servers."""

from __future__ import annotations

import json
import re
import subprocess
import unittest
import urllib.request

from tests.docs.stage import Stage, block_of, runs
from tests.sshd.running import make_key
from tests.support import hosts
from tests.support.hard import IS_HARD
from tests.support.ports import free_port

LISTENING = r"listening on \S+ port (\d+)$"
SSHD, WEB, REMO, LABORATORY, SKSYNC = (
    f"docs/{name}.md" for name in ("sshd", "web", "remo", "laboratory", "sksync")
)
PASSWORD = "correct horse battery staple\n"


@unittest.skipUnless(IS_HARD, "daily, the lines of README.md are run")
class Pysftpd(Stage):
    def setUp(self) -> None:
        super().setUp()
        (self.place / "srv/sftp").mkdir()
        (self.home / "alice.pub").write_text(self.public + "\n")

    def folder(self) -> list[str]:
        return sorted(path.name for path in (self.place / "srv/sftp/alice").iterdir())

    @runs(
        SSHD,
        "pysftpctl --users users.toml --sftp-path /srv/sftp add alice --key alice.pub",
        "pysftpd --users users.toml --sftp-path /srv/sftp",
    )
    def test_the_first_server(self, *commands: str) -> None:
        port = self.serve(*commands).said(LISTENING)[1]
        self.batch(f"sftp -P {port} alice@host", "mkdir made")
        self.assertEqual(self.folder(), ["made"])

    @runs(
        SSHD,
        "pysftpctl --config /etc/pysftpserver/pysftpd.toml import customers.csv --dry-run",
        "pysftpctl --config /etc/pysftpserver/pysftpd.toml import customers.csv",
    )
    def test_many_users_at_once(self, dry: str, do: str) -> None:
        (self.place / "etc/pysftpserver").mkdir(parents=True)
        settings = block_of(SSHD, 'users = "/etc/pysftpserver/users.toml"    # root changes it')
        (self.place / "etc/pysftpserver/pysftpd.toml").write_text(self.moved(settings))
        (self.home / "customers.csv").write_text(self.moved(block_of(SSHD, "name,key,networks\n")))
        (self.home / "keys").mkdir()
        make_key(self.home / "keys" / "bob")
        users = self.place / "etc/pysftpserver/users.toml"
        self.type(dry)
        self.assertFalse(users.exists())
        self.type(do)
        self.assertRegex(users.read_text(), r"(?s)alice.*bob.*!192\.0\.2\.7")

    @runs(
        SSHD,
        "pysftpctl --users users.toml --sftp-path /srv/sftp add alice --key ~/alice.pub --folder alice",
        "pysftpctl --users users.toml change alice --add-key 'ssh-ed25519 AAAA...' --remove-key SHA256:...",
        "pysftpctl --users users.toml passwd alice",
        "pysftpctl --users users.toml change alice --methods publickey,password",
        "pysftpctl --users users.toml totp alice --issuer files.example.org",
        "pysftpctl --users users.toml deactivate alice",
        "pysftpctl --users users.toml remove alice",
    )
    def test_a_user_is_made_changed_and_removed(
        self, add: str, change: str, passwd: str, methods: str, totp: str, deactivate: str, remove: str
    ) -> None:
        old = make_key(self.home / "old")
        (self.home / "alice.pub").write_text(old + "\n")
        told = subprocess.run(["ssh-keygen", "-lf", self.home / "alice.pub"], capture_output=True, text=True)
        self.type(add, change.replace("SHA256:...", told.stdout.split()[1]))
        users = self.home / "users.toml"
        self.assertIn(self.public.split()[1], users.read_text())
        self.assertNotIn(old.split()[1], users.read_text())
        self.type(passwd, given=PASSWORD)
        self.type(methods)
        shown = block_of(SSHD, "pysftpctl --users users.toml totp alice").splitlines()[1]
        self.assertRegex(self.type(totp), re.escape(shown).replace(r"\.\.\.", r"\w+"))
        self.type(deactivate)
        self.assertIn("active = false", users.read_text())
        self.type(remove)
        self.assertNotIn("alice", users.read_text())

    @runs(
        SSHD,
        "pysftpctl --config pysftpd.toml list",
        "pysftpctl --config pysftpd.toml sessions",
        "pysftpctl --config pysftpd.toml end 12",
        "pysftpctl --config pysftpd.toml bans",
        "pysftpctl --config pysftpd.toml health",
    )
    def test_a_running_server_is_asked(self, users: str, sessions: str, end: str, *others: str) -> None:
        (self.home / "pysftpd.toml").write_text(
            'users = "users.toml"\nadmin_socket = "admin"\nbans = true\n'
            f'sftp_path = "{self.place}/srv/sftp"\n'
        )
        port = self.serve(
            "pysftpctl --config pysftpd.toml add alice --key alice.pub", "pysftpd --config pysftpd.toml"
        ).said(LISTENING)[1]
        self.assertIn("alice", self.type(users))
        client = subprocess.Popen(
            ["sftp", "-q", "-P", port, "alice@host"],
            env=self.environment(),
            executable=self.place / "shims" / "sftp",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"pwd\n")
        client.stdin.flush()
        while b"Remote" not in client.stdout.readline():
            pass
        found = re.search(r"^\s*(\d+)\s.*alice", self.type(sessions), re.MULTILINE)
        assert found is not None
        self.type(end.replace("12", found[1]))
        client.communicate(b"ls\n", timeout=60)
        self.type(*others)

    @runs(
        SSHD,
        'ssh-keygen -f ca -C "our users"',
        "install -m 0644 ca.pub /etc/pysftpserver/; touch /etc/pysftpserver/revoked",
        'ssh-keygen -s ca -I "alice\'s laptop" -n alice -z 17 -V +1d alice.pub',
        "pysftpd --trusted-user-ca-keys /etc/pysftpserver/ca.pub "
        "--revoked-keys /etc/pysftpserver/revoked ...",
        "sftp -P 2200 -i alice alice@host",
        'echo "serial: 17" >> revoked.txt',
        "ssh-keygen -k -f revoked.new -s ca.pub revoked.txt && mv revoked.new /etc/pysftpserver/revoked",
        "pysftpctl --config pysftpd.toml explain alice --from 192.0.2.7 --key alice-cert.pub",
    )
    def test_certificates_let_in_until_they_are_revoked(
        self, ca: str, put: str, sign: str, serve: str, sftp: str, note: str, revoke: str, explain: str
    ) -> None:
        (self.place / "etc/pysftpserver").mkdir(parents=True)
        make_key(self.home / "alice")
        (self.home / ".ssh" / "id_ed25519").unlink()
        self.type(ca, given="\n\n")
        users = "--users users.toml --sftp-path /srv/sftp"
        self.type(put, sign, f"pysftpctl {users} add alice")
        port = self.serve(serve.replace("...", users)).said(LISTENING)[1]
        login = sftp.replace("2200", port)
        self.batch(login, "mkdir made")
        self.assertEqual(self.folder(), ["made"])
        etc = f"{self.place}/etc/pysftpserver"
        (self.home / "pysftpd.toml").write_text(
            f'users = "users.toml"\nsftp_path = "{self.place}/srv/sftp"\n'
            f'trusted_user_ca_keys = "{etc}/ca.pub"\nrevoked_keys = "{etc}/revoked"\n'
        )
        self.assertIn("alice", self.type(explain))
        self.type(note, revoke)
        self.type_until_it_fails(login.replace("sftp ", "sftp -b /dev/null "))
        self.assertIn("revoked", self.type(explain, status=1))


@unittest.skipUnless(IS_HARD, "daily, the lines of README.md are run")
class Others(Stage):
    @runs(
        WEB,
        "pysftpctl --users users.toml --sftp-path /srv/sftp add alice",
        "pysftpctl --users users.toml passwd alice",
        "pysftpweb --users users.toml --sftp-path /srv/sftp",
    )
    def test_a_web_server_for_the_same_users(self, add: str, passwd: str, serve: str) -> None:
        (self.place / "srv/sftp").mkdir()
        self.type(add)
        self.type(passwd, given=PASSWORD)
        port = self.serve(serve).said(r"listening on http://127.0.0.1:(\d+)/")[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            self.assertIn(b"Password", page.read())

    @runs(
        REMO,
        "pysftpremo keygen --no-passphrase remo_serv",
        "pysftpremo users add alice alice.pem",
        "pysftpremo serve",
        "pysftpremo connect localhost --user alice",
        "pysftpremo exec localhost --user alice -- df -h",
        "pysftpremo get localhost --user alice /etc/hostname .",
    )
    def test_a_host_is_administered(
        self, keygen: str, add: str, serve: str, connect: str, run: str, get: str
    ) -> None:
        self.type("pysftpremo keygen --no-passphrase alice")
        port = free_port()
        root = " --allow-root" if self.is_root else ""
        self.serve(keygen, add, f"{serve} --port {port}{root}").said(rf"listening on .*{port}")
        self.assertIn("Filesystem", self.type(run.replace("localhost", f"localhost --port {port}")))
        self.type(get.replace("localhost", f"localhost --port {port}"))
        self.assertTrue((self.home / "hostname").exists())
        self.assertIn(
            "here", self.type(connect.replace("localhost", f"localhost {port}"), given="exec echo here\n")
        )

    @runs(
        LABORATORY,
        "PYSFTPLAB_PASSWORD=... pysftplab serve",
        "PYSFTPLAB_PASSWORD=... pysftplab connect 127.0.0.1",
        "pysftplab serve --service my_module:Time",
    )
    def test_a_message_server_and_one_with_a_service_of_the_page(
        self, serve: str, connect: str, with_service: str
    ) -> None:
        port = self.serve(serve).said(r"listening on \S+ port (\d+)")[1]
        self.assertIn("hello", self.type(f"{connect} {port}", given="hello\n"))
        (self.home / "my_module.py").write_text(block_of(LABORATORY, "import time\n"))
        secret = {"PYSFTPLAB_PASSWORD": "..."}
        port = self.serve(with_service, **secret).said(r"listening on \S+ port (\d+)")[1]
        self.assertRegex(self.type(f"{connect} {port}", given="time?\n"), r"\d{4}-\d\d-\d\d \d\d:")

    @runs(
        SKSYNC,
        "pysksync users add alice",
        "pysksync sksync.json",
        "pysksync sksync.json client phone --dry-run",
        "pysksync sksync.json client phone",
    )
    def test_a_phone_is_kept_in_sync(self, add: str, serve: str, dry: str, sync: str) -> None:
        (self.place / "srv/photos/2026").mkdir(parents=True)
        (self.place / "srv/photos/2026/one.jpg").write_text("a picture")
        server, phone = self.home / "server", self.home / "phone"
        server.mkdir()
        phone.mkdir()
        shared, synced = (json.loads(block_of(SKSYNC, start)) for start in ('{\n    "server', '{\n    "host'))
        (server / "sksync.json").write_text(self.moved(json.dumps(shared)))
        (server / "password").write_text(PASSWORD)
        self.type(f"{add} --password-file password", where=server)  # otherwise it asks on a terminal
        port = self.serve(serve, where=server).said(r"port (\d+)")[1]
        synced |= {"host": "127.0.0.1", "port": int(port), "password": PASSWORD.strip()}
        synced["clients"]["phone"]["client_path"] = str(phone / "2026")
        (phone / "2026").mkdir()
        (phone / "sksync.json").write_text(json.dumps(synced))
        self.assertIn("one.jpg", self.type(dry, where=phone))
        self.assertEqual(list((phone / "2026").iterdir()), [])
        self.type(sync, where=phone)
        self.assertEqual((phone / "2026/one.jpg").read_text(), "a picture")

    @runs(SKSYNC, "cd /srv/photos && pysksync")
    def test_the_current_directory_is_shared(self, command: str) -> None:
        (self.place / "srv/photos").mkdir()
        self.serve(*command.split(" && ")).said("port")

    @runs(SKSYNC, "pysksync make-cert --name sync.example.org,192.0.2.7")
    def test_a_certificate_is_made(self, command: str) -> None:
        self.assertIn("certificate", self.type(command))


@unittest.skipUnless(IS_HARD, "it copies a host")
class OnAHost(unittest.TestCase):
    """A server with an account of its own, which systemd keeps running; a function stands for that."""

    STEPS = (
        "useradd --system --home-dir /srv/sftp pysftpd",
        "install -d -o pysftpd /srv/sftp",
        "install -d /etc/pysftpserver",
        "/opt/pysftpserver/bin/pysftpctl --config /etc/pysftpserver/pysftpd.toml add alice --key alice.pub",
        "chgrp pysftpd /etc/pysftpserver/users.toml && chmod 640 /etc/pysftpserver/users.toml",
        "install -d -o pysftpd -m 700 /var/lib/pysftpd && cd /var/lib/pysftpd",
        "runuser -u pysftpd -- /opt/pysftpserver/bin/pysftpd "
        "--config /etc/pysftpserver/pysftpd.toml --check-config",
        "systemctl enable --now pysftpd",
    )

    @runs(SSHD, *STEPS)
    def test_the_steps_of_the_page_lead_to_a_server(self, *steps: str) -> None:
        port = free_port()
        settings = block_of(SSHD, 'users = "/etc/pysftpserver/users.toml"    # root changes it')
        prepared, started = "\n".join(steps[:3]), "\n".join(steps[3:])
        done = hosts.run(
            f"{prepared}\ncat > /etc/pysftpserver/pysftpd.toml <<'END'\n{settings}END\n"
            "ssh-keygen -q -t ed25519 -N '' -f alice\n"
            "systemctl() { install -d -o pysftpd /run/pysftpd; runuser -u pysftpd -- "
            "/opt/pysftpserver/bin/pysftpd --config /etc/pysftpserver/pysftpd.toml "
            f"--listen-address 127.0.0.1 --port {port} 2> /tmp/log & }}\n"
            f"{started}\nuntil grep -q 'listening on' /tmp/log; do sleep 0.1; done; cd /tmp\n"
            f"echo 'put alice.pub\npwd' | sftp -b - -P {port} -i alice -o StrictHostKeyChecking=no "
            "alice@127.0.0.1\nls -l /srv/sftp/alice",
            port,
        )
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        self.assertIn("Remote working directory: /\n", done.stdout)
        self.assertRegex(done.stdout, r"pysftpd .* alice\.pub")


@unittest.skipUnless(IS_HARD, "daily, the lines of README.md are run")
class Upgrading(Stage):
    @runs(
        "docs/upgrading.md",
        "ln -s pysftpserver-2.1.0 /opt/pysftpserver.new",
        "mv -T /opt/pysftpserver.new /opt/pysftpserver",
    )
    def test_the_link_to_the_version_in_use_is_replaced(self, link: str, move: str) -> None:
        opt = self.place / "opt"
        (opt / "pysftpserver").rename(opt / "pysftpserver-2.0.0")
        (opt / "pysftpserver").symlink_to("pysftpserver-2.0.0")
        (opt / "pysftpserver-2.1.0").mkdir()
        self.type(link, move)
        self.assertEqual((opt / "pysftpserver").readlink().name, "pysftpserver-2.1.0")
        self.assertFalse((opt / "pysftpserver.new").is_symlink())
