"""Customers of sshd, each in a jail: their folders, their lines in authorized_keys and, if wanted, their
accounts.

Either all log in as one account and are distinguished by their keys, or each has an account. All steps are
planned first, and every obstacle is reported before anything is done; if a step fails, the earlier ones are
undone. authorized_keys is replaced whole, and other lines stay. What may not enter: options, how sshd is
configured. Facts: sshd(8) on authorized_keys and its permissions.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import stat
from functools import partial

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.host import accounts, homes, making, privileges
from pysftpserver.people import forced
from pysftpserver.people.customers import first_of
from pysftpserver.people.keys import fingerprint, key_line, parse_line
from pysftpserver.people.keys_files import KeysFile, doubles, rewriting, writing
from pysftpserver.people.steps import (
    FOLDER_MODE,
    Step,
    has_account,
    home_of,
    is_half_made,
    new_account,
    new_directory,
    nothing,
    own_account,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pysftpserver.people.customers import Customer

OWN_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")  # what useradd takes everywhere
ABOVE_MODE = 0o755


class Where:
    """Where customers are. account: shared by all; None: each has one of the same name, in this group.

    path: the directory of their folders. keys_file: authorized_keys, in which %u is an account's name and
    %h its home; None: .ssh/authorized_keys of the shared account. command: pysftpjail, as words for a shell.
    makes_account: whether the shared account is created if it is missing. Raises BadInput.
    """

    def __init__(
        self,
        account: str | None,
        group: str,
        path: str,
        keys_file: str | None,
        command: str,
        makes_account: bool = False,
    ) -> None:
        self.account = account
        self.group = group
        self.path = os.path.abspath(path)
        if account is None and keys_file is not None and not ("%u" in keys_file or "%h" in keys_file):
            raise BadInput(
                f"{keys_file}: a key in it would let into every account; give each account a file, "
                "with %u in --authorized-keys"
            )
        self.pattern = keys_file or ("%h/.ssh/authorized_keys" if account else "/etc/ssh/authorized_keys/%u")
        self.command = command
        self.makes_account = makes_account

    @property
    def shown(self) -> str:
        """Where the keys are, for messages."""
        is_one = self.account is not None and has_account(self.account)
        return self.keys_file_of(self.account) if is_one and self.account else self.pattern

    def account_of(self, customer: str) -> str:
        return self.account or customer

    def keys_file_of(self, account: str) -> str:
        """The path of an account's file of keys. Raises BadInput if it needs a home and has none."""
        path = self.pattern.replace("%u", account)
        return path.replace("%h", home_of(account)) if "%h" in path else path


class Found:
    """An existing customer. lines: of authorized_keys."""

    def __init__(self, name: str, file: KeysFile, lines: list[forced.Line]) -> None:
        self.name = name
        self.file = file
        self.lines = lines

    @property
    def is_on(self) -> bool:
        return any(line.is_on for line in self.lines)


MATCH = """\
Match Group {group}
    AuthorizedKeysFile {pattern}
    AuthenticationMethods publickey
    DisableForwarding yes
    PermitTTY no
    PermitUserRC no
"""


class Jails:
    """The customers at one place."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self._files: dict[str, KeysFile] = {}

    def found(self) -> dict[str, Found]:
        """All existing customers, by name. Raises BadInput."""
        customers: dict[str, Found] = {}
        for account in self._accounts():
            file = self._file(account)
            for line in file.lines():
                # An account could write another customer's line into its own file.
                if line.customer is not None and line.customer == (
                    line.customer if self.where.account else account
                ):
                    known = customers.setdefault(line.customer, Found(line.customer, file, []))
                    known.lines.append(line)
        return dict(sorted(customers.items()))

    def _accounts(self) -> list[str]:
        """The accounts that may have customers."""
        where = self.where
        if where.account is not None:
            missing = where.makes_account and not has_account(where.account)
            return [] if missing else [where.account]
        before, _, after = where.pattern.partition("%u")
        directory, start = os.path.split(before)
        if "/" in after or "%h" in where.pattern:
            return [one.pw_name for one in pwd.getpwall() if making.was_made_here(one.pw_name)]
        with contextlib.suppress(FileNotFoundError):
            names = (
                name for name in os.listdir(directory) if name.startswith(start) and name.endswith(after)
            )
            cut = (name[len(start) : len(name) - len(after)] for name in names)
            return sorted(name for name in cut if OWN_NAME.fullmatch(name))
        return []

    def _file(self, account: str) -> KeysFile:
        """Raises BadInput."""
        path = self.where.keys_file_of(account)
        if path not in self._files:
            home = pwd.getpwnam(account).pw_dir if has_account(account) else None
            is_in_home = home is not None and home != "/" and homes.is_below(path, home)
            own = own_account(account) if home is not None else None
            is_own = own is not None and (is_in_home or making.is_led_by(own, path))
            self._files[path] = KeysFile(path, own if is_own else None)
        return self._files[path]

    # --- what is to be done -------------------------------------------------------------------------------

    def making(self, customers: Sequence[Customer]) -> list[Step]:
        """Steps that create or change customers as wanted; [] if none are needed. Raises BadInput with every
        problem.
        """
        known = self.found()
        problems: list[str] = []
        steps: list[Step] = []
        notes: list[Step] = []
        owners: dict[str, str] = {}  # an account of each file
        wanted: dict[str, dict[str, list[str]]] = {}  # lines of customers, by the path of the file
        self._plan_accounts([one.name for one in customers], steps, problems)
        if not os.path.isdir(self.where.path):
            steps.append(new_directory(self.where.path, ABOVE_MODE, None, None))
        places: dict[str, str] = {}  # whose folder it is
        for customer in customers:
            name, account = customer.name, self.where.account_of(customer.name)
            try:
                was = known.get(name)
                lines = self._lines_for(customer, was)
                if was is None or [line.text for line in was.lines] != lines:
                    notes.append(Step(_difference(was, name, lines), nothing, nothing))
                folder = os.path.join(self.where.path, customer.folder)
                if places.setdefault(folder, name) == name:
                    self._plan_folder(folder, account, steps)
                elif self.where.account is None:
                    raise BadInput(f"folder {folder} is customer {places[folder]}'s; choose another")
                path = self._path_if_planned(account)
                wanted.setdefault(path, {})[name] = lines
                owners[path] = account
            except (BadInput, ValueError) as error:
                problems.append(f"customer {one_line(name)}: {error}")
        texts = {
            path: forced.with_lines(self._text_of(owners[path]), lines) for path, lines in wanted.items()
        }
        for path, text in texts.items():
            problems += doubles(path, text)
        if problems:
            raise BadInput(first_of(list(dict.fromkeys(problems))))
        steps += notes
        for path, account in owners.items():
            if texts[path] != self._text_of(account):
                self._plan_text(account, path, texts[path], steps)
        return steps

    def switching(self, names: Sequence[str], is_on: bool) -> list[Step]:
        """Steps that switch customers' access on or off. Raises BadInput."""
        return self._changing(
            names,
            lambda line: (
                line.text.removeprefix(forced.OFF)
                if is_on
                else forced.OFF + line.text.removeprefix(forced.OFF)
            ),
        )

    def removing(self, names: Sequence[str]) -> list[Step]:
        """Steps that remove customers' keys, and accounts that were created for them. The files stay.

        Raises BadInput.
        """
        steps = self._changing(names, lambda line: None)
        if self.where.account is None:
            for name in names:
                if has_account(name) and making.was_made_here(name):
                    steps.append(Step(f"remove the account {name}", partial(making.remove_account, name)))
        return steps

    def _changing(self, names: Sequence[str], change: Callable[[forced.Line], str | None]) -> list[Step]:
        known = self.found()
        for name in names:
            if name not in known:
                raise BadInput(f"no customer named {one_line(name)} in {self.where.shown}")
        steps: list[Step] = []
        wanted: dict[str, dict[str, list[str]]] = {}  # lines of customers, by the path of the file
        for name in names:
            changed = (change(line) for line in known[name].lines)
            lines = [line for line in changed if line is not None]
            wanted.setdefault(known[name].file.path, {})[name] = lines
        for path, customers in wanted.items():
            file = self._files[path]
            text = forced.with_lines(file.text, customers)
            if text == file.text:
                continue
            _check_others(file, {name: known[name] for name in customers})
            if not text.strip() and self.where.account is None:
                old = file.text
                steps.append(Step(f"remove {file.path}", file.remove, rewriting(file, old)))
            else:
                steps.append(writing(file, text))
        return steps

    def _plan_accounts(self, names: Iterable[str], steps: list[Step], problems: list[str]) -> None:
        where = self.where
        if where.account is not None:
            if not has_account(where.account) and where.makes_account:
                steps.append(new_account(where.account, f"/var/lib/{where.account}", None, True))
            return
        group = privileges.group_number(where.group)
        if group is None:
            steps.append(
                Step(
                    f"make the group {where.group}",
                    lambda: making.make_group(where.group),
                    lambda: making.remove_group(where.group),
                )
            )
        for name in names:
            if not OWN_NAME.fullmatch(name):
                problems.append(
                    f"customer {one_line(name)}: an account cannot have this name; "
                    "use up to 31 of a-z, 0-9, _ and -"
                )
            elif not has_account(name):
                steps.append(new_account(name, os.path.join("/nonexistent", name), where.group, False))
            elif pwd.getpwnam(name).pw_uid == 0 or group not in privileges.account(name).groups:
                problems.append(
                    f"customer {name}: there is an account of that name, which is not in the group "
                    f"{where.group}; choose another name"
                )

    def _plan_folder(self, folder: str, account: str, steps: list[Step]) -> None:
        """Raises BadInput."""
        owner = own_account(account) if has_account(account) else None
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            steps.append(new_directory(folder, FOLDER_MODE, account, None))
            return
        except OSError as error:
            raise BadInput(f"folder {folder}: {reason_of(error)}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise BadInput(f"folder {folder}: not a directory; move it away")
        if os.geteuid() == 0 and is_half_made(folder, found):
            steps.append(new_directory(folder, FOLDER_MODE, account, None, is_half_made=True))
            return
        if owner is None or found.st_uid != owner.uid:
            name = accounts.username(found.st_uid)
            whose = f"uid {found.st_uid}" if name is None else os.fsdecode(name)
            raise BadInput(
                f"folder {folder}: it belongs to {one_line(whose)} and not to {account}; name its account, "
                "or choose another folder"
            )

    def _lines_for(self, customer: Customer, known: Found | None) -> list[str]:
        """Raises BadInput, ValueError."""
        account = self.where.account_of(customer.name)
        folder = os.path.join(self.where.path, customer.folder)
        if known is not None and known.lines[0].directory != folder:
            raise BadInput(
                f"its folder would be {folder} and no longer {known.lines[0].directory}; say where the "
                "folders are with --path, or remove the customer first"
            )
        if not customer.keys:
            raise BadInput("no key; add one to the column key")
        if has_account(account):
            home = os.path.realpath(home_of(account))
            for place in (home, *(os.path.join(home, name) for name in homes.START_UP)):
                if homes.is_below(place, os.path.realpath(folder)):
                    raise BadInput(f"folder {folder}: it would hold {place}, from which programs are started")
        if customer.name.startswith("-"):
            raise BadInput(f"the name begins with -, and {forced.PROGRAM} would take it for an option")
        words = [self.where.command]
        words += ["--read-only"] if customer.is_read_only else []
        words += list(map(shlex.quote, shlex.split(customer.fields.get("options", ""))))
        words += ["--name", shlex.quote(customer.name), shlex.quote(folder)]
        if forced.name_in(shlex.split(" ".join(words))) != customer.name:
            raise BadInput("options: --name is the customer's own name; remove it there")
        before = forced.options(" ".join(words), customer.fields.get("networks", ""))
        off = "" if known is None or known.is_on else forced.OFF
        keys = dict(parse_line(key) for key in customer.keys)
        return [
            f"{off}{before} {key_line(blob, comment if comment and comment.isprintable() else customer.name)}"
            for blob, comment in keys.items()
        ]

    def _path_if_planned(self, account: str) -> str:
        """The path of the file of an account that may be made only now."""
        if has_account(account):
            return self.where.keys_file_of(account)
        home = f"/var/lib/{account}" if self.where.account else os.path.join("/nonexistent", account)
        return self.where.pattern.replace("%u", account).replace("%h", home)

    def _text_of(self, account: str) -> str:
        if has_account(account) or "%h" not in self.where.pattern:
            return self._file(account).text
        return ""

    def _plan_text(self, account: str, path: str, text: str, steps: list[Step]) -> None:
        directory = os.path.dirname(path)
        home = home_of(account) if has_account(account) else ""
        is_roots = "%h" not in self.where.pattern and not (home and homes.is_below(path, home))
        if not os.path.isdir(directory) and not any(step.words.endswith(f" {directory}") for step in steps):
            mode = ABOVE_MODE if is_roots else 0o700
            owner = None if is_roots else account
            steps.append(new_directory(directory, mode, owner, owner))
        if has_account(account) or is_roots:
            steps.append(writing(self._file(account), text))
            return

        def write() -> None:
            self._file(account).write(text)

        steps.append(Step(f"write {path}", write, lambda: self._file(account).remove()))


def sessions_of(names: Iterable[str]) -> list[int]:
    """The processes that serve these customers now, as far as this account can see them."""
    wanted, found = set(names), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
                if forced.name_in(words) in wanted and int(entry) != os.getpid():
                    found.append(int(entry))
    return sorted(found)


def described(found: Found) -> dict[str, object]:
    """A customer for JSON and tables."""
    blobs = [line.blob for line in found.lines if line.blob is not None]
    return {
        "name": found.name,
        "active": found.is_on,
        "keys": [fingerprint(blob) for blob in blobs],
        "folder": found.lines[0].directory,
        "read_only": found.lines[0].is_read_only,
        "networks": found.lines[0].options.get("from", ""),
        "authorized_keys": found.file.path,
    }


def _difference(was: Found | None, name: str, lines: Sequence[str]) -> str:
    """What happens to a customer, in words."""
    if was is None:
        return f"add customer {name}"
    before, after = was.lines[0], forced.Line(lines[0])
    if before.options != after.options:
        return f"change customer {name}: {_shown(before)}, becomes {_shown(after)}"
    return f"change customer {name}: keys"


def _shown(line: forced.Line) -> str:
    networks = line.options.get("from")
    return shlex.join(line.words) + (f" from {networks}" if networks else "")


def _check_others(file: KeysFile, customers: Mapping[str, Found]) -> None:
    """Raises BadInput if another line would let in the key of a customer who is to be kept out."""
    keys = {line.blob: name for name, found in customers.items() for line in found.lines}
    for number, line in enumerate(file.lines(), 1):
        if line.is_on and line.blob is not None and line.customer not in customers and line.blob in keys:
            raise BadInput(
                f"line {number} of {file.path} has the key of customer {one_line(keys[line.blob])}; remove "
                "it, or it would let in by that key"
            )
