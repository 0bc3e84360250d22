"""pysksync make-cert: a self-signed certificate and its key, for TLS.

This module has the words of the command line. The code that makes the pair is imported when it is needed, so
that help works without the extra. What may not enter: keys, the content of a certificate.
"""

from __future__ import annotations

import os

from pysftpserver.cli.options import BadValue, Command, Option, converter
from pysftpserver.failures import needed, one_line
from pysftpserver.service.settings import one_of, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CERTFILE = "cert.pem"
KEYFILE = "key.pem"
DAYS = 365
MOST_DAYS = 36_500
TYPES = ("ecdsa", "ed25519")
LOCAL = ("localhost", "127.0.0.1", "::1")


def name_list(text: str) -> list[str]:
    """Names, separated by commas. Raises BadValue."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise BadValue(f"invalid names {text!r}: they have to be separated by commas")
    return found


# fmt: off
COMMAND = Command(
    "pysksync make-cert",
    description="Make a self-signed certificate and its key, for an SK Sync server or a client with TLS.",
    epilog="The other side needs a copy of the certificate. Keep the key secret.",
    examples=(("Make a pair for two names:", "pysksync make-cert --name files.example,192.0.2.7"),),
    options=(
        Option(
            "--cert", metavar="FILE", default=CERTFILE,
            help=f"Write the certificate to this file. The default is {CERTFILE}.",
        ),
        Option(
            "--key", metavar="FILE", default=KEYFILE,
            help=f"Write the key to this file, with mode 0600. The default is {KEYFILE}.",
        ),
        Option(
            "--name", metavar="NAME", convert=name_list,
            help="Make it for these host names and IP addresses, separated by commas. The default is the "
            f"name of this host, {', '.join(LOCAL)}.",
        ),
        Option(
            "--days", metavar="DAYS", convert=converter(whole(1, MOST_DAYS)), default=DAYS,
            help=f"Make it valid for this many days. The default is {DAYS}.",
        ),
        Option(
            "--type", metavar="TYPE", convert=converter(one_of(*TYPES)), default="ecdsa",
            choices=TYPES,
            help="Make a key of this type: ecdsa (with P-256) or ed25519. The default is ecdsa.",
        ),
        Option("--force", help="Replace existing files. The default is to refuse that."),
    ),
)
# fmt: on


def serve(words: Sequence[str]) -> int:
    """Make the pair; return the exit status. Raises BadInput."""
    options = COMMAND.parse(words)
    with needed("sksync", "cryptography"):
        from pysftpserver.sksync.certificates import configuration_lines, is_name, make_pair
    certfile, keyfile = options["cert"], options["key"]
    host = os.uname().nodename
    names = options["name"] or [*dict.fromkeys([*([host] if is_name(host) else []), *LOCAL])]
    until = make_pair(certfile, keyfile, names, options["days"], options["type"], options["force"])
    title = f"{certfile} and {keyfile}: written for {', '.join(names)}; valid until {until:%Y-%m-%d}"
    print(one_line(title), configuration_lines(certfile, keyfile), sep="\n", flush=True)
    return 0
