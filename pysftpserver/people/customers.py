"""A file of customers: a table with a row for each, in CSV or TSV, for commands that add many at once.

The same file serves pysftp-users (system accounts, jailed) and pysftpctl (users of pysftpd). A
customer may have several rows, one for each key. What may not enter: accounts, records of users.
Facts: RFC 4180.
"""

from __future__ import annotations

import csv
import io
import os

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.people.keys import BadKey, parse_authorized_keys, parse_line
from pysftpserver.people.records import folder_problem, name_problem, networks_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 64 << 20  # bytes of a file
MOST_TOLD = 10  # problems listed in one message
MOST_KEYS = 1 << 20  # bytes of a file with keys
TRUE, FALSE = ("yes", "true", "1"), ("no", "false", "0", "")
#: The columns, and what is in them. Only the first is required.
COLUMNS = {
    "name": "The customer's name, in logs and, with an account for each, of the account.",
    "key": "A public key (the line of a .pub file), or the path of a file with keys, seen from this file.",
    "folder": "The customer's folder below the directory of all customers. The default is the name.",
    "networks": "Networks that the customer may come from, with commas between them. The default is all.",
    "read_only": "yes: the customer may change nothing. The default is no. pysftp-users only.",
    "options": "More options of pysftpjail, as for a shell. pysftp-users only.",
    "storage": "The name of the customer's storage. The default is the folder. pysftpctl only.",
    "run_as": "Account that the customer's sessions run as. pysftpctl only.",
    "site": "The customer's site file. pysftpctl only.",
    "principals": "Principals of certificates, with commas between them. pysftpctl only.",
}


class Customer:
    """A customer, from one or more rows. keys: lines of keys. fields: the other columns with content."""

    def __init__(self, name: str, keys: Iterable[str] = (), **fields: str) -> None:
        self.name = name
        self.keys = list(keys)
        self.fields = {field: text for field, text in fields.items() if text}

    @property
    def folder(self) -> str:
        return self.fields.get("folder", self.name)

    @property
    def is_read_only(self) -> bool:
        return self.fields.get("read_only", "") in TRUE

    @property
    def problem(self) -> str | None:
        """Why this customer cannot be added, or None."""
        networks = self.fields.get("networks")
        return (
            name_problem(self.name)
            or folder_problem(self.folder)
            or (networks_problem(networks) if networks else None)
            or (None if self.fields.get("read_only", "") in TRUE + FALSE else "read_only has to be yes or no")
        )


def markdown_table() -> str:
    """The columns as a table, for the documentation."""
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in COLUMNS.items())
    return f"| column | what is in it |\n| --- | --- |\n{rows}"


def read(path: str) -> list[Customer]:
    """The customers in a file, in its order. Raises BadInput that lists every mistake."""
    text = _text_of(path, "customers", MOST).removeprefix("\ufeff")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if not _is_idle(line)]
    if not lines:
        raise BadInput(f"{path}: no customers in it; its first line names the columns: {','.join(COLUMNS)}")
    header = lines[0][1]
    delimiter = next((one for one in "\t;" if one in header), ",")
    columns = [word.strip().lower() for word in _cells(header, delimiter)]
    for column in columns:
        if column not in COLUMNS or columns.count(column) > 1:
            what = "unknown" if column not in COLUMNS else "there twice"
            raise BadInput(
                f"{path}: line {lines[0][0]}: column {one_line(column)!r} is {what}; the first line names "
                f"the columns, some of {', '.join(COLUMNS)}"
            )
    if "name" not in columns:
        raise BadInput(f"{path}: line {lines[0][0]}: there is no column name; add it to the first line")
    customers: dict[str, Customer] = {}
    problems = []
    for number, line in lines[1:]:
        try:
            cells = [cell.strip() for cell in _cells(line, delimiter)]
            if len(cells) > len(columns):
                raise ValueError(f"{len(cells)} columns; the first line names {len(columns)}")
            row = dict(zip(columns, cells, strict=False))
            _add(customers, row, os.path.dirname(path))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise BadInput(f"{path}: {first_of(problems)}")
    return list(customers.values())


def first_of(problems: list[str]) -> str:
    """The first problems, in one message."""
    more = [f"and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
    return "; ".join((*problems[:MOST_TOLD], *more))


def checked(customers: list[Customer], are_jailed: bool) -> list[Customer]:
    """The customers, if they can all be served. are_jailed: by pysftpjail; otherwise by pysftpd.

    Raises BadInput.
    """
    own = ("read_only", "options") if are_jailed else ("storage", "run_as", "site", "principals")
    others = {"read_only", "options", "storage", "run_as", "site", "principals"} - set(own)
    what = "pysftp-users" if are_jailed else "pysftpctl"
    instead = "use pysftpd and pysftpctl" if are_jailed else "write a rule in a site file (docs/site.md)"
    for one in customers:
        for field in sorted(others & one.fields.keys()):
            if one.fields[field] not in FALSE:
                raise BadInput(f"customer {one_line(one.name)}: {what} has no use for {field}; {instead}")
    return customers


def keys_in(path: str) -> list[str]:
    """The lines of a file with public keys. Raises BadInput."""
    found, problems = parse_authorized_keys(_text_of(path, "key file", MOST_KEYS), _checked_line)
    if problems:
        raise BadInput(f"key file {path}: {problems[0]}")
    if not found:
        raise BadInput(f"key file {path}: no key in it; name a file with public keys")
    return found


def _checked_line(line: str) -> str:
    """The line of a key, checked. Raises BadKey."""
    parse_line(line)
    return line.strip()


def _add(customers: dict[str, Customer], row: dict[str, str], directory: str) -> None:
    """Add a row to the customers. Raises ValueError."""
    name, key = row.pop("name", ""), row.pop("key", "")
    new = Customer(name, **row)
    new.fields |= {"read_only": new.fields["read_only"].lower()} if "read_only" in new.fields else {}
    if new.problem:
        raise ValueError(f"{one_line(name)}: {new.problem}" if name else new.problem)
    known = customers.setdefault(name, new)
    for field, text in new.fields.items():
        if known.fields.setdefault(field, text) != text:
            raise ValueError(f"{name}: another {field} than in a line above")
    try:
        if key.startswith(("ssh-", "ecdsa-", "sk-", "AAAA")):
            known.keys.append(_checked_line(key))
        elif key:
            known.keys += keys_in(os.path.join(directory, key))
    except BadKey as error:
        raise ValueError(f"{name}: key: {error}") from None
    except BadInput as error:
        raise ValueError(f"{name}: {error.message}") from None


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line. Raises ValueError."""
    try:
        return next(csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _is_idle(line: str) -> bool:
    return not line.strip(" \t,;") or line.lstrip().startswith("#")


def _text_of(path: str, what: str, most: int) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise BadInput(f"{what} {path}: larger than {most >> 20} MiB")
        return content.decode()
    except (OSError, ValueError) as error:
        raise BadInput(f"{what} {path}: {reason_of(error)}; name a file that can be read") from None
