"""Logins by a link: users who have logged in over SSH get one for their browser.

What may not enter: how a link is kept and shown (links.py), messages on the socket (linksocket.py).
"""

from __future__ import annotations

import logging

from pysftpserver.web.links import LinkPage, Links
from pysftpserver.web.linksocket import LinkSocket, NoLink
from pysftpserver.web.wire import Refusal, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.people import People
    from pysftpserver.web.welcome import Welcome
    from pysftpserver.web.wire import Reply, Request

log = logging.getLogger("pysftpserver.web")
PATH = "/link"


class LinkedLogins:
    """Links of users, and the socket on which they are asked for. of_operator: returns the path of a link for
    an operator; None: there is no page for operators.
    """

    def __init__(self, values: WebSettings, people: People, welcome: Welcome) -> None:
        self._values = values
        self._people = people
        self._welcome = welcome
        self._links: Links[User] = Links()
        self._socket: LinkSocket | None = None
        self._address = ""
        self.of_operator: Callable[[str], str] | None = None
        self.page = LinkPage(PATH, self._links, lambda user: user.name, self._begin)

    def start(self, address: str) -> None:
        """Begin to give links. address: the beginning of links, unless a setting names another.

        Raises BadInput.
        """
        self._address = address
        if self._values.link_socket is not None:
            self._socket = LinkSocket(self._values.link_socket, self.url, log)

    def close(self) -> None:
        """Give no more links."""
        if self._socket is not None:
            self._socket.close()

    @property
    def _base(self) -> str:
        """The beginning of links."""
        return (self._values.url or self._address).rstrip("/")

    def url(self, question: dict[str, str]) -> str:
        """The link for a question of LinkSocket. Raises NoLink."""
        if "operator" in question:
            if self.of_operator is None:
                raise NoLink("there is no page for operators; start pysftpweb with --operators")
            log.info("a link for the operator %r was asked for", question["operator"][:64])
            return self._base + self.of_operator(question["operator"])
        name, address = question["user"], question["address"]
        user = self._people.find(name)
        if user is None or not user.is_welcome(address):
            log.info("%s: a link for %r was refused", address, name[:64])
            raise NoLink("the server for browsers does not let this user in")
        log.info("%s: a link for %s was asked for", address, user.name)
        return f"{self._base}{PATH}/{self._links.add(user.name, user)}"

    def _begin(self, request: Request, user: User) -> Reply:
        """Begin the session that a link opens. Raises Refusal."""
        if not self._people.is_current(user) or not user.is_welcome(request.address):
            log.info("%s: the link of %s was refused", request.address, user.name)
            raise Refusal(403, "This user may no longer log in, or not from this network.")
        session = self._welcome.begin(user, request.address, request.port)
        return redirect(request, b"/", headers=[self._welcome.cookie(request, session)])
