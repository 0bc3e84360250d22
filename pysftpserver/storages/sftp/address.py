"""Where another SFTP server is and how to log in there, from a name, and as arguments of OpenSSH's `ssh`.

What may not enter: processes, packets. No message of this module repeats a password.
Facts: ssh(1), ssh_config(5), RFC 3986 for names.
"""

from __future__ import annotations

import os
import posixpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEME = "sftp://"
FORM = "sftp://[USER@]HOST[:PORT][/PATH][?SETTING=VALUE&...]"
TIMEOUT = 60.0  # seconds without any answer
MOST_SECONDS = 86400
#: Settings of a name, and what each is for the storage.
SETTINGS = {
    "key": "key",
    "config": "ssh_config_path",
    "agent": "ssh_agent",
    "known_hosts": "known_hosts_path",
    "password_file": "password_file",
    "timeout": "timeout",
}
# No setting of the user's ssh_config may prompt, forward or print: there is only one pair of pipes.
QUIET = (
    "ForwardX11=no",
    "ForwardAgent=no",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "RequestTTY=no",
    "LogLevel=ERROR",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    # A shared connection may have been made with another key, and stays when this one ends.
    "ControlMaster=no",
    "ControlPath=none",
)
CHECKED = ("StrictHostKeyChecking=yes", "VerifyHostKeyDNS=no")
UNCHECKED = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null")


class Address:
    """Where the server is and how to log in. Arguments: as for SFTPServerProxyStorage.

    Raises ValueError for an invalid argument.
    """

    def __init__(
        self,
        remote: str,
        key: str | None = None,
        port: int | None = None,
        ssh_config_path: str | None = None,
        ssh_agent: bool = False,
        known_hosts_path: str | None = None,
        check_host_key: bool = True,
    ) -> None:
        login, at, host = remote.rpartition("@")
        user, colon, password = login.partition(":")
        if at and not user:
            raise ValueError("the user's name is missing before the @")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]  # an IPv6 address
        _check_word("host name", host)
        if at:
            _check_word("user name", user)
        if port is not None and not 1 <= port <= 65535:
            raise ValueError(f"invalid port {port}: use 1 to 65535")
        self.host = host
        self.user = user if at else None
        self.password = password if colon else None
        self.port = port
        self.key = key
        self.ssh_config_path = ssh_config_path
        self.ssh_agent = ssh_agent
        self.known_hosts_path = known_hosts_path
        self.check_host_key = check_host_key

    def __str__(self) -> str:
        """For messages to the operator."""
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{user}{host}" + ("" if self.port is None else f":{self.port}")

    def ssh_command(self, program: str, has_password: bool, seconds: int) -> list[str]:
        """The command line that connects to the subsystem sftp. seconds: timeout for connecting."""
        settings = [*QUIET, f"ConnectTimeout={seconds}", f"BatchMode={'no' if has_password else 'yes'}"]
        if has_password:
            settings.append("NumberOfPasswordPrompts=1")
        if not self.ssh_agent:
            settings.append("IdentityAgent=none")
        if not self.check_host_key:
            settings += UNCHECKED
        else:
            settings += CHECKED
        if self.check_host_key and self.known_hosts_path is not None:
            settings += [f"UserKnownHostsFile={_quoted(self.known_hosts_path)}", "GlobalKnownHostsFile=none"]
        command = [program, "-x", "-T"]
        for setting in settings:
            command += ["-o", setting]
        if self.ssh_config_path is not None:
            command += ["-F", os.path.expanduser(self.ssh_config_path)]
        if self.key is not None:
            command += ["-o", f"IdentityFile={_quoted(self.key)}", "-o", "IdentitiesOnly=yes"]
        if self.port is not None:
            command += ["-p", str(self.port)]
        if self.user is not None:
            command += ["-l", self.user]
        return [*command, "-s", "--", self.host, "sftp"]


def _check_word(what: str, word: str) -> None:
    """Raises ValueError for a word that ssh could take for an option, or a ProxyCommand's shell for code."""
    allowed = all(letter.isalnum() or letter in "._-:%+@\\" for letter in word)
    if not word or not allowed or word.startswith("-") or len(word) > 255:
        raise ValueError(f"invalid {what} {word!r}")


def _quoted(path: str) -> str:
    """A path as one word of ssh_config(5), without its tokens and variables."""
    path = os.path.expanduser(path)
    if '"' in path or "${" in path or not path.isprintable():
        raise ValueError(f"{path!r}: ssh cannot be told of a file with this name")
    return '"' + path.replace("%", "%%") + '"'


def settings_of(name: str) -> dict[str, Any]:
    """The arguments of SFTPServerProxyStorage for a name in FORM. Raises ValueError."""
    from urllib.parse import unquote, unquote_to_bytes

    if not name.startswith(SCHEME):
        raise ValueError(f"write {FORM}")
    rest, _, query = name[len(SCHEME) :].partition("?")
    authority, slash, path = rest.partition("/")
    login, at, host = authority.rpartition("@")
    if ":" in login:
        raise ValueError("a password in the name can be seen by others; use password_file=FILE")
    host, port = _split_port(host)
    found: dict[str, Any] = {"remote": unquote(login) + at + unquote(host), "port": port}
    if ":" in unquote(login):
        raise ValueError("a colon in the user's name cannot be used")
    root = unquote_to_bytes(slash + path)
    if b"\0" in root:
        raise ValueError("the path has a NUL byte")
    root = b"/" + posixpath.normpath(b"/" + root).lstrip(b"/")
    found["root"] = root if root != b"/" else None
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if key not in SETTINGS or not equals or not value or SETTINGS[key] in found:
            known = ", ".join(SETTINGS)
            raise ValueError(f"setting {key!r} is unknown, empty or there twice; the settings are {known}")
        found[SETTINGS[key]] = unquote(value)
    if "ssh_agent" in found:
        found["ssh_agent"] = _boolean("agent", found["ssh_agent"])
    if "timeout" in found:
        found["timeout"] = seconds_of(found["timeout"])
    return found


def _split_port(host: str) -> tuple[str, int | None]:
    head, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, None
    if not (port.isascii() and port.isdecimal() and len(port) < 6):
        raise ValueError(f"invalid port {port!r}: use 1 to 65535")
    return head, int(port)


def _boolean(key: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{key}: use true or false")
    return text == "true"


def seconds_of(text: str) -> float:
    """A number of seconds. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MOST_SECONDS):
        raise ValueError(f"invalid timeout {text!r}: use 1 to {MOST_SECONDS} seconds")
    return float(text)
