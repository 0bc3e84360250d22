"""pysksync make-cert: a self-signed certificate and its key, for TLS.

Argument parsing only. What makes the pair is imported when it is needed, so that help works without the
extra. What may not enter: keys, what is in a certificate.
"""

from __future__ import annotations

import os

from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.failures import BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CERTFILE = "cert.pem"
KEYFILE = "key.pem"
DAYS = 365
MOST_DAYS = 36_500
TYPES = ("ecdsa", "ed25519")
LOCAL = ("localhost", "127.0.0.1", "::1")
EXTRA = "pip install 'pysftpserver[sksync]'"


def days(text: str) -> int:
    """A number of days. Raises BadValue for anything but digits."""
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST_DAYS:
        return int(text)
    raise BadValue(f"invalid number {text!r}: days, 1 to {MOST_DAYS}")


def kind(text: str) -> str:
    """A type of key. Raises BadValue for another."""
    if text.lower() in TYPES:
        return text.lower()
    raise BadValue(f"invalid type {text!r}: {' or '.join(TYPES)}")


def name_list(text: str) -> list[str]:
    """Names with commas between them. Raises BadValue for none."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise BadValue(f"invalid names {text!r}: names with commas between them")
    return found


COMMAND = Command(
    "pysksync make-cert",
    description="Make a self-signed certificate and its key, with which an SK Sync server, or a client, says "
    "who it is over TLS.",
    epilog="Whoever is to check the certificate gets a copy of it. The key stays where it is.",
    options=(
        Option(
            "--cert",
            metavar="FILE",
            default=CERTFILE,
            help=f"Write the certificate to this file. The default is {CERTFILE}.",
        ),
        Option(
            "--key",
            metavar="FILE",
            default=KEYFILE,
            help=f"Write the key to this file, which only its owner can read. The default is {KEYFILE}.",
        ),
        Option(
            "--name",
            metavar="NAME",
            convert=name_list,
            help="Make it for this host name or IP address, or for several with commas between them. The "
            f"default is the name of this host, {', '.join(LOCAL)}.",
        ),
        Option(
            "--days",
            metavar="N",
            convert=days,
            default=DAYS,
            help=f"Let it be valid for so many days. The default is {DAYS}.",
        ),
        Option(
            "--type",
            metavar="TYPE",
            convert=kind,
            default="ecdsa",
            help="Make a key of this type: ecdsa (with P-256) or ed25519. The default is ecdsa.",
        ),
        Option(
            "--force",
            help="Replace the files if they are there. The default is to leave them and to fail.",
        ),
    ),
)


def serve(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status. Raises BadInput."""
    options = COMMAND.parse(words)
    try:
        from pysftpserver.sksync.certificates import CertificateError, is_name, make_pair
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise BadInput(f"cryptography is missing: {EXTRA}") from None
    certfile, keyfile = options["cert"], options["key"]
    host = os.uname().nodename
    names = options["name"] or [*dict.fromkeys([*([host] if is_name(host) else []), *LOCAL])]
    try:
        until = make_pair(certfile, keyfile, names, options["days"], options["type"], options["force"])
    except CertificateError as error:
        raise BadInput(str(error), "the certificate cannot be written") from None
    say(f"{certfile} and {keyfile}: written for {', '.join(names)}; valid until {until:%Y-%m-%d}")
    say_lines("For a server, in its sksync.json:", certfile, keyfile, "server")
    say_lines("For its clients, which need a copy of the certificate:", certfile, None, "server")
    say_lines("For a client instead, if servers are to check who it is:", certfile, keyfile, "client")
    say_lines(
        "For the servers of that client, which need a copy of the certificate:", certfile, None, "client"
    )
    return 0


def say_lines(title: str, certfile: str, keyfile: str | None, side: str) -> None:
    """Print lines for a configuration. keyfile: None where there is only the certificate."""
    import json

    print(f"\n{title}")
    values = {"use_ssl": True, f"ssl_{side}_certfile": os.path.abspath(certfile)}
    if keyfile is not None:
        values[f"ssl_{side}_keyfile"] = os.path.abspath(keyfile)
    for key, value in values.items():
        print(f"    {json.dumps(key)}: {json.dumps(value)},", flush=True)


def say(text: str) -> None:
    """A line to standard output, whatever is in it."""
    print(one_line(text), flush=True)
