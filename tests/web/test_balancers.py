"""Behind a real nginx and a real HAProxy, with their configurations as docs/web.md has them.

Daily where they are installed; `make test-hard` installs them.
"""

from __future__ import annotations

import random
import re
import ssl
import unittest
from collections.abc import Sequence
from pathlib import Path

from tests.sksync.certificates import Pair
from tests.sshd.test_balancers import program
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.processes import Program
from tests.support.waiting import until
from tests.web.serving import HOST, Browser, Served, WebCase, basic

CLIENT = "127.0.0.9"
SIZE = 3 << 20  # bytes: more than nginx takes by default
NGINX = """
daemon off;
master_process off;
pid {place}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
{block}
}}
"""
HAPROXY = """
defaults
    timeout connect 10s
    timeout client 60s
    timeout server 60s
{block}
"""


def block_of(start: str) -> str:
    """The configuration in the page that begins so."""
    page = (ROOT / "docs" / "web.md").read_text()
    (found,) = re.findall(rf"(?ms)^```\n({re.escape(start)}.*?)^```", page)
    return str(found)


@unittest.skipUnless(IS_HARD or (program("haproxy") and program("nginx")), "neither hard nor installed")
class TestBalancers(WebCase):
    pair: Pair

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.pair = Pair(cls.place, "proxy", (HOST,))
        both = cls.place / "both.pem"
        both.touch(0o600)
        both.write_text(open(cls.pair.certfile).read() + open(cls.pair.keyfile).read())

    @classmethod
    def make(cls, place: Path) -> Served:
        return Served(place, proxies=(HOST,))

    def start(self, name: str, options: Sequence[str], text: str, *changes: tuple[str, str]) -> int:
        """Start a balancer with a configuration in which the names of the page are changed; its port."""
        port = free_port()
        for old, new in (*changes, ("127.0.0.1:8088", f"{HOST}:{self.served.port}")):
            self.assertIn(old, text)
            text = text.replace(old, new.replace("PORT", str(port)))
        path = self.place / f"{name}.conf"
        path.write_text(text)
        found = program(name)
        assert found is not None, f"{name} is not installed; run tools/debian.sh hard"
        balancer = Program([found, *options, path], self.place / f"{name}.log")
        self.addCleanup(balancer.stop)
        return port

    def serves(self, port: int) -> None:
        """A person logs in and a program stores a file, from CLIENT, and the server knows that."""
        context = ssl.create_default_context(cafile=self.pair.certfile)

        def connected() -> Browser | None:
            browser = Browser(port, CLIENT, context)
            try:
                browser.get("/login")
            except OSError:  # it has not started yet
                browser.close()
                return None
            return browser

        browser = until(connected)
        self.addCleanup(browser.close)
        answer = browser.log_in()
        self.assertEqual(answer.status, 303, answer.text)
        self.assertIn("; Secure", answer.headers["Set-Cookie"])
        self.assertIn("Log out", browser.get("/files/").text)
        self.log.wait(f"{CLIENT}: alice has logged in")
        content = random.Random(port).randbytes(SIZE)
        headers = {"Authorization": basic()}
        self.assertIn(browser.ask("PUT", "/dav/large.bin", content, headers).status, (201, 204))
        self.assertEqual((self.served.jail() / "large.bin").read_bytes(), content)
        self.assertEqual(browser.ask("GET", "/dav/large.bin", None, headers).body, content)

    def test_nginx(self) -> None:
        text = NGINX.format(place=self.place, block=block_of("server {"))
        changes = (
            ("listen 443 ssl", f"listen {HOST}:PORT ssl"),
            ("/etc/letsencrypt/live/files.example/fullchain.pem", str(self.pair.certfile)),
            ("/etc/letsencrypt/live/files.example/privkey.pem", str(self.pair.keyfile)),
        )
        self.serves(self.start("nginx", ["-p", str(self.place), "-c"], text, *changes))

    def test_haproxy(self) -> None:
        text = HAPROXY.format(block=block_of("frontend files"))
        changes = (
            ("bind :443", f"bind {HOST}:PORT"),
            ("/etc/haproxy/files.pem", str(self.place / "both.pem")),
        )
        self.serves(self.start("haproxy", ["-q", "-db", "-f"], text, *changes))
