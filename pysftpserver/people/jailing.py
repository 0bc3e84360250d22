"""Customers of sshd, each in a jail: their folders, their lines in authorized_keys and, if wanted, their
accounts.

Either all log in as one account and are told apart by their keys, or each has an account. What is to be
done is planned first, and everything that speaks against it is said before anything is done; what fails
half-way is undone. authorized_keys is replaced whole, and lines of others stay. What may not enter:
options, how sshd is configured. Facts: sshd(8) on authorized_keys and its permissions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shlex
import stat
import time
from functools import partial

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.host import accounts, homes, making, privileges, wholefiles
from pysftpserver.people import forced
from pysftpserver.people.customers import first_of
from pysftpserver.people.keys import fingerprint, key_line, parse_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pysftpserver.host.privileges import Account
    from pysftpserver.people.customers import Customer

OWN_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")  # what useradd takes everywhere
FOLDER_MODE, ABOVE_MODE = 0o700, 0o755
KEYS_MODE, ROOTS_KEYS_MODE = 0o600, 0o644  # sshd reads root's as the account that logs in
LARGEST = 64 << 20  # bytes of authorized_keys
LOCK_PATIENCE, LOCK_PAUSE = 10.0, 0.05  # seconds


class Where:
    """Where customers are. account: of all of them; None: each has one of the same name, in this group.

    path: the directory of their folders. keys_file: authorized_keys, in which %u is an account's name and
    %h its home; None: .ssh/authorized_keys of the one account. command: pysftpjail, as words for a shell.
    makes_account: whether the one account is made if it is missing. Raises BadInput.
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
        is_one = self.account is not None and _is_there(self.account)
        return self.keys_file_of(self.account) if is_one and self.account else self.pattern

    def account_of(self, customer: str) -> str:
        return self.account or customer

    def keys_file_of(self, account: str) -> str:
        """Raises BadInput if the account's home is needed, and there is none."""
        path = self.pattern.replace("%u", account)
        return path.replace("%h", home_of(account)) if "%h" in path else path


class Step:
    """Something to do. words: what, for people. undo: what puts it back; None: nothing can."""

    def __init__(self, words: str, do: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
        self.words = words
        self.do = do
        self.undo = undo


def home_of(account: str) -> str:
    """Raises BadInput."""
    try:
        return pwd.getpwnam(account).pw_dir
    except KeyError:
        raise BadInput(
            f"there is no account {one_line(account)} on this host; make it with --create-account, or name "
            "another with --account"
        ) from None


def carry_out(steps: Sequence[Step]) -> None:
    """Do it all; if something fails or is interrupted, undo what was done. Raises BadInput."""
    done: list[Step] = []
    for step in steps:
        try:
            step.do()
        except BaseException as error:
            left = []
            for one in reversed(done):
                if one.undo is None:
                    left.append(one.words)
                    continue
                try:
                    one.undo()
                except (OSError, BadInput):
                    left.append(one.words)
            if not isinstance(error, (OSError, BadInput)):
                raise
            told = (
                f"; this is done and cannot be undone: {', '.join(left)}" if left else "; nothing was changed"
            )
            reason = error.message if isinstance(error, BadInput) else reason_of(error)
            raise Unavailable(f"{step.words}: {reason}{told}") from None
        done.append(step)


# --- what is there ----------------------------------------------------------------------------------------


class KeysFile:
    """A file of authorized_keys. account: whose it is to be; None: root's, or that of this process."""

    def __init__(self, path: str, account: Account | None) -> None:
        self.path = path
        self.account = account
        self.text = self._read()

    def lines(self) -> list[forced.Line]:
        return forced.lines_of(self.text)

    def _read(self) -> str:
        """The text; of a file that is not there, none. Raises BadInput."""
        with making.acting_as(self.account):
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                return ""
            except OSError as error:
                if os.path.islink(self.path):
                    raise BadInput(
                        f"{self.path}: it is a link; name the file that it leads to with --authorized-keys"
                    ) from None
                how = "run this as root"
                if self.account is not None and os.getuid() == 0:
                    how = f"root reads it as {self.account.name}: let that account, or name another file"
                raise BadInput(f"{self.path}: {reason_of(error)}; {how}") from None
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise BadInput(f"{self.path}: not a regular file; name another with --authorized-keys")
                if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise BadInput(
                        f"{self.path}: others may write it, so sshd would not read it; run chmod go-w on it"
                    )
                if found.st_size > LARGEST:
                    raise BadInput(f"{self.path}: larger than {LARGEST >> 20} MiB; remove lines from it")
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read().decode("utf-8", "surrogateescape")
            finally:
                os.close(descriptor)

    def write(self, text: str) -> None:
        """Replace the text, if the file is still what was read. Raises OSError, BadInput."""
        with making.acting_as(self.account), self._locked():
            if self._read_again() != self.text:
                raise BadInput(f"{self.path}: it was changed just now; try again")
            try:
                mode = stat.S_IMODE(os.stat(self.path).st_mode)
                owner = os.stat(self.path) if self.account is None else None
            except FileNotFoundError:
                mode, owner = KEYS_MODE if self.account or os.geteuid() else ROOTS_KEYS_MODE, None
            text = text or "\n"  # an empty file would not be synced
            content = text.encode("utf-8", "surrogateescape")
            with wholefiles.open_temporary(self.path, content, mode, owner) as new:
                new.commit()
        self.text = text

    def remove(self) -> None:
        """Raises OSError."""
        with making.acting_as(self.account):
            os.unlink(self.path)
        self.text = ""

    def _read_again(self) -> str:
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
        return ""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The only one that changes it, until the end of the block: by a lock on its directory.

        Whoever can read the directory can lock it, too, so it is not waited for without end. Raises BadInput.
        """
        directory = os.path.dirname(self.path)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        late_at = time.monotonic() + LOCK_PATIENCE
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > late_at:
                        raise BadInput(
                            f"another process has locked {directory}; find it with lslocks, end it, and try "
                            "again"
                        ) from None
                    time.sleep(LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)


class Found:
    """A customer that is there. lines: of authorized_keys."""

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
        """All customers that are there, by name. Raises BadInput."""
        customers: dict[str, Found] = {}
        for account in self._accounts():
            file = self._file(account)
            for line in file.lines():
                # An account could write a line of another customer into a file of its own.
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
            missing = where.makes_account and not _is_there(where.account)
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
            home = pwd.getpwnam(account).pw_dir if _is_there(account) else None
            is_in_home = home is not None and home != "/" and homes.is_below(path, home)
            own = _account(account) if home is not None else None
            is_own = own is not None and (is_in_home or making.is_led_by(own, path))
            self._files[path] = KeysFile(path, own if is_own else None)
        return self._files[path]

    # --- what is to be done -------------------------------------------------------------------------------

    def making(self, customers: Sequence[Customer]) -> list[Step]:
        """What makes each customer what it is to be; nothing where all are. Raises BadInput, with every
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
            steps.append(_directory(self.where.path, ABOVE_MODE, None, None))
        places: dict[str, str] = {}  # whose folder it is
        for customer in customers:
            name, account = customer.name, self.where.account_of(customer.name)
            try:
                was = known.get(name)
                lines = self._lines_for(customer, was)
                if was is None or [line.text for line in was.lines] != lines:
                    notes.append(Step(_difference(was, name, lines), _nothing, _nothing))
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
            problems += _doubles(path, text)
        if problems:
            raise BadInput(first_of(list(dict.fromkeys(problems))))
        steps += notes
        for path, account in owners.items():
            if texts[path] != self._text_of(account):
                self._plan_text(account, path, texts[path], steps)
        return steps

    def switching(self, names: Sequence[str], is_on: bool) -> list[Step]:
        """What lets customers in, or out. Raises BadInput."""
        return self._changing(
            names,
            lambda line: (
                line.text.removeprefix(forced.OFF)
                if is_on
                else forced.OFF + line.text.removeprefix(forced.OFF)
            ),
        )

    def removing(self, names: Sequence[str]) -> list[Step]:
        """What removes the keys of customers, and accounts that were made for them. The files stay.

        Raises BadInput.
        """
        steps = self._changing(names, lambda line: None)
        if self.where.account is None:
            for name in names:
                if _is_there(name) and making.was_made_here(name):
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
                steps.append(Step(f"remove {file.path}", file.remove, _rewrite(file, old)))
            else:
                steps.append(_writing(file, text))
        return steps

    def _plan_accounts(self, names: Iterable[str], steps: list[Step], problems: list[str]) -> None:
        where = self.where
        if where.account is not None:
            if not _is_there(where.account) and where.makes_account:
                steps.append(_new_account(where.account, f"/var/lib/{where.account}", None, True))
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
            elif not _is_there(name):
                steps.append(_new_account(name, os.path.join("/nonexistent", name), where.group, False))
            elif pwd.getpwnam(name).pw_uid == 0 or group not in privileges.account(name).groups:
                problems.append(
                    f"customer {name}: there is an account of that name, which is not in the group "
                    f"{where.group}; choose another name"
                )

    def _plan_folder(self, folder: str, account: str, steps: list[Step]) -> None:
        """Raises BadInput."""
        owner = _account(account) if _is_there(account) else None
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            steps.append(_directory(folder, FOLDER_MODE, account, None))
            return
        except OSError as error:
            raise BadInput(f"folder {folder}: {reason_of(error)}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise BadInput(f"folder {folder}: not a directory; move it away")
        if os.geteuid() == 0 and _is_half_made(folder, found):
            steps.append(_directory(folder, FOLDER_MODE, account, None, is_half_made=True))
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
        if _is_there(account):
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
        if _is_there(account):
            return self.where.keys_file_of(account)
        home = f"/var/lib/{account}" if self.where.account else os.path.join("/nonexistent", account)
        return self.where.pattern.replace("%u", account).replace("%h", home)

    def _text_of(self, account: str) -> str:
        if _is_there(account) or "%h" not in self.where.pattern:
            return self._file(account).text
        return ""

    def _plan_text(self, account: str, path: str, text: str, steps: list[Step]) -> None:
        directory = os.path.dirname(path)
        home = home_of(account) if _is_there(account) else ""
        is_roots = "%h" not in self.where.pattern and not (home and homes.is_below(path, home))
        if not os.path.isdir(directory) and not any(step.words.endswith(f" {directory}") for step in steps):
            mode = ABOVE_MODE if is_roots else 0o700
            owner = None if is_roots else account
            steps.append(_directory(directory, mode, owner, owner))
        if _is_there(account) or is_roots:
            steps.append(_writing(self._file(account), text))
            return

        def write() -> None:
            self._file(account).write(text)

        steps.append(Step(f"write {path}", write, lambda: self._file(account).remove()))


def sessions_of(names: Iterable[str]) -> list[int]:
    """The processes that serve these customers now, as far as this account can see."""
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


def _nothing() -> None:
    """A part of a step that comes later."""


def _doubles(path: str, text: str) -> list[str]:
    """Keys that two lines have: sshd takes the first, and one customer would be in another's jail."""
    seen: dict[bytes, str] = {}
    problems = []
    for number, line in enumerate(forced.lines_of(text), 1):
        if line.blob is None:
            continue
        whose = f"line {number} of {path}" if line.customer is None else f"customer {one_line(line.customer)}"
        if line.blob in seen:
            problems.append(
                f"key {fingerprint(line.blob)}: {seen[line.blob]} and {whose} have it; sshd knows a customer "
                "by the key, so each needs another one"
            )
        seen.setdefault(line.blob, whose)
    return problems


def _check_others(file: KeysFile, customers: Mapping[str, Found]) -> None:
    """Raises BadInput if another line would let in by the key of a customer who is to be kept out."""
    keys = {line.blob: name for name, found in customers.items() for line in found.lines}
    for number, line in enumerate(file.lines(), 1):
        if line.is_on and line.blob is not None and line.customer not in customers and line.blob in keys:
            raise BadInput(
                f"line {number} of {file.path} has the key of customer {one_line(keys[line.blob])}; remove "
                "it, or it would let in by that key"
            )


def _is_there(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except (KeyError, ValueError):
        return False
    return True


def _account(name: str) -> Account:
    """Raises BadInput."""
    try:
        return privileges.account(name)
    except ValueError as error:
        raise BadInput(f"{error}; name another account") from None


def _new_account(name: str, home: str, group: str | None, makes_home: bool) -> Step:
    return Step(
        f"make the account {name}",
        lambda: making.make_account(name, home, group, makes_home),
        lambda: making.remove_account(name),
    )


def _is_half_made(folder: str, found: os.stat_result) -> bool:
    """Whether this was ended after it had made a folder and before it gave it away."""
    return found.st_uid == 0 and stat.S_IMODE(found.st_mode) == FOLDER_MODE and not os.listdir(folder)


def _directory(
    path: str, mode: int, owner: str | None, actor: str | None, is_half_made: bool = False
) -> Step:
    """Make a directory. owner: root gives it to this account. actor: the account that makes it instead, which
    an owner is where it could lead root elsewhere. is_half_made: it is there, and root's.
    """

    def make() -> None:
        own = _account(owner) if owner is not None else None
        is_owners = own is not None and (owner == actor or making.is_led_by(own, path))
        with making.acting_as(own if is_owners and not is_half_made else None):
            if not is_half_made:
                os.mkdir(path, mode)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if found.st_uid != os.geteuid() or os.listdir(descriptor):
                    raise BadInput("something else has been put there; try again")
                os.fchmod(descriptor, mode)
                if own is not None and os.geteuid() == 0:
                    os.fchown(descriptor, own.uid, own.gid)
            finally:
                os.close(descriptor)

    undo = _nothing if is_half_made else partial(os.rmdir, path)
    return Step(f"{'give away' if is_half_made else 'make'} the directory {path}", make, undo)


def _writing(file: KeysFile, text: str) -> Step:
    is_new, old = not file.text and not os.path.lexists(file.path), file.text
    undo = file.remove if is_new else _rewrite(file, old)
    return Step(f"{'write' if is_new else 'change'} {file.path}", lambda: file.write(text), undo)


def _rewrite(file: KeysFile, text: str) -> Callable[[], None]:
    return lambda: file.write(text)
