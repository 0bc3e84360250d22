"""pysftp-users: adds customers of OpenSSH's sshd, each in a jail, switches them off and removes them.

Names and options; people/jailing.py plans and does the work, host/logins.py tries the logins.
"""

from __future__ import annotations

import os
import shlex
import sys

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Commands, Option, Subcommand, markdown_table
from pysftpserver.failures import BadInput, one_line
from pysftpserver.host.accounts import own_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.people.customers import Customer
    from pysftpserver.people.jailing import Jails
    from pysftpserver.people.steps import Step

PROG = "pysftp-users"
JAIL = "pysftpjail"
DEFAULT_PATH, DEFAULT_GROUP = "/srv/sftp", "sftponly"


def _command(text: str) -> str:
    """Words for a shell. Raises BadValue."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not text.isprintable() or not any(os.path.basename(word) == JAIL for word in words):
        raise BadValue(f"has to run {JAIL}, not {text!r}")
    return text


# fmt: off
SHARED = (
    Option(
        "--account", metavar="ACCOUNT",
        help="Account of the host that all customers log in as; sshd tells them apart by their keys. The "
        "default is the account that runs this, if that is not root.",
    ),
    Option(
        "--own-accounts",
        help="Give each customer an account of the host, with the customer's name. The default is one "
        "account for all.",
    ),
    Option(
        "--group", metavar="GROUP", default=DEFAULT_GROUP,
        help="With --own-accounts, the group that the accounts are in, for a Match block in sshd_config. The "
        f"default is {DEFAULT_GROUP}.",
    ),
    Option(
        "--path", metavar="DIR", default=DEFAULT_PATH,
        help=f"Directory that holds the customers' folders. The default is {DEFAULT_PATH}.",
    ),
    Option(
        "--authorized-keys", metavar="FILE",
        help="File in which sshd looks for keys; %%u stands for the account's name and %%h for its home "
        "directory. The default is %%h/.ssh/authorized_keys, and /etc/ssh/authorized_keys/%%u with "
        "--own-accounts.",
    ),
    Option(
        "--command", metavar="COMMAND", convert=_command,
        help="Force this command, words for a shell to which --name and the folder are added; with further "
        f"options of {JAIL}, these are every customer's. The default is the {JAIL} in the directory of this "
        "command.",
    ),
    Option("--json", name="as_json", help="Print JSON. The default is text for people."),
)
DRY_RUN = Option("--dry-run", help="Print what would be done, and do nothing. The default is to do it.")
CREATE = Option(
    "--create-account", help="Make the account of --account if it is missing. The default is to refuse."
)
CONFIG = Option(
    "--sshd-config", metavar="FILE",
    help="The configuration that sshd runs with. The default is the one that sshd reads by itself.",
)
ADD = (
    Option(
        "--key", name="keys", metavar="KEY", is_repeated=True,
        help="A public key of the customer, or a file with a key on each line. It may be given several "
        "times. There is none by default.",
    ),
    Option("--folder", metavar="FOLDER", help="The customer's folder below --path. The default is the name."),
    Option(
        "--networks", metavar="NETWORKS",
        help="Let the customer log in from these networks only, separated by commas, and not from those "
        "after a !. The default is from everywhere.",
    ),
    Option(
        "-R", "--read-only", help="Let the customer change nothing. The default is to let them."
    ),
    CREATE,
    DRY_RUN,
)
# fmt: on
NAME = ("name", "The name of the customer.")


def shared_options() -> str:
    """The table of the options that all subcommands take, for the page."""
    return markdown_table(Command(PROG, "", "", SHARED))


def _jails(options: dict[str, Any], makes_account: bool = False) -> Jails:
    """The place of the customers. Raises BadInput."""
    from pysftpserver.people.jailing import Jails, Where

    account = options["account"]
    if options["own_accounts"] and account is not None:
        raise BadInput("--account and --own-accounts: give one of them")
    if account is None and not options["own_accounts"]:
        if os.geteuid() == 0:
            raise BadInput(
                "say whose files they are: --account ACCOUNT for one account with a key for each customer, "
                "or --own-accounts for an account for each customer"
            )
        account = own_name()
    if os.geteuid() != 0 and account != own_name():
        raise BadInput(
            f"only root can do that for other accounts; run {PROG} as root, or leave out the account"
        )
    command = options["command"] or _beside()
    return Jails(
        Where(account, options["group"], options["path"], options["authorized_keys"], command, makes_account)
    )


def _beside() -> str:
    """pysftpjail in the directory of this command, by its full path, because sshd sets a short PATH.

    Raises BadInput.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), JAIL)
    if not os.access(path, os.X_OK):
        raise BadInput(f"{path}: no such program; say where {JAIL} is with --command")
    return shlex.quote(path)


def _subcommand(
    word: str,
    summary: str,
    act: Callable[[dict[str, Any]], int],
    arguments: Sequence[tuple[str, str]] = (),
    options: Sequence[Option] = (),
    rest: tuple[str, str] | None = None,
) -> Subcommand:
    def declared() -> Command:
        return Command(f"{PROG} {word}", summary, "", (*options, *SHARED), arguments, rest)

    return Subcommand(word, summary, lambda words: act(declared().parse(words)), declared)


def _add(options: dict[str, Any]) -> int:
    """Add a customer with the given keys and options."""
    from pysftpserver.people.customers import Customer, keys_in
    from pysftpserver.people.keys import BadKey, parse_line

    keys: list[str] = []
    for text in options["keys"] or ():
        try:
            keys += [text] if " " in text.strip() and parse_line(text) else keys_in(text)
        except BadKey as error:
            raise BadInput(f"--key: {error}") from None
    if not keys:
        raise BadInput("add: give the customer's public key, or its file, with --key")
    fields = {name: options[name] or "" for name in ("folder", "networks")}
    read_only = "yes" if options["read_only"] else ""
    return _make(options, [Customer(options["name"], keys, read_only=read_only, **fields)])


def _import(options: dict[str, Any]) -> int:
    from pysftpserver.people import customers

    return _make(options, customers.checked(customers.read(options["file"]), are_jailed=True))


def _make(options: dict[str, Any], wanted: list[Customer]) -> int:
    """Bring customers into the wanted state; return the exit status. Raises BadInput."""
    from pysftpserver.cli.pysftpjail import COMMAND as OF_JAIL
    from pysftpserver.cli.session import client_name

    jails = _jails(options, options["create_account"])
    for one in wanted:
        problem = one.problem
        try:
            client_name(one.name)
            more = shlex.split(one.fields.get("options", ""))
            if OF_JAIL.parse([*more, "--name", "x", "/"])["check"]:
                raise ValueError("options: --check serves nothing; remove it")
        except (BadValue, ValueError) as error:
            problem = problem or str(error)
        except BadInput as error:
            problem = problem or f"options: {error.message}"
        except SystemExit:
            problem = "options: there is one among them that serves nothing"
        if problem:
            raise BadInput(f"customer {one_line(one.name)}: {problem}")
    status = _carry_out(
        options, jails.making(wanted), f"nothing to do: all {len(wanted)} are as they should be"
    )
    if wanted and not options["dry_run"] and not options["as_json"]:
        status = _try(options, jails, [wanted[0].name], only_problems=True)
        if status and options["own_accounts"]:
            from pysftpserver.people.jailing import MATCH

            print("sshd needs this, for example in /etc/ssh/sshd_config.d/sftp-customers.conf:")
            print(MATCH.format(group=options["group"], pattern=jails.where.pattern), end="")
    return status


def _carry_out(options: dict[str, Any], steps: Sequence[Step], nothing: str) -> int:
    from pysftpserver.people.steps import carry_out

    if not options["dry_run"]:
        carry_out(steps)
    if options["as_json"]:
        _print_json({"done" if not options["dry_run"] else "would": [step.words for step in steps]})
    elif not steps:
        print(nothing)
    for step in steps if not options["as_json"] else ():
        print(one_line(f"would {step.words}" if options["dry_run"] else step.words))
    return 0


def _list(options: dict[str, Any]) -> int:
    from pysftpserver.people.jailing import described

    found = [described(one) for one in _jails(options).found().values()]
    if options["as_json"]:
        _print_json(found)
        return 0
    rows = [("CUSTOMER", "ACTIVE", "KEYS", "ACCESS", "FOLDER")]
    for one in found:
        access = "read only" if one["read_only"] else "all"
        keys = len(one["keys"]) if isinstance(one["keys"], list) else 0
        rows.append(
            (str(one["name"]), "yes" if one["active"] else "no", str(keys), access, str(one["folder"]))
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            one_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        )
    return 0


def _activate(options: dict[str, Any]) -> int:
    return _carry_out(options, _jails(options).switching(_names(options), True), "nothing to do: active")


def _deactivate(options: dict[str, Any]) -> int:
    steps = _jails(options).switching(_names(options), False)
    return _after(options, _carry_out(options, steps, "nothing to do: not active"))


def _remove(options: dict[str, Any]) -> int:
    steps = _jails(options).removing(_names(options))
    return _after(options, _carry_out(options, steps, "nothing to do"))


def _after(options: dict[str, Any], status: int) -> int:
    """Print which sessions go on, because sshd checks keys only at login."""
    from pysftpserver.people.jailing import sessions_of

    pids = [] if options["dry_run"] else sessions_of(_names(options))
    if pids:
        common.tell(f"{PROG}: sessions that are open go on; to end them: kill {' '.join(map(str, pids))}")
    return status


def _names(options: dict[str, Any]) -> list[str]:
    """Raises BadInput."""
    names: list[str] = options["names"]
    if not names:
        raise BadInput("name at least one customer")
    return list(dict.fromkeys(names))


def _check(options: dict[str, Any]) -> int:
    jails = _jails(options)
    names = options["names"] or list(jails.found())
    if not names:
        raise BadInput(f"there are no customers in {jails.where.shown}; add some with {PROG} import or add")
    return _try(options, jails, names, only_problems=False)


def _try(options: dict[str, Any], jails: Jails, names: Sequence[str], only_problems: bool) -> int:
    """Try what sshd would do for customers; return the exit status. Raises BadInput."""
    from pysftpserver.cli.checks import show
    from pysftpserver.host.logins import findings

    found = jails.found()
    status = 0
    for name in names:
        customer = found.get(name)
        if customer is None:
            raise BadInput(f"no customer named {one_line(name)} in {jails.where.shown}")
        line = customer.lines[0]
        if not only_problems:
            print(one_line(f"{name}:") if customer.is_on else one_line(f"{name}: switched off"))
        tried = findings(
            jails.where.account_of(name), line.words, line.directory, line.is_read_only, customer.file.path,
            options.get("sshd_config"),
        )  # fmt: skip
        status = max(status, show(tried, only_problems, "  "))
    return status


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value), flush=True)


NAMES = ("names", "Names of customers.")
COMMANDS = Commands(
    PROG,
    description="Adds customers of OpenSSH's sshd, many at once, each in a jail of pysftpjail; switches them "
    "off and on, removes them, and tries what sshd would do for them.",
    subcommands=(
        _subcommand("list", "List all customers.", _list),
        _subcommand("add", "Add a customer, or change one.", _add, [NAME], ADD),
        _subcommand(
            "import",
            "Make the customers in a file what it says; others stay as they are.",
            _import,
            [("file", "A table in CSV or TSV, whose first line names the columns.")],
            (CREATE, DRY_RUN, CONFIG),
        ),
        _subcommand("activate", "Let customers log in again.", _activate, (), (DRY_RUN,), NAMES),
        _subcommand("deactivate", "Refuse customers' logins.", _deactivate, (), (DRY_RUN,), NAMES),
        _subcommand("remove", "Remove customers; the files stay.", _remove, (), (DRY_RUN,), NAMES),
        _subcommand(
            "check", "Try what sshd would do for customers, and say what is wrong.", _check, (), (CONFIG,),
            ("names", "Names of customers; all, if there is none."),
        ),
    ),
    epilog=f"Run {PROG} help COMMAND for the options of a command. Nothing is changed unless all of it can "
    "be.",
    shared=SHARED,
    examples=(
        ("Add thirty customers, or change them:", f"{PROG} --account sftp import customers.csv"),
        ("Try what sshd would do for one:", f"{PROG} --account sftp check acme"),
    ),
    statuses=((1, "Something cannot be done, or check has found something wrong."),),
)  # fmt: skip

main = common.main_of(PROG, COMMANDS.run)
