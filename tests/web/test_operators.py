"""The operators' page over a pysftpd that really runs, with real transfers."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import signal
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path
from typing import Any
from unittest import mock

import pyotp

from pysftpserver.cli.pysftpweb import RuleOf
from pysftpserver.failures import BadInput
from pysftpserver.people import codes, passwords
from pysftpserver.service.transfers import amount
from pysftpserver.sshd.browsers import config_of
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.web.config import WebSettings
from pysftpserver.web.history import HOUR, KINDS, SAMPLES, Ring, Watch
from pysftpserver.web.operators import COOKIE, Operators
from pysftpserver.web.plots import plot
from pysftpserver.web.trail import MOST, Trail
from tests.sshd.running import children, make_key
from tests.sshd.serving import SIZE, Daemon
from tests.support.auditing import records_of
from tests.support.lines import Lines, logged
from tests.support.processes import program, require
from tests.support.waiting import PATIENCE, until
from tests.web.serving import LOGGER, Answer, Browser, Served, quick

STRANGE = "<img src=x onerror=alert(1)>&\"'"


def setUpModule() -> None:
    require("sftp")


def text_of(page: str) -> str:
    """What a person reads of HTML."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


class Operator(Browser):
    """A browser of somebody who has logged in with a link."""

    def enter(self, operators: Operators) -> Operator:
        answer = self.post(operators.link("olga"), {})
        assert answer.status == 303, (answer.status, answer.text)
        return self

    def act(self, form: str, page: str = "/operators/", /, **fields: str) -> Answer:
        """Send a form of a page, with its token; the page that follows."""
        answer = self.post(f"/operators/{form}", {"csrf": self.get(page).csrf, **fields})
        assert answer.status == 303, (answer.status, answer.text)
        return self.get(answer.location)

    def figures(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/operators/figures").text))


class OverPysftpd(unittest.TestCase):
    """One pysftpd with an audit log and metrics, and the page in this process."""

    daemon: Daemon
    served: Served
    operators: Operators
    log: Lines
    secret: str
    port: int
    audit: Path

    @classmethod
    def setUpClass(cls) -> None:
        place = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="pysftpserver-operators-")))
        cls.daemon = Daemon("--metrics", "0", "--audit", str(place / "audit"))
        cls.addClassCleanup(cls.daemon.stop)
        cls.daemon.start()
        found = re.search(r"metrics on 127\.0\.0\.1 port (\d+)", cls.daemon.log())
        assert found is not None
        cls.port = int(found[1])
        secret = codes.new_secret()
        cls.secret = secret
        accounts = place / "operators.toml"
        accounts.touch(0o600)
        accounts.write_text(
            f'[users.olga]\npassword = "{quick("sun over hills")}"\ntotp = "{secret}"\n'
            f'[users.oscar]\npassword = "{quick("sun over hills")}"\n'
        )
        cls.log = cls.enterClassContext(logged(LOGGER))
        cls.enterClassContext(mock.patch.object(passwords, "DUMMY", quick("nobody's")))
        own = {"users": str(cls.daemon.users), "sftp_path": str(cls.daemon.files)}
        more = {"operators": str(cls.daemon.socket), "operators_users": str(accounts)}
        cls.audit = place / "audit-of-web"
        more["audit"] = str(cls.audit)
        cls.served = Served(place, **own, **more)
        cls.addClassCleanup(cls.served.stop)
        assert cls.served.door.operators is not None
        cls.operators = cls.served.door.operators

    def setUp(self) -> None:
        self.addCleanup(self.daemon.hang_up)
        self.browser = Operator(self.served.port)
        self.addCleanup(self.browser.close)

    def metrics(self) -> dict[str, float]:
        """What Prometheus is told."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as reply:
            lines = reply.read().decode().splitlines()
        found = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in found}

    def test_only_operators_get_in_with_both_factors_or_a_link_of_their_own(self) -> None:
        browser = self.browser
        self.assertEqual(browser.get("/operators/").location, "/operators/login")
        self.assertEqual(browser.get("/operators").location, "/operators/")
        for path in ("stream", "figures"):
            self.assertEqual(browser.get(f"/operators/{path}").status, 403)
        self.assertEqual(browser.post("/operators/lift", {"address": "192.0.2.1"}).status, 403)
        self.operators._reception._guard.wait = mock.Mock(return_value=0.0)  # type: ignore[union-attr]
        code = pyotp.TOTP(self.secret).now()
        for name, password, given in (
            ("olga", "sun over hills", ""),
            ("olga", "moon over hills", code),
            ("oscar", "sun over hills", ""),  # without a second factor
            ("alice", "", ""),  # a user is no operator
        ):
            answer = browser.post("/operators/login", {"name": name, "password": password, "code": given})
            self.assertEqual((answer.status, browser.cookies), (403, {}))
        user = self.served.door.people.find("alice")
        assert user is not None
        session = self.served.door.welcome.begin(user, "127.0.0.1")
        browser.cookies = {"pysftpweb": session.id, COOKIE: session.id}
        self.assertEqual(browser.get("/operators/").location, "/operators/login")
        browser.cookies = {}
        answer = browser.post(
            "/operators/login", {"name": "olga", "password": "sun over hills", "code": code}
        )
        self.assertEqual(answer.location, "/operators/")
        self.assertIn("HttpOnly; SameSite=Strict", str(answer.headers["Set-Cookie"]))
        self.assertIn("Path=/operators;", str(answer.headers["Set-Cookie"]))
        self.assertIn("olga", text_of(browser.get("/operators/").text))
        # What operators have says nothing to the pages of users.
        self.assertEqual(browser.post("/logout", {}).text, "Log in first.\n")
        self.assertEqual(browser.act("logout").status, 200)
        self.assertEqual(browser.get("/operators/").location, "/operators/login")
        link = self.operators.link("olga")
        self.assertEqual(browser.get(link).status, 200)
        self.assertEqual(browser.post(link, {}).location, "/operators/")
        self.assertEqual(browser.post(link, {}).status, 410)

    def test_the_figures_are_those_of_pysftpctl_and_of_the_metrics(self) -> None:
        self.daemon.do("ls", "get large /dev/null")
        self.daemon.client(say="pwd")
        browser = self.browser.enter(self.operators)
        still = ("number", "user", "address", "login", "received", "sent", "files")
        told: dict[str, Any] = {}

        def differences() -> list[str]:
            """In what the page, pysftpctl and the metrics differ: nothing, once no client does anything."""
            told.update(browser.figures())
            figures, others = told["figures"], self.metrics()
            seen, listed = (
                [{name: one[name] for name in still} for one in many]
                for many in (told["sessions"], self.daemon.json("sessions"))
            )
            pairs = {
                "pysftpd_sessions": figures["sessions"],
                "pysftpd_connections": figures["connections"],
                "pysftpd_handles": figures["handles"],
                'pysftpd_logins_total{outcome="accepted"}': figures["logins"]["accepted"],
                'pysftpd_logins_total{outcome="refused"}': figures["logins"]["refused"],
                'pysftpd_bytes_total{direction="sent"}': figures["moved"]["sent"],
                'pysftpd_bytes_total{direction="received"}': figures["moved"]["received"],
                'pysftpd_content_bytes_total{what="read"}': figures["content"]["read"],
                'pysftpd_requests_total{request="opendir"}': figures["requests"]["opendir"],
            }
            found = [
                f"{name}: {value}, {others[name]}" for name, value in pairs.items() if others[name] != value
            ]
            return found + ([] if len(seen) == 1 and seen == listed else [f"{seen}, {listed}"])

        until(lambda: not differences(), lambda: "\n".join(differences()))
        figures = told["figures"]
        self.assertEqual(told["trouble"], "")
        self.assertGreaterEqual(figures["content"]["read"], SIZE)
        page = text_of(browser.get("/operators/").text)
        self.assertIn(amount(figures["moved"]["sent"]), page)
        self.assertEqual(told["bans"], [])

    def test_a_transfer_is_shown_with_its_progress_and_a_session_ends_by_a_button(self) -> None:
        browser = self.browser.enter(self.operators)
        self.daemon.get_slowly()
        until(lambda: any(one["files"] for one in self.daemon.sessions()), "it moves")
        page = browser.get("/operators/").text
        self.assertRegex(page, r'<progress max="1" value="0\.\d+" aria-label="get /large: \d+%">')
        self.assertIn("of 16.0 MiB", page)
        until(
            lambda: re.search(r"<td>[\d.]+ [KM]iB/s</td>", browser.get("/operators/").text), "there is a rate"
        )
        (session,) = self.daemon.sessions()
        number = str(session["number"])
        refused = browser.post("/operators/end", {"csrf": "x", "number": number})
        self.assertEqual(refused.status, 403)
        self.assertEqual(len(self.daemon.sessions()), 1)
        shown = browser.act("end", number=number)
        self.assertIn(f"ended session {number}", text_of(shown.text))
        until(lambda: not self.daemon.sessions(), "it has ended")
        self.assertTrue([line for line in self.log.lines if "olga: ended session" in line])

    def test_refused_logins_are_shown_with_their_reason(self) -> None:
        browser = self.browser.enter(self.operators)
        self.assertNotEqual(self.daemon.do("ls", user="mallory").returncode, 0)
        until(
            lambda: re.search(
                r"'mallory': login failed: .*unknown", text_of(browser.get("/operators/").text)
            ),
            "it is shown",
        )
        self.assertGreaterEqual(browser.figures()["figures"]["logins"]["refused"], 1)

    def test_bans_are_made_and_lifted_by_buttons(self) -> None:
        browser = self.browser.enter(self.operators)
        shown = browser.act("ban", address="192.0.2.7", seconds="600")
        self.assertIn("banned 192.0.2.7 for 600 seconds", text_of(shown.text))
        self.assertRegex(text_of(shown.text), r"192\.0\.2\.7 +(9m..s|10m00s)")
        self.assertEqual([ban["address"] for ban in self.daemon.json("bans")], ["192.0.2.7"])
        doors = [(ban["door"], ban["address"]) for ban in browser.figures()["bans"]]
        self.assertEqual(doors, [("pysftpd", "192.0.2.7"), ("pysftpweb", "192.0.2.7")])
        shown = browser.act("lift", address="192.0.2.7")
        self.assertIn("lifted the ban of 192.0.2.7", text_of(shown.text))
        record = records_of(self.audit.read_bytes())[-1]
        self.assertEqual(
            (record["request"], record["user"], record["result"]), ("operator-lift", "olga", "OK")
        )
        self.assertEqual(record["message"], "lifted the ban of 192.0.2.7")
        self.assertEqual(self.daemon.json("bans"), [])
        self.assertEqual(browser.figures()["bans"], [])
        self.assertIn("'x' is not an address", text_of(browser.act("ban", address="x", seconds="5").text))
        shown = browser.act("ban", address="127.0.0.1", seconds="5")
        self.assertIn("127.0.0.1 is your own address", text_of(shown.text))

    def test_points_of_failed_logins_in_browsers_are_shown_and_forgotten(self) -> None:
        guard = self.served.door.guard
        with mock.patch.object(guard._bans, "policy", dataclasses.replace(guard._bans.policy, points=30)):
            guard.failed("alice", "192.0.2.9")
        browser = self.browser.enter(self.operators)
        found = browser.figures()["bans"]
        self.assertEqual(
            [(ban["door"], ban["address"], ban["seconds"]) for ban in found], [("pysftpweb", "192.0.2.9", 0)]
        )
        shown = browser.act("lift", address="192.0.2.9")
        self.assertIn("lifted the ban of 192.0.2.9", text_of(shown.text))
        self.assertEqual(browser.figures()["bans"], [])

    def test_users_are_found_added_deactivated_and_given_keys_as_by_pysftpctl(self) -> None:
        browser = self.browser.enter(self.operators)
        self.assertIn("alice", text_of(browser.get("/operators/users").text))
        self.assertNotIn("alice", text_of(browser.get("/operators/users?q=BOB").text))
        key = make_key(Path(self.enterContext(tempfile.TemporaryDirectory())) / "key")
        users = "/operators/users"
        shown = browser.act("add", users, name="carla", keys=f"{key}\n", folder="")
        self.assertIn("added the user carla", text_of(shown.text))
        (carla,) = (one for one in self.daemon.json("list") if one["name"] == "carla")
        self.assertEqual(carla["keys"][0]["line"], key)
        self.assertTrue((self.daemon.files / "carla").is_dir())
        self.assertIn(
            "already a user named carla", text_of(browser.act("add", users, name="carla").text).lower()
        )
        one = "/operators/user?name=carla"
        browser.act("change", one, name="carla", what="remove_key", key=carla["keys"][0]["fingerprint"])
        shown = browser.act("change", one, name="carla", what="deactivate")
        self.assertIn("deactivated the user carla", text_of(shown.text))
        (carla,) = (user for user in self.daemon.json("list") if user["name"] == "carla")
        self.assertEqual((carla["active"], carla["keys"]), (False, []))
        for wrong in ({"what": "remove_key", "key": "SHA256:x"}, {"what": "add_keys", "keys": "/etc/passwd"}):
            self.assertIn('role="alert"', browser.act("change", one, name="carla", **wrong).text)
        browser.act("change", one, name="carla", what="add_keys", keys=key)
        browser.act("change", one, name="carla", what="activate")
        (carla,) = (user for user in self.daemon.json("list") if user["name"] == "carla")
        self.assertEqual((carla["active"], len(carla["keys"])), (True, 1))
        self.assertEqual(browser.get("/operators/user?name=nobody").status, 404)

    def test_what_clients_named_is_text_and_the_audit_log_can_be_searched(self) -> None:
        browser = self.browser.enter(self.operators)
        source = self.daemon.files / "bob" / "small"
        source.write_bytes(b"x")
        quoted = STRANGE.replace('"', '\\"')
        self.assertEqual(
            self.daemon.do(f'put {source} "{quoted}"', f'rename "{quoted}" report').returncode, 0
        )
        self.daemon.do("-get ../../etc/passwd /dev/null")
        page = browser.get("/operators/").text
        self.assertNotIn("<img", page)
        self.assertIn(html.escape(STRANGE), page)
        self.assertIn("NO_SUCH_FILE", page)
        found = browser.get("/operators/audit?path=/report").text
        self.assertIn("stored 1 bytes", text_of(found))
        self.assertIn("renamed to /report", text_of(found))
        self.assertNotIn("<img", found)
        self.assertIn("nothing about it", text_of(browser.get("/operators/audit?path=/missing").text))

    def test_a_page_is_live_until_its_session_ends_and_no_more_than_a_few_are(self) -> None:
        browser = self.browser.enter(self.operators)
        follower, late = Operator(self.served.port), Operator(self.served.port)
        self.addCleanup(follower.close)
        self.addCleanup(late.close)
        follower.cookies = late.cookies = browser.cookies
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        follower.connection.request("GET", "/operators/stream", headers=cookie)
        stream = follower.connection.getresponse()
        self.assertEqual(stream.headers["Content-Type"], "text/event-stream")
        self.assertEqual(late.get("/operators/stream").status, 503)

        def event() -> tuple[str, dict[str, str]]:
            name = ""
            while line := stream.readline().decode():
                if line.startswith("event: "):
                    name = line[7:].strip()
                elif line.startswith("data: ") and name:
                    return name, json.loads(line[6:].strip() or "{}")
            raise AssertionError("the stream has ended")

        name, sections = event()
        self.assertEqual(name, "sections")
        self.assertEqual(
            set(sections), {"summary", "plots", "transfers", "sessions", "bans", "notes", "events"}
        )
        self.daemon.client(say="pwd")
        while "alice" not in sections.get("sessions", ""):
            name, sections = event()
        browser.act("logout")
        while name != "over":
            name, _ = event()
        self.assertEqual(stream.read().strip(), b"")
        self.assertIn("EventSource", self.browser.get("/static/operators.js").text)


class WithoutPysftpd(unittest.TestCase):
    def test_a_pysftpd_that_is_away_or_restarted_is_shown_so_and_the_page_goes_on(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-operators-")))
        self.enterContext(logged(LOGGER))
        self.enterContext(mock.patch.object(passwords, "DUMMY", quick("nobody's")))
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        served = Served(place, operators=str(daemon.socket))
        self.addCleanup(served.stop)
        assert served.door.operators is not None
        browser = Operator(served.port)
        self.addCleanup(browser.close)
        browser.enter(served.door.operators)
        page = text_of(browser.get("/operators/").text)
        self.assertIn("pysftpd does not answer", page)
        self.assertIn("no server listens there", page)
        daemon.start()
        until(lambda: "pysftpd does not answer" not in browser.get("/operators/").text, "it answers")
        self.assertIn("no audit log", text_of(browser.get("/operators/").text))
        self.assertIn("counts requests with the setting", text_of(browser.get("/operators/").text))
        daemon.end()
        until(lambda: "pysftpd does not answer" in browser.get("/operators/").text, "it has gone")
        self.assertIn("no audit log", text_of(browser.get("/operators/audit?path=/x").text))
        self.assertEqual(browser.get("/operators/users").status, 200)
        daemon.start()
        until(lambda: browser.figures()["trouble"] == "", "it is back")
        self.assertIn("use `pysftpctl web`", browser.post("/operators/login", {}).text)


class BesidePysftpd(unittest.TestCase):
    """`pysftpd --web`, which runs pysftpweb itself."""

    def test_one_setting_serves_links_the_page_and_the_files_and_all_end_together(self) -> None:
        daemon = Daemon("--web", "127.0.0.1:0", "--log-level", "VERBOSE")
        self.addCleanup(daemon.stop)
        daemon.start()
        assert daemon.process is not None
        listening = r"web: listening on http://127\.0\.0\.1:(\d+)/"
        port = int(daemon.process.said(listening)[1])
        browser = Operator(port)
        self.addCleanup(browser.close)
        done = daemon.ctl("web")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        link = done.stdout.strip().removeprefix(f"http://127.0.0.1:{port}")
        self.assertEqual(browser.post(link, {}).location, "/operators/")
        daemon.do("ls")
        until(lambda: browser.figures()["figures"]["requests"].get("opendir"), "it counts the listing")
        self.assertEqual(browser.figures()["trouble"], "")
        options = [word for word in daemon.sftp()[1:-1] if word != "-q"]
        options[options.index("-P")] = "-p"
        given = subprocess.run(
            [program("ssh"), *options, "alice@127.0.0.1", "web"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((given.returncode, given.stderr), (0, ""))
        person = Browser(port)
        self.addCleanup(person.close)
        link = given.stdout.strip().removeprefix(f"http://127.0.0.1:{port}")
        self.assertEqual(person.post(link, {}).status, 303)
        self.assertIn("large", person.get("/files/").text)
        (process,) = filter(is_web, children(daemon.pid))
        os.kill(process, signal.SIGKILL)
        daemon.process.said(listening, 2)
        daemon.stop()

    def test_its_settings_are_those_of_pysftpd_and_nothing_weaker(self) -> None:
        methods = ("publickey", "publickey,password", "password,totp")
        own = {"users": "users.toml", "auth_methods": methods, "redis_pass": 'a"\n', "storage": None}
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "web.toml"
        path.write_bytes(config_of(ServerSettings(web="[::1]:8088", **own), "/run/admin", "/run/links"))
        values = WebSettings.load(str(path), {})
        self.assertEqual((values.listen_address, values.port, values.users), ("::1", 8088, "users.toml"))
        self.assertEqual((values.auth_methods, values.redis_pass), (("password,totp",), 'a"\n'))
        self.assertEqual((values.operators, values.link_socket), ("/run/admin", "/run/links"))
        path.write_bytes(config_of(ServerSettings(web="127.0.0.1:1", users="u"), "a", "l"))
        self.assertEqual(WebSettings.load(str(path), {}).auth_methods, ())
        for web in ("0.0.0.0:0", "8088", ":8088", "192.0.2.1:8088", "127.0.0.1:x"):
            with self.assertRaisesRegex(BadInput, "give an address of this host alone"):
                config_of(ServerSettings(web=web), "a", "l")


def is_web(process: int) -> bool:
    """Whether a process is pysftpweb; one that has ended is not."""
    try:
        return b"pysftpweb" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


class UnderASite(unittest.TestCase):
    """Users under a site file with a rule and a quota."""

    def test_a_refusal_names_its_rule_and_a_quota_has_a_bar(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-operators-")))
        self.enterContext(logged(LOGGER))
        self.enterContext(mock.patch.object(passwords, "DUMMY", quick("nobody's")))
        (place / "state").mkdir()
        site, audit = place / "site.toml", place / "audit"
        site.write_text(
            f'state = "{place}/state"\n\n[[rule]]\npath = "/fixed/**"\ndeny = ["delete", "rename"]\n\n'
            '[[quota]]\nper = "user"\nbytes = "32 MiB"\n'
        )
        daemon = Daemon("--audit", str(audit), "--site", str(site))
        self.addCleanup(daemon.stop)
        daemon.start()
        (daemon.files / "alice" / "fixed").mkdir()
        (daemon.files / "alice" / "fixed" / "x").touch()
        own = {"users": str(daemon.users), "sftp_path": str(daemon.files), "site": str(site)}
        served = Served(place, RuleOf(), **own, operators=str(daemon.socket))
        self.addCleanup(served.stop)
        assert served.door.operators is not None
        browser = Operator(served.port)
        self.addCleanup(browser.close)
        browser.enter(served.door.operators)
        daemon.do("-rm fixed/x", f"put {daemon.files}/bob/large other")
        page = text_of(browser.get("/operators/").text)
        self.assertIn("PERMISSION_DENIED", page)
        self.assertIn(f"{site}: line 3: rule 1", page)
        users = browser.get("/operators/users").text
        self.assertRegex(users, r'<meter min="0" max="1" value="0\.5\d+" aria-label="16.0 MiB of 32.0 MiB">')
        self.assertIn("32.0 MiB of 32.0 MiB", text_of(browser.get("/operators/user?name=alice").text))


class AnHour(unittest.TestCase):
    def test_the_memory_is_bounded_and_holds_the_last_hour(self) -> None:
        ring = Ring()
        for second in range(0, 3 * int(HOUR), 2):
            sample = {"received": 2.0 * second, "seconds": 2.0, "accepted": 1.0, "sessions": 3.0}
            ring.add(float(second + 1), {**sample, "busy": 0.5, "requests": 5.0})
        now = 3 * HOUR
        points = ring.points("received", now, 60, "seconds")
        self.assertEqual(len(points), 60)
        self.assertEqual(points, sorted(filter(None, points)))
        self.assertGreaterEqual(points[0] or 0, 2 * HOUR)
        self.assertEqual(sum(filter(None, ring.points("accepted", now, 60))), SAMPLES)
        self.assertEqual(ring.points("sessions", now, 4), [3.0] * 4)
        self.assertEqual(ring.points("busy", now, 4, "requests"), [0.1] * 4)
        self.assertEqual(ring.points("errors", now, 4), [None] * 4)
        self.assertEqual(ring.points("sent", now + 2 * HOUR, 4, "seconds"), [None] * 4)
        self.assertEqual(set(ring.last()), set(KINDS))
        drawn = plot("Rate", [("received", [None, 1.0, 2.0, None, 0.0])], lambda value: f"{value:g}")
        self.assertEqual(re.findall(r"[ML]", re.findall(r' d="([^"]+)"', drawn)[0]), ["M", "L", "M"])
        self.assertNotIn("style=", drawn)

    def test_counters_that_begin_anew_are_not_negative_rates(self) -> None:
        def answer(pid: int, sent: int) -> dict[str, Any]:
            moved, logins = {"received": 0, "sent": sent}, {"accepted": 1, "refused": 0}
            nothing: dict[str, float] = {}
            figures = {"moved": moved, "logins": logins, "sessions": 0, "connections": 0}
            figures |= {"requests": nothing, "seconds": nothing, "errors": nothing}
            return {"process": 0, "pid": pid, "figures": figures}

        watch = Watch("/nowhere")
        rates = []
        for now, one in ((100.0, answer(1, 50)), (102.0, answer(1, 70)), (104.0, answer(2, 10))):
            rates.append(watch._sample([one], one["figures"], now).get("sent"))
        self.assertEqual(rates, [None, 20.0, 10.0])


class TheEndOfALog(unittest.TestCase):
    def test_refusals_name_their_rule_and_broken_lines_are_passed_over(self) -> None:
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "audit"
        record = {"time": "2026-11-30T12:00:00.000000Z", "session": "s", "peer": "192.0.2.1", "port": 1}
        record |= {"user": "alice", "request": "remove", "path": "/in/x", "bytes": 0, "duration": 0.1}
        lines = [
            json.dumps({**record, "result": "OK", "path": f"/in/{number}"}) for number in range(2 * MOST)
        ]
        lines += [
            json.dumps({**record, "result": "PERMISSION_DENIED"}),
            "[]",
            '{"request": 1',
            "7",
            '{"time": 1}',
        ]
        path.write_text("".join(f"{line}\n" for line in lines))
        trail = Trail(lambda record: f"site.toml: line 8: rule 1 of {record['path']}")
        first, *others = trail.last(str(path))
        self.assertTrue(first.is_refusal)
        self.assertEqual(first.why, "site.toml: line 8: rule 1 of /in/x")
        self.assertEqual(len(others), MOST - 1)
        self.assertEqual((others[0].words, others[0].why), (f"/in/{2 * MOST - 1}", ""))
        self.assertIs(trail.last(str(path)), trail.last(str(path)))  # read once


if __name__ == "__main__":
    unittest.main()
