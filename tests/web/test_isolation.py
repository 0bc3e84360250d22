"""A user whose storage hangs keeps nobody else waiting, whatever asks for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pysftpserver.people.users import User
from tests.support.waiting import PATIENCE, until
from tests.web.serving import Browser, WebCase, basic

MANY = 20  # requests; there are 8 threads


class TestAHungStorage(WebCase):
    settings = {"threads": 8, "idle_timeout": PATIENCE}

    def setUp(self) -> None:
        super().setUp()
        self.wait_for_quiet()

    def wait_for_quiet(self) -> None:
        """Requests of another test take the places of this one's."""
        server = self.served.server
        until(
            lambda: not (server._users or server._queue or any(server._turns.values())),
            lambda: f"requests are still counted: {server._users}, {server._queue}, {server._turns}",
        )

    @contextlib.contextmanager
    def hung(self) -> Iterator[list[str]]:
        """The storage of alice hangs when it is opened, in the block. Gives who has opened one."""
        asked: list[str] = []
        goes_on = threading.Event()
        real = self.served.door._storages.of

        def of(user: User) -> Any:
            asked.append(user.name)
            if user.name == "alice":
                goes_on.wait(PATIENCE)
            return real(user)

        with mock.patch.object(self.served.door._storages, "of", of):
            try:
                yield asked
            finally:
                goes_on.set()

    def ask(self, stack: contextlib.ExitStack, target: str, headers: dict[str, str]) -> list[Browser]:
        """Send requests, and wait for none of them."""
        asking = []
        for _ in range(MANY):
            browser = stack.enter_context(self.served.browser())
            browser.connection.request("GET", target, headers=headers)
            asking.append(browser)
        return asking

    def check_others(self) -> None:
        """Bob's pages and programs are answered."""
        with self.served.logged_in("bob") as browser:
            self.assertEqual(browser.get("/files/").status, 200)
        with self.served.browser() as program:
            self.assertEqual(program.get("/dav/", Authorization=basic("bob")).status, 200)

    def test_pages_of_others_are_answered(self) -> None:
        with contextlib.ExitStack() as stack, self.served.logged_in() as browser, self.hung() as asked:
            (ident,) = browser.cookies.values()
            self.ask(stack, "/files/", {"Cookie": f"pysftpweb={ident}"})
            until(lambda: asked.count("alice") == 4, lambda: f"{asked}\n{self.log}")
            self.check_others()
            self.assertEqual(asked.count("alice"), 4)

    def test_programs_whose_user_is_known_only_when_they_have_a_thread_have_no_more(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.served.logged_in("bob"))
            asked = stack.enter_context(self.hung())
            self.ask(stack, "/dav/", {"Authorization": basic()})
            until(lambda: asked.count("alice") == 4, lambda: f"{asked}\n{self.log}")
            self.check_others()
            self.assertEqual(asked.count("alice"), 4)
        self.wait_for_quiet()
