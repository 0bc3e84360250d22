"""Makes a User from the values in a directory, or says why that is impossible.

A bad record makes its own user unusable, and no others. What may not enter: Redis, files, asyncio, logs.
Facts: docs/sshd.md for the fields, passwd(5) and path_resolution(7) for names.
"""

from __future__ import annotations

from dataclasses import dataclass

from pysftpserver.people import methods as ways
from pysftpserver.people.keys import BadKey, parse_entry
from pysftpserver.people.users import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pysftpserver.people.keys import Entry

LONGEST_NAME = 255  # bytes: of a user's name, and of a folder's, as file systems limit it
LONGEST_STORAGE = 4096  # characters
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Record:
    """One user of a directory.

    user: None: unusable, but the name is taken. problems: what is wrong, a few words each.
    """

    id: str
    name: str
    user: User | None
    problems: tuple[str, ...] = ()


def parse_active(text: str) -> bool | None:
    """True, False, 1 or 0 in any letter case; None for anything else."""
    return _TRUTH.get(text.strip().lower())


def name_problem(name: str) -> str | None:
    """What is wrong with a user's name; None: nothing."""
    if not name:
        return "the name is empty"
    if not name.isprintable() or name != name.strip():
        return "the name has blanks around it or unprintable characters"
    return None if _fits(name) else f"the name is longer than {LONGEST_NAME} bytes or not text"


def folder_problem(folder: str) -> str | None:
    """What is wrong with a folder; None: nothing."""
    if not folder:
        return "the folder is empty"
    if "/" in folder or folder.startswith("."):
        return "the folder is not a single name; / and a leading . are not allowed"
    if not folder.isprintable():
        return "the folder has unprintable characters"
    return None if _fits(folder) else f"the folder is longer than {LONGEST_NAME} bytes or not text"


def storage_problem(storage: str) -> str | None:
    """What is wrong with the text of a storage name, regardless of its meaning; None: nothing."""
    if not storage.isprintable() or len(storage) > LONGEST_STORAGE:
        return f"the storage has unprintable characters, or more than {LONGEST_STORAGE} characters"
    return None


def site_problem(site: str) -> str | None:
    """What is wrong with the path of a site file, which need not exist; None: nothing."""
    if not site.isprintable() or len(site) > LONGEST_STORAGE or not site.startswith("/"):
        return "site is not the absolute path of a site file"
    return None


def account_problem(account: str) -> str | None:
    """What is wrong with the name of an account, which need not exist; None: nothing."""
    if not account.isprintable() or ":" in account or account != account.strip() or not _fits(account):
        return "run_as is not the name of an account"
    return None


def parse_principals(text: str) -> tuple[str, ...]:
    """The principals in a comma-separated text."""
    return tuple(filter(None, (one.strip() for one in text.split(","))))


def principals_problem(text: str) -> str | None:
    """What is wrong with a text of principals; None: nothing."""
    if not text.isprintable() or len(text) > LONGEST_STORAGE or not parse_principals(text):
        return "principals is not a list of names with commas between them"
    return None


def networks_problem(networks: str) -> str | None:
    """What is wrong with the networks of a user; None: nothing."""
    from pysftpserver.service.networks import networks_of  # few users have some

    try:
        found = networks_of(networks)
    except ValueError as error:
        return f"networks has to be {error}, separated by commas"
    return None if found else "networks is empty"


def _fits(name: str) -> bool:
    try:
        return len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def build(
    id: str,
    name: str,
    folder: str,
    is_active: bool,
    keys: Iterable[Entry],
    storage: str | None = None,
    problems: Iterable[str] = (),
    run_as: str | None = None,
    site: str | None = None,
    password: str | None = None,
    totp: str | None = None,
    methods: Sequence[str] | None = None,
    principals: str | None = None,
    networks: str | None = None,
) -> Record:
    """The record of a user. problems: those already known, which do not make the user unusable."""
    found = list(problems)
    fatal = [
        name_problem(name),
        folder_problem(folder),
        storage_problem(storage) if storage else None,
        account_problem(run_as) if run_as else None,
        site_problem(site) if site else None,
        principals_problem(principals) if principals else None,
        networks_problem(networks) if networks is not None else None,
        *_secret_problems(password, totp),
        ways.problem(methods) if methods is not None else None,
    ]
    if any(fatal):
        return unusable(id, name, *found, *filter(None, fatal))
    texts = (storage or None, run_as or None, site or None, password or None, totp or None)
    combinations = None if methods is None else tuple(methods)
    names = parse_principals(principals or "")
    entries = list(keys)
    plain = frozenset(blob for blob, authorized in entries if authorized is None)
    own = frozenset((blob, authorized) for blob, authorized in entries if authorized is not None)
    user = User(id, name, folder, is_active, plain, *texts, combinations, names, networks, own)
    return Record(id, name, user, tuple(found))


def _secret_problems(password: str | None, totp: str | None) -> Iterator[str | None]:
    # Imported here: pysftp-keys reads records for every login under OpenSSH.
    if password:
        from pysftpserver.people.passwords import hash_problem

        yield hash_problem(password)
    if totp:
        from pysftpserver.people.codes import secret_problem

        yield secret_problem(totp)


def unusable(id: str, name: str, *problems: str) -> Record:
    """A record that cannot be used."""
    return Record(id, name, None, problems)


def parse_keys(texts: Iterable[str]) -> tuple[list[Entry], list[str]]:
    """Keys, and what is wrong with those that are left out."""
    entries, problems = [], []
    for number, text in enumerate(texts, 1):
        try:
            entries.append(parse_entry(text)[0])
        except BadKey as error:
            problems.append(f"key {number} is left out: {error}")
    return entries, problems
