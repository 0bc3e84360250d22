"""Whether a user can log in, or why not, by the current settings and files: for pysftpctl explain.

The account that asks may be allowed to read more than the server's account is. What may not enter: options,
concrete storages.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pysftpserver.failures import BadInput, Unavailable, one_line, reason_of
from pysftpserver.people import methods
from pysftpserver.people.editors import editor
from pysftpserver.people.keys import BadKey, fingerprint, parse_key
from pysftpserver.people.methods import PASSWORD, PUBLICKEY
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.service.admin_client import ask_all
from pysftpserver.service.networks import Networks, address_of
from pysftpserver.sshd.authorities import Principals
from pysftpserver.sshd.certificates import BadCertificate, blob_of_line, is_certificate, parse
from pysftpserver.sshd.control import print_json
from pysftpserver.sshd.live import sessions_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.people.users import User
    from pysftpserver.sshd.authorities import Authorities
    from pysftpserver.sshd.config import ServerSettings

    Open = Callable[[ServerSettings, User], object]

LONGEST_FILE = 1 << 16  # bytes of a file with a key
CANNOT = 1  # exit status
MARKS = {True: "ok", False: "NO", None: "--"}


class Finding(NamedTuple):
    """One line of the answer. is_ok: None if it neither lets the user in nor keeps the user out."""

    is_ok: bool | None
    text: str


def explain(
    settings: ServerSettings,
    name: str,
    address: str | None,
    key: str | None,
    as_json: bool,
    opened: Open,
    warn: Callable[[str], None],
) -> int:
    """Print what lets a user log in and what prevents it; return the exit status.

    address: of the client; None: any. key: a file with a key or a certificate, or a fingerprint; None: the
    keys that the user has. opened: opens the storage of a user. Raises BadInput, Unavailable.
    """
    if address is not None and address_of(address) is None:
        raise BadInput(f"--from {one_line(address)}: not the address of a client")
    found = list(_findings(settings, name, address, key, opened, warn))
    can = all(one.is_ok is not False for one in found)
    if as_json:
        checks = [{"ok": one.is_ok, "what": one.text} for one in found]
        print_json({"user": name, "can_log_in": can, "checks": checks})
    else:
        for one in found:
            print(f"{MARKS[one.is_ok]}  {one_line(one.text)}")
        print(f"{one_line(name)} {'can' if can else 'cannot'} log in")
    return 0 if can else CANNOT


def _findings(
    settings: ServerSettings,
    name: str,
    address: str | None,
    key: str | None,
    opened: Open,
    warn: Callable[[str], None],
) -> Iterator[Finding]:
    with editor(settings) as users:
        record = next((one for one in users.records() if one.name == name), None)
    if record is None:
        looked_up = settings.lookup_command or settings.lookup_url
        words = (
            "not stored; a lookup is asked at the login, and not by this command" if looked_up else "unknown"
        )
        yield Finding(False, f"the user is {words}")
        return
    user = record.user
    if user is None:
        yield Finding(False, f"the user is unusable: {'; '.join(record.problems)}")
        return
    yield from (Finding(None, problem) for problem in record.problems)
    yield Finding(user.is_active, f"the user is {'' if user.is_active else 'not '}active")
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.authorities import Authorities

    authorities = Authorities(settings, SFTPLog(), any_owner=os.geteuid() == 0)
    authorities.load()
    yield from (Finding(False, trouble) for trouble in authorities.troubles())
    yield from _methods(settings, user, authorities)
    if key is not None:
        if not any(PUBLICKEY in one for one in methods.of_user(user, settings)):
            yield Finding(False, "no method of the user takes a key")
        yield from _key(user, key, address, authorities)
    if address is not None:
        yield _network(settings, address)
        if user.networks is not None and user.is_active:
            is_welcome = user.is_welcome(address)
            words = "one" if is_welcome else "none"
            yield Finding(is_welcome, f"{address} is {words} of the user's networks: {user.networks}")
    yield from _storage(settings, user, opened)
    if settings.admin_socket is not None:
        yield from _running(settings, settings.admin_socket, user, address, warn)


def _methods(settings: ServerSettings, user: User, authorities: Authorities) -> Iterator[Finding]:
    """What the user needs to log in."""
    wanted = user.methods or settings.auth_methods
    blobs = user.keys.union(blob for blob, _ in user.authorities)
    has_key = not all(authorities.faults_of_key(blob) for blob in blobs)
    usable = []
    for combination in methods.of_user(user, settings):
        lacks = [PASSWORD] if PASSWORD in combination and not user.password else []
        if PUBLICKEY in combination and not has_key and not settings.trusted_user_ca_keys:
            lacks.append("key that is accepted" if blobs else "key")
        words = " and ".join(combination)
        if lacks:
            yield Finding(None, f"cannot log in by {words}: the user has no {' and no '.join(lacks)}")
        else:
            usable.append(words)
    if usable:
        yield Finding(True, f"logs in by {', or by '.join(usable)}")
    else:
        words = f"no method lets the user in; wanted is {', or '.join(wanted)}"
        yield Finding(False, words + methods.how_to_offer(user, settings))
    for blob in sorted(user.keys):
        faults = authorities.faults_of_key(blob)
        words = f" is refused: {', '.join(faults)}" if faults else ""
        yield Finding(None, f"key {fingerprint(blob)}{words}")
    for blob, principals in sorted(user.authorities):
        faults = authorities.faults_of_key(blob)
        words = f" is refused: {', '.join(faults)}" if faults else ""
        names = ", ".join(principals or (user.name,))
        yield Finding(None, f"CA {fingerprint(blob)} for one of these principals: {names}{words}")
    if settings.trusted_user_ca_keys:
        names = ", ".join(user.valid_principals)
        yield Finding(None, f"certificates need one of these principals: {names}")


def _key(user: User, text: str, address: str | None, authorities: Authorities) -> Iterator[Finding]:
    """Whether a key or a certificate is the user's. Raises BadInput for a text that names none."""
    if text.startswith("SHA256:"):
        blob = next((one for one in user.keys if fingerprint(one) == text.rstrip("=")), None)
        if blob is None:
            yield Finding(False, f"key {text} is not one of the user's")
            return
    else:
        blob = _blob_in(text)
    if not is_certificate(blob):
        faults = [*authorities.faults_of_key(blob), *([] if blob in user.keys else ["not one of the user's"])]
        yield Finding(not faults, f"key {fingerprint(blob)}: {', '.join(faults) or 'the user has it'}")
        return
    try:
        it = parse(blob)
    except BadCertificate as error:
        yield Finding(False, f"bad certificate: {error}")
        return
    at = address or "0.0.0.0"
    faults = authorities.faults_of(it, Principals.of(user, it), at, is_known=True)
    is_open = address is None and any(name == b"source-address" for name, _ in it.options)
    if is_open:
        faults = [one for one in faults if "not for this address" not in one]
        yield Finding(None, "the certificate is for some addresses only (source-address); see --from")
    yield Finding(not faults, f"{it}: {', '.join(faults) or 'in order'}")


def _blob_in(path: str) -> bytes:
    """The blob of the first key or certificate in a file. Raises BadInput."""
    try:
        with open(path, "rb") as file:
            lines = [line.strip() for line in file.read(LONGEST_FILE).decode().splitlines()]
        line = next(line for line in lines if line and not line.startswith("#"))
        certificate = blob_of_line(line)
        return parse_key(line) if certificate is None else certificate
    except StopIteration:
        raise BadInput(f"--key {path}: no key in it; name the file with the public key") from None
    except (BadKey, OSError, ValueError) as error:
        raise BadInput(f"--key {path}: {reason_of(error)}") from None


def _network(settings: ServerSettings, address: str) -> Finding:
    """Whether connections from an address are served."""
    if address in Networks(settings.deny_networks or ()):
        return Finding(False, f"{address} is in deny_networks")
    if settings.allow_networks and address not in Networks(settings.allow_networks):
        return Finding(False, f"{address} is not in allow_networks")
    return Finding(True, f"connections from {address} are served")


def _storage(settings: ServerSettings, user: User, opened: Open) -> Iterator[Finding]:
    """Whether the user's storage can be opened, and as whom."""
    storage = user.storage or settings.storage
    what = f"storage {storage}" if storage else f"folder {user.folder}"
    try:
        opened(settings, user)
        yield Finding(True, f"{what} can be opened by the account that runs this command")
    except (SFTPException, BadInput, OSError, ValueError) as error:
        text = error.message if isinstance(error, BadInput) else reason_of(error)
        if "is missing" in text and not storage and "sftp_path" not in settings.given:
            text += "; sftp_path was not given here: add --sftp-path, or --config with the server's file"
        is_made = settings.create_folders and "is missing" in text
        yield Finding(None if is_made else False, text if text.startswith(what[:6]) else f"{what}: {text}")
    name = user.run_as or settings.run_as
    if name is None:
        return
    from pysftpserver.host.privileges import account
    from pysftpserver.sshd.run_as import RunAs

    try:
        if settings.account is None:
            raise ValueError("there is no setting account, which run_as needs")
        RunAs(account(settings.account), settings.run_as_accounts or (), settings.run_as).account_of(user)
        yield Finding(True, f"sessions run as {name}")
    except ValueError as error:
        yield Finding(False, f"sessions cannot run as {name}: {error}")


def _running(
    settings: ServerSettings, path: str, user: User, address: str | None, warn: Callable[[str], None]
) -> Iterator[Finding]:
    """What a running server says about the user's connections, and about bans of the address."""
    try:
        count = sum(1 for one in sessions_at(path, warn) if one["user"] == user.name)
        bans = ask_all(path, {"ask": "bans"}, warn)[0]["bans"]
    except Unavailable as error:
        yield Finding(None, f"not asked: {error.message}")
        return
    most = settings.max_per_user
    words = f"{count} connections of the user" + (f" of {most} (max_per_user)" if most is not None else "")
    yield Finding(most is None or count < most, words)
    if address is not None:
        trusted = Networks((*(settings.trusted_networks or ()), *(settings.proxy_from or ())))
        banned = [ban for ban in bans if ban["seconds"] and address in Networks([ban["address"]])]
        for ban in banned if address not in trusted else ():
            yield Finding(
                False, f"{ban['address']} is banned for {ban['seconds']:.0f} seconds: {ban['cause']}"
            )
