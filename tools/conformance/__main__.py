"""Writes docs/conformance.md: python -m tools.conformance [--page] [SERVER...]

Every server of servers.py that is available here is started on loopback and tested. With names, only these
are tested, and the page shows the last results of the others. --page tests none.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tests.support.paths import ROOT
from tools.conformance import page, probing
from tools.conformance.servers import SERVERS, Server

DOCS = ROOT / "docs"


def write(texts: dict[str, str]) -> None:
    """Write the pages, and remove those of servers that no longer break a rule."""
    directory = DOCS / "conformance"
    directory.mkdir(exist_ok=True)
    for path in directory.glob("*.md"):
        if f"conformance/{path.name}" not in texts:
            path.unlink()
    for name, text in texts.items():
        (DOCS / name).write_text(text)


def probed(servers: Sequence[Server]) -> int:
    """Probe servers in a confined process; return its exit status, which is 0 if it could be confined."""
    with probing.top_directory() as top:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                probing.confine(top)
                for server in servers:
                    probing.keep(probing.probe(server, top))
                status = 0
            except OSError as error:
                print(
                    f"servers are not started here, because they cannot be confined: {error}", file=sys.stderr
                )
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page from what was found last")
    parser.add_argument(
        "servers", nargs="*", metavar="SERVER", help="one of " + " ".join(s.word for s in SERVERS)
    )
    given = parser.parse_args()
    unknown = set(given.servers) - {server.word for server in SERVERS}
    if unknown:
        parser.error(f"no such server: {' '.join(sorted(unknown))}")
    chosen = [server for server in SERVERS if not given.servers or server.word in given.servers]
    if not given.page and (status := probed(chosen)):
        return status
    found = [(server, probing.kept(server)) for server in SERVERS]
    missing = [server.word for server, document in found if document is None]
    if missing:
        print(f"not tried yet, and not on the page: {' '.join(missing)}", file=sys.stderr)
    write(page.pages([(server, document) for server, document in found if document is not None]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
