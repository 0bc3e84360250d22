"""Listing and changing users for pysftpctl: what is printed, and which directory is changed.

What may not enter: sessions, options. It needs no running server.
"""

from __future__ import annotations

import json
import os
import shlex

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.people.editors import editor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pysftpserver.people.customers import Customer
    from pysftpserver.people.records import Record
    from pysftpserver.people.users import User
    from pysftpserver.sshd.config import ServerSettings

MOST_KEYS = 1 << 20  # bytes of a file with keys
MOST_TYPED = 4096  # bytes of a password, including its line end


def keys_of(given: Iterable[str] | None) -> list[str]:
    """The keys in lines that are given, or in files with a key on each line. Raises BadInput."""
    found: list[str] = []
    for text in given or ():
        if " " in text.strip() or text.startswith(("AAAA", "SHA256:")) or not text:
            found.append(text)
            continue
        lines = [line for line in map(str.strip, _lines_of(text)) if line and not line.startswith("#")]
        if not lines:
            raise BadInput(f"key file {text}: no key in it; name a file with public keys")
        found += lines
    return found


def _lines_of(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read(MOST_KEYS).decode().splitlines()
    except (OSError, UnicodeError) as error:
        raise BadInput(f"key file {path}: {reason_of(error)}; name a file, or give a key's line") from None


def list_users(settings: ServerSettings, as_json: bool) -> list[str]:
    """Print all users; return what is wrong with some of them, a line each. Raises DirectoryError."""
    with editor(settings) as users:
        records = users.records()
    if as_json:
        print_json([_described(record) for record in records])
        return []
    rows = [("USER", "ACTIVE", "KEYS", "FOLDER", "STORAGE", "ACCOUNT")]
    for record in records:
        user = record.user
        if user is None:
            rows.append((record.name or record.id, "unusable", "", "", "", ""))
        else:
            active = "yes" if user.is_active else "no"
            account = user.run_as or settings.run_as or settings.account or ""
            where = user.folder, user.storage or "", account
            rows.append((user.name, active, str(len(user.keys) + len(user.authorities)), *where))
    print_table(rows)
    return [
        f"user {one_line(record.name or record.id)}: {problem}"
        for record in records
        for problem in record.problems
    ]


def add_user(
    settings: ServerSettings,
    name: str,
    keys: Iterable[str] | None,
    folder: str | None,
    storage: str | None,
    run_as: str | None,
    site: str | None,
    principals: str | None,
    networks: str | None,
    as_json: bool,
) -> int:
    """Add a user and print what was added; return the exit status. Raises DirectoryError, BadInput."""
    lines = keys_of(keys)
    if not storage:
        _check_place(settings)
    with editor(settings) as users:
        others = (text or None for text in (storage, run_as, site, principals, networks))
        user = users.add(name, lines, folder, *others)
    return _show(user, as_json, _make_folder(settings, user))


def import_users(settings: ServerSettings, file: str, dry_run: bool, as_json: bool) -> int:
    """Add or change users as a file says, and print what changes; return the exit status.

    Other users stay as they are. The whole file is checked first, and either all new users are added or none.
    Raises DirectoryError, BadInput.
    """
    from pysftpserver.people import customers
    from pysftpserver.people.editing import check

    wanted = customers.checked(customers.read(file), are_jailed=False)
    if not all("storage" in one.fields for one in wanted):
        _check_place(settings)
    with editor(settings) as users:
        is_new = not settings.is_in_redis and not os.path.lexists(settings.users_file)
        known = {} if is_new else {record.name: record.user for record in users.records()}
        for one in wanted:
            if one.name in known and known[one.name] is None:
                raise BadInput(
                    f"user {one_line(one.name)}: it is there and cannot be used; pysftpctl list says why"
                )
            try:
                check(one.name, **_fields(one))
            except Unavailable as error:
                raise BadInput(f"user {one_line(one.name)}: {error}") from None
        changes = {one.name: _difference(one, known.get(one.name)) for one in wanted}
        changes = {name: change for name, change in changes.items() if change}
        if not dry_run:
            # Changes come first: if one fails, no user has been added.
            for name in (name for name in changes if name in known):
                users.change(name, **changes[name])
            new = [(one.name, one.keys, _fields(one)) for one in wanted if one.name not in known]
            if new:
                users.add_all(new)
        current = {} if dry_run else {record.name: record.user for record in users.records()}
    words = {
        name: "add" if name not in known else f"change {', '.join(_plain(changes[name]))}" for name in changes
    }
    problems = []
    for one in wanted:
        user = current.get(one.name)
        problem = _make_folder(settings, user) if user is not None and not dry_run else None
        problems += [problem] if problem is not None else []
    if as_json:
        print_json({"would" if dry_run else "done": words})
    elif not words:
        print(f"nothing to do: all {len(wanted)} are as they should be")
    else:
        for name, word in words.items():
            print(one_line(f"{name}: {'would ' if dry_run else ''}{word}"))
    if problems:
        raise Unavailable("; ".join(dict.fromkeys(problems)))
    return 0


def _fields(customer: Customer) -> dict[str, str]:
    names = ("folder", "storage", "run_as", "site", "principals", "networks")
    return {name: customer.fields[name] for name in names if name in customer.fields}


def _difference(customer: Customer, user: User | None) -> dict[str, Any]:
    """What has to change, as arguments of UsersEditor.change(). user: None if there is none yet."""
    from pysftpserver.people.keys import fingerprint, parse_line

    if user is None:
        return {"add_keys": customer.keys}
    found: dict[str, Any] = {}
    for name, text in _fields(customer).items():
        now = ",".join(user.principals) if name == "principals" else getattr(user, name)
        if text != now:
            found[name] = text
    blobs = {parse_line(key)[0]: key for key in customer.keys}
    if blobs and blobs.keys() != user.keys:
        found["add_keys"] = [key for blob, key in blobs.items() if blob not in user.keys]
        found["remove_keys"] = [fingerprint(blob) for blob in user.keys if blob not in blobs]
    return found


def _plain(change: dict[str, Any]) -> list[str]:
    """The parts of a change, in words."""
    return [name.replace("_", " ") for name, value in change.items() if value]


def change_user(settings: ServerSettings, name: str, as_json: bool, **changes: Any) -> int:
    """Change a user and print the result; return the exit status. Raises DirectoryError, BadInput.

    changes: arguments of UsersEditor.change(); None: no change.
    """
    for field in ("add_keys", "remove_keys"):
        changes[field] = keys_of(changes.get(field))
    with editor(settings) as users:
        user = users.change(name, **changes)
    moves = any(changes.get(field) is not None for field in ("folder", "storage", "run_as"))
    return _show(user, as_json, _make_folder(settings, user) if moves else None)


def set_password(settings: ServerSettings, name: str, remove: bool, as_json: bool) -> int:
    """Ask for a password, and set it; return the exit status. Raises DirectoryError, BadInput."""
    if remove:
        return change_user(settings, name, as_json, password="")
    from pysftpserver.people import passwords

    try:
        text = passwords.prepared(_asked_twice() if os.isatty(0) else _typed())
    except ValueError as error:
        raise BadInput(f"the password cannot be used: {error}; choose another") from None
    weakness = passwords.weakness(text, name)
    if weakness:
        raise BadInput(f"the password is too weak: {weakness}; choose another")
    return change_user(settings, name, as_json, password=passwords.hashed(text))


def _asked_twice() -> str:
    import getpass

    try:
        first = getpass.getpass("New password: ")
        again = getpass.getpass("The same again: ")
    except EOFError:
        raise BadInput("no password was typed; nothing was changed") from None
    if again != first:
        raise BadInput("the two passwords differ; nothing was changed")
    return first


def _typed() -> str:
    """The first line of standard input."""
    line = os.fdopen(0, "rb", closefd=False).readline(MOST_TYPED)
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput("the password is not UTF-8") from None


def set_code(settings: ServerSettings, name: str, issuer: str | None, remove: bool, as_json: bool) -> int:
    """Make a secret for one-time codes, and print its address; return the exit status.

    Raises DirectoryError, BadInput.
    """
    if remove:
        return change_user(settings, name, as_json, totp="")
    from pysftpserver.people import codes

    secret = codes.new_secret()
    with editor(settings) as users:
        users.change(name, totp=secret)
    address = codes.uri(secret, name, issuer or os.uname().nodename)
    if as_json:
        print_json({"name": name, "secret": secret, "uri": address})
    else:
        print(address)
    return 0


def remove_user(settings: ServerSettings, name: str, as_json: bool) -> int:
    """Remove a user; return the exit status. Raises DirectoryError."""
    with editor(settings) as users:
        users.remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        print(f"removed {one_line(name)}; the files are still there")
    return 0


def _check_place(settings: ServerSettings) -> None:
    """Raises BadInput where folders cannot be created, so that no user is added who could not be served."""
    path = settings.sftp_path
    if "sftp_path" in settings.given and settings.storage is None and not os.path.isdir(path):
        owner = settings.account or ("ACCOUNT" if os.geteuid() == 0 else None)
        whose = f" -o {owner}, for the account that pysftpd serves as" if owner else ""
        raise BadInput(
            f"sftp_path {path}: no such directory; make it with: install -d {shlex.quote(path)}{whose}"
        )


def _make_folder(settings: ServerSettings, user: User) -> str | None:
    from pysftpserver.people.user_storages import make_folder

    return make_folder(settings, user, settings.run_as or settings.account)


def _show(user: User, as_json: bool, problem: str | None) -> int:
    """Print a user; return the exit status. Raises Unavailable for a problem with the user's folder."""
    if as_json:
        print_json(_described_user(user))
    else:
        _print_user(user)
    if problem is not None:
        raise Unavailable(problem)
    return 0


def _print_user(user: User) -> None:
    where = f"storage {user.storage}" if user.storage else f"folder {user.folder}"
    active = "active" if user.is_active else "not active"
    keys = "1 key" if len(user.keys) == 1 else f"{len(user.keys)} keys"
    keys += f", {len(user.authorities)} CAs" if user.authorities else ""
    account = f", runs as {user.run_as}" if user.run_as else ""
    account += f", under {user.site}" if user.site else ""
    account += f", principals {', '.join(user.principals)}" if user.principals else ""
    account += f", from {user.networks}" if user.networks else ""
    ways = keys + (", a password" if user.password else "") + (", one-time codes" if user.totp else "")
    ways += f", logs in by {' or '.join(user.methods)}" if user.methods else ""
    print(one_line(f"{user.name}: {active}, {ways}, {where}{account}"))


def _described(record: Record) -> dict[str, Any]:
    if record.user is None:
        return {"id": record.id, "name": record.name, "problems": list(record.problems)}
    return {**_described_user(record.user), "problems": list(record.problems)}


def _described_user(user: User) -> dict[str, Any]:
    from pysftpserver.people.keys import entry_line, fingerprint, key_line

    return {
        "id": user.id,
        "name": user.name,
        "active": user.is_active,
        "folder": user.folder,
        "storage": user.storage,
        "run_as": user.run_as,
        "site": user.site,
        "principals": list(user.principals),
        "networks": user.networks,
        "has_password": user.password is not None,
        "has_totp": user.totp is not None,
        "methods": None if user.methods is None else list(user.methods),
        "keys": [{"fingerprint": fingerprint(blob), "line": key_line(blob)} for blob in sorted(user.keys)],
        "authorities": [
            {"fingerprint": fingerprint(entry[0]), "line": entry_line(entry)}
            for entry in sorted(user.authorities)
        ],
    }


def print_json(value: object) -> None:
    """Print a value as one line of JSON, at once."""
    print(json.dumps(value), flush=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its longest cell."""
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
