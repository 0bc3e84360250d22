"""The settings of pysftpweb.

What may not enter: what a setting does.
"""

from __future__ import annotations

from pysftpserver.http.settings import HTTPSettings
from pysftpserver.people import methods
from pysftpserver.people.methods import PASSWORD, PUBLICKEY
from pysftpserver.people.settings import PeopleSettings
from pysftpserver.service.settings import COUNT, FILE, FLAG, PORT, Setting, optional, seconds, text, texts


def _without_keys(text: str) -> None:
    if PUBLICKEY in methods.parse(text):
        raise ValueError("password or password,totp: a browser has no keys")


# fmt: off
class WebSettings(HTTPSettings, PeopleSettings):  # type: ignore[misc]  # one address, where others have several
    """The settings of pysftpweb."""

    port = Setting(PORT, 8088, "Listen on this port; 0 is any free one, which the log names.", "-p")
    certificate = Setting(
        optional(FILE), None, "Serve HTTPS with the certificate chain in this PEM file.", reloads=True
    )
    private_key = Setting(
        optional(FILE), None, "The private key of the certificate, in a PEM file.",
        unset="in the file of the certificate", reloads=True,
    )
    auth_methods = Setting(
        texts("METHODS", " ", _without_keys), (PASSWORD,),
        "What lets a user in: password, or password,totp for users who have a second factor only. The record "
        "of a user may ask for more; who needs a key logs in over SSH.",
    )
    url = Setting(
        optional(text("URL")), None, "Where people reach the server, for the links that it prints.",
        unset="the address and port that it listens on",
    )
    link_socket = Setting(
        optional(FILE), None,
        "Local socket on which pysftpd, by its web_socket, asks for the links of `ssh HOST web`.",
    )
    operators = Setting(
        optional(FILE), None,
        "Serve the operators' page at /operators: the state of the pysftpd whose admin_socket this is.",
    )
    operators_users = Setting(
        optional(FILE), None,
        "Let the operators in this TOML file log in to their page; each needs a password and a second factor.",
        unset="none; `pysftpctl web` prints a link",
    )
    state = Setting(
        FILE, "pysftpweb.sqlite", "Keep shared links and what else has to outlive the server in this file.",
    )
    read_only = Setting(FLAG, False, "Refuse every request that changes anything.")
    durable = Setting(FLAG, False, "Reply to a request that changes names only when that is on the disk.")
    session_timeout = Setting(
        seconds(), 3600.0, "End a session after this many seconds without a request.", reloads=True
    )
    max_per_user = Setting(
        COUNT, 32, "Maximum number of sessions of one user; another login ends the least recently used one.",
        reloads=True,
    )
# fmt: on
