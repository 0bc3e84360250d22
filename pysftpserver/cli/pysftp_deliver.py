"""pysftp-deliver: delivers the events of a site to their receivers."""

from __future__ import annotations

import contextlib
import signal

from pysftpserver.cli import common, session
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.engine.log import INFO, syslog
from pysftpserver.failures import BadInput, Unavailable, one_line
from pysftpserver.service.keeping import keep_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.site.opening import Site

PROG = "pysftp-deliver"


def numbers(text: str) -> list[int]:
    """Convert a list of event numbers, or "all", which gives an empty list. Raises BadValue."""
    if text == "all":
        return []
    if not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in text.split(",")):
        raise BadValue(f"invalid numbers {text!r}: use the ones that --list prints, such as 7,9, or all")
    return [int(part) for part in text.split(",")]


# fmt: off
COMMAND = Command(
    PROG,
    description="Delivers the events of a site to the programs, URLs and sockets that its file names.",
    epilog="Sessions start it by themselves. As a service, it also works while there are none, such as after "
    "a boot. One process delivers at a time; the others wait.",
    arguments=[("FILE", "The site file. It names the receivers and the state directory.")],
    options=(
        Option("--list", help="Print the events that wait and the dead letters, and exit."),
        Option(
            "--retry", metavar="NUMBERS", convert=numbers,
            help="Try these events again at once, dead letters too, and exit: numbers that --list prints, "
            "separated by commas, or all. The default is to deliver events that are due.",
        ),
        Option("--once", help="Exit when nothing waits and no session runs. The default is to stay."),
        *session.LOG_OPTIONS,
    ),
    examples=(
        ("Deliver as a service, without a log file:", f"{PROG} /etc/pysftpserver/partners.toml"),
        ("Try all events again:", f"{PROG} --retry all /etc/pysftpserver/partners.toml"),
    ),
    statuses=((1, "With --retry, no delivery has one of these numbers."),),
)
# fmt: on


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments and do what they ask for. Raises BadInput."""
    options = COMMAND.parse(arguments)
    site = opened_site(options["FILE"])
    if options["list"] or options["retry"] is not None:
        return list_events(site) if options["list"] else retry(site, options["retry"])
    log = session.open_log(PROG, options)
    deliver(site, options["once"], lambda text: log.write(INFO, one_line(text)), waits=True)
    return 0


def opened_site(path: str) -> Site:
    """A site file with a state directory. Raises BadInput."""
    from pysftpserver.site import opening

    site = opening.read(path)
    if site.state is None:
        raise BadInput(f"{path}: state: missing; events need a directory")
    return site


def list_events(site: Site) -> int:
    """Print waiting events: number, state, tries, event, path, receiver, and why the last try failed."""
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.receivers import shown
    from pysftpserver.site.spool import Spool

    ledger = Ledger(site.state or "")
    try:
        for receiver, delivery, is_dead, reason in Spool(ledger).waiting():
            state = "dead" if is_dead else "waiting"
            words = f"{delivery.event['event']} {delivery.event.get('path', '')}".rstrip()
            line = f"{delivery.seq} {state} {delivery.tries} {words}: {shown(receiver)}"
            print(one_line(f"{line}: {reason}" if reason else line), flush=True)
    finally:
        ledger.close()
    return 0


def retry(site: Site, chosen: list[int]) -> int:
    """Make events due now. Returns 1 if there are none."""
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.spool import Spool

    ledger = Ledger(site.state or "")
    try:
        count = Spool(ledger).retry(chosen)
    finally:
        ledger.close()
    print(f"{count} deliveries are due again", flush=True)
    return 0 if count else 1


def deliver(site: Site, until_idle: bool, tell: Callable[[str], object], waits: bool) -> None:
    """Deliver until a signal ends it. waits: wait while another deliverer runs. Raises BadInput."""
    keep_code()
    from pysftpserver.site.delivering import Deliverer
    from pysftpserver.site.ledger import Ledger
    from pysftpserver.site.receivers import receivers_of

    receivers = {one.name: one for entry in site.events for one in receivers_of(entry)}
    while True:
        with contextlib.closing(Ledger(site.state or "")) as ledger:
            if not ledger.become_deliverer(wait=waits):
                return
            deliverer = Deliverer(ledger, receivers.values(), lambda who: storage_of(site, who), tell)
            stop_on_signals(deliverer.stop)
            deliverer.run(until_idle)
            if deliverer.was_stopped:
                return
        # A session that has begun meanwhile has seen a deliverer, and started none.
        with contextlib.closing(Ledger(site.state or "")) as ledger:
            if not Deliverer(ledger, (), lambda who: storage_of(site, who), tell).has_work():
                return


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call stop when a signal asks this process to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop())


def storage_of(site: Site, who: dict[str, Any]) -> SFTPAbstractServerStorage:
    """The storage as a session saw it, without the layers of the site. Raises BadInput, Unavailable."""
    from pysftpserver.storages import by_name

    if not site.storage or not who:
        raise BadInput("the storage is not known")
    values = {field: who[field] for field in ("user", "folder") if who.get(field)}
    opening = by_name.Opening(values, is_touched=False, waits=True)
    opening.is_bare = True
    try:
        return by_name.open_storage(site.file, PROG, opening)
    except BadInput as error:
        raise Unavailable(error.message) from None


def deliver_for_sessions(path: str) -> None:
    """Deliver until no session runs and no event waits. A session starts this."""
    log = syslog(INFO, PROG)
    try:
        deliver(opened_site(path), True, lambda text: log.write(INFO, one_line(text)), waits=False)
    except BadInput as error:
        log.error(error.message)


main = common.main_of(PROG, serve)
