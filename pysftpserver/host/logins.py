"""Tries what sshd does for an account whose key forces a command; reports what would fail and what to do.

Root tries it as the account, in a process that becomes it. What may not enter: what the command does.
Facts: sshd(8) on logins and authorized_keys; sshd_config(5); auth.c and misc.c of OpenSSH on who is let in.
"""

from __future__ import annotations

import fnmatch
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
from typing import NamedTuple

from pysftpserver.failures import one_line, reason_of
from pysftpserver.host import privileges
from pysftpserver.host.reaching import blocked, mode_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Answer = list[str | None]

SHELLS_THAT_REFUSE = ("nologin", "false")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"  # what sshd sets, or less
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
PATIENCE = 30  # seconds
MOST_ANSWER = 1 << 20  # bytes
NOLOGIN = "/etc/nologin"


class Finding(NamedTuple):
    """What was checked, and what is wrong with it ("": nothing). known: whether it could be checked."""

    what: str
    problem: str = ""
    known: bool = True


def findings(
    name: str,
    words: Sequence[str],
    directory: str,
    read_only: bool,
    keys_file: str | None,
    config: str | None,
) -> Iterator[Finding]:
    """Check everything that sshd needs for an account. words: the forced command. directory: served by it.

    keys_file: the authorized_keys whose lines have the command; None: where sshd looks. config: sshd's
    configuration file; None: its default.
    """
    try:
        account = pwd.getpwnam(name)
    except (KeyError, ValueError):
        yield Finding(
            f"account {one_line(name)}", "there is no such account on this host; make it, or name another"
        )
        return
    shell = account.pw_shell or "/bin/sh"
    if os.path.basename(shell) in SHELLS_THAT_REFUSE:
        problem = f"it runs no commands, not even a forced one; run usermod --shell /bin/sh {name}"
    elif not os.access(shell, os.X_OK):
        problem = f"it cannot be run; run usermod --shell /bin/sh {name}"
    else:
        problem = ""
    yield Finding(f"shell {shell}", problem)
    if os.geteuid() not in (0, account.pw_uid):
        yield Finding("the rest", f"only root or {name} can try it; run this as one of them", known=False)
        return
    yield from _tried(account, words, directory, read_only, is_shell_good=not problem)
    settings: dict[str, list[str]] | str = {}
    if os.geteuid() == 0:
        if os.path.exists(NOLOGIN):
            yield Finding(NOLOGIN, "sshd admits only root while this file exists; remove it")
        settings = _settings(account, config)
    if isinstance(settings, str):
        yield Finding("sshd -T", settings, known=False)
        settings = {}
    yield from _keys(account, keys_file, settings)
    if settings:
        yield from _config(account, settings, keys_file is not None)


# --- as the account ---------------------------------------------------------------------------------------


def _tried(
    account: pwd.struct_passwd, words: Sequence[str], directory: str, read_only: bool, is_shell_good: bool
) -> Iterator[Finding]:
    command = shlex.join(words)

    def attempt() -> Answer:
        paths = [blocked(path) for path in _programs(words)]
        program = next(filter(None, paths), None)
        return [
            program,
            _directory_problem(directory, read_only),
            _run(account, command) if is_shell_good and program is None else None,
        ]

    program, place, run = _as_account(account, attempt)
    shown = words[0] if words else ""
    yield Finding(f"program {shown}", f"{program}; {_install(account.pw_name)}" if program else "")
    yield Finding(f"directory {directory}", place or "")
    if program is None and is_shell_good:
        yield Finding(f"command {command}", run or "")


def _install(name: str) -> str:
    return (
        f"install pysftpserver, and a Python for it, where {name} can read them: for example "
        "/usr/bin/python3 -m venv /opt/pysftpserver"
    )


def _as_account(account: pwd.struct_passwd, attempt: Callable[[], Answer]) -> Answer:
    """The answer of an attempt that is made in a process of the account."""
    if os.geteuid() == account.pw_uid:
        return attempt()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            privileges.become(privileges.account(account.pw_name))
            text = json.dumps(attempt())
        except BaseException as error:
            text = json.dumps([f"it could not be tried: {reason_of(error)}", None, None])
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer: Answer = json.loads(pipe.read(MOST_ANSWER))
    os.waitpid(child, 0)
    return answer


def _programs(words: Sequence[str]) -> list[str]:
    """The files that the kernel opens to start a command: the program, and the interpreter that it names."""
    program = words[0] if "/" in words[0] else shutil.which(words[0], path=PATH) or words[0]
    found = [program]
    try:
        with open(program, "rb") as file:
            line = file.readline(4096)
    except OSError:
        return found
    if line.startswith(b"#!"):
        found += [os.fsdecode(word) for word in line[2:].split()[:1]]
    return found


def _directory_problem(directory: str, read_only: bool) -> str | None:
    why = blocked(directory)
    if why is not None:
        return f"{why}; give it to the account with chown, or let it in with chmod"
    if not os.path.isdir(directory):
        return "not a directory; name another"
    if read_only:
        return None
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        if isinstance(error, PermissionError) or not os.access(directory, os.W_OK):
            return (
                f"this account may not write there (mode {mode_of(directory)}): {reason_of(error)}; give it "
                "the directory with chown, or serve it with --read-only"
            )
    return None


def _run(account: pwd.struct_passwd, command: str) -> str | None:
    """Run a command as sshd does, with empty input; return why it fails."""
    shell = account.pw_shell or "/bin/sh"
    environment = {"USER": account.pw_name, "LOGNAME": account.pw_name, "HOME": account.pw_dir}
    environment |= {"SHELL": shell, "PATH": PATH, "PYSFTP_WARM": ""}
    try:
        done = subprocess.run(
            [shell, "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            cwd=account.pw_dir if os.access(account.pw_dir, os.X_OK) else "/",
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return one_line(reason_of(error))
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    if done.returncode:
        return one_line(said[-1]) if said else f"it ends with status {done.returncode}"
    if done.stdout:
        return (
            f"something prints before SFTP begins: {one_line(done.stdout[:80].decode(errors='replace'))}; "
            "look into the start-up files of the shell"
        )
    return None


# --- what sshd looks at -----------------------------------------------------------------------------------


def _keys_problem(path: str, account: pwd.struct_passwd) -> str:
    """Why sshd would not read authorized_keys under StrictModes; "": it would."""
    home = os.path.realpath(account.pw_dir)
    try:
        at = os.path.realpath(path, strict=True)
        while True:
            found, mode = os.stat(at), mode_of(at)
            if found.st_uid not in (0, account.pw_uid):
                return f"{at} belongs to another account; run chown {account.pw_name} {at}"
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"{at} is writable by others (mode {mode}): sshd does not read it; run chmod go-w {at}"
            if at in (home, "/"):
                return ""
            at = os.path.dirname(at)
    except OSError as error:
        return f"{reason_of(error)}; put the line of the key there"


def _settings(account: pwd.struct_passwd, config: str | None) -> dict[str, list[str]] | str:
    """sshd's settings for an account, by names in small letters; or why they cannot be read."""
    program = shutil.which("sshd", path=SBIN)
    if program is None:
        return "it is not installed; install OpenSSH's server"
    who = f"user={account.pw_name},host=localhost,addr=127.0.0.1"
    argv = [program, "-T", "-C", who, *(["-f", config] if config is not None else [])]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        return one_line((done.stderr.strip().splitlines() or ["it ends with an error"])[-1])
    settings: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    return settings


def _places(account: pwd.struct_passwd, settings: dict[str, list[str]]) -> list[str]:
    """Where sshd looks for an account's keys."""
    home = account.pw_dir
    tokens = {"%u": account.pw_name, "%h": home, "%U": str(account.pw_uid), "%%": "%"}
    found = []
    for place in settings.get("authorizedkeysfile", [".ssh/authorized_keys"])[0].split():
        for token, text in tokens.items():
            place = place.replace(token, text)
        found.append(os.path.join(home, place))
    return found


def _keys(
    account: pwd.struct_passwd, keys_file: str | None, settings: dict[str, list[str]]
) -> Iterator[Finding]:
    """Check whether sshd finds the file with the key, and reads it."""
    places = _places(account, settings)
    shown = ", ".join(places) or "no file"
    if keys_file is None:
        keys_file = next(filter(os.path.exists, places), None)
        if keys_file is None:
            yield Finding(
                "keys file", f"sshd reads {shown}, which is not there; put the line of the key there"
            )
            return
    elif settings and os.path.realpath(keys_file) not in map(os.path.realpath, places):
        problem = f"sshd reads {shown} for this account, not {keys_file}; set it in a Match block"
        yield Finding("sshd_config: AuthorizedKeysFile", f"{problem}, and reload sshd")
    yield Finding(f"keys file {keys_file}", _keys_problem(keys_file, account))


def _config(
    account: pwd.struct_passwd, settings: dict[str, list[str]], has_own_options: bool
) -> Iterator[Finding]:
    """Check for other settings of sshd that may prevent a login."""

    def found(name: str, problem: str) -> Finding:
        return Finding(f"sshd_config: {name}", problem)

    def first(key: str) -> str:
        return settings.get(key, [""])[0]

    has_sftp = any(value.split()[:1] == ["sftp"] for value in settings.get("subsystem", []))
    problem = "there is none for sftp; add the line: Subsystem sftp internal-sftp"
    yield found("Subsystem", "" if has_sftp else problem)
    if first("pubkeyauthentication") == "no":
        yield found("PubkeyAuthentication", "no key is accepted; set it to yes")
    forced = first("forcecommand")
    if forced not in ("", "none") and "pysftp" not in forced:
        yield found("ForceCommand", f"it runs {one_line(forced)} instead; remove it for this account")
    elif forced not in ("", "none") and has_own_options:
        yield found("ForceCommand", "it overrides the command of the key; remove it for this account")
    names, groups = [account.pw_name], _groups(account)
    for key, own, wants in (
        ("DenyUsers", names, False),
        ("AllowUsers", names, True),
        ("DenyGroups", groups, False),
        ("AllowGroups", groups, True),
    ):
        words = (word for value in settings.get(key.lower(), []) for word in value.split())
        patterns = [word.partition("@")[0] for word in words]
        matches = any(fnmatch.fnmatchcase(name, pattern) for name in own for pattern in patterns)
        if patterns and matches != wants:
            yield found(key, f"it keeps this account out; {'add' if wants else 'remove'} it there")
    if first("usepam") != "yes" and _is_locked(account.pw_name):
        problem = f"without it, sshd refuses a locked account; run usermod -p '*' {account.pw_name}"
        yield found("UsePAM", problem)


def _groups(account: pwd.struct_passwd) -> list[str]:
    import grp

    found = []
    for number in os.getgrouplist(account.pw_name, account.pw_gid):
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return found


def _is_locked(name: str) -> bool:
    try:
        with open("/etc/shadow", encoding="utf-8", errors="replace") as lines:
            return any(line.startswith(f"{name}:!") for line in lines)
    except OSError:
        return False
