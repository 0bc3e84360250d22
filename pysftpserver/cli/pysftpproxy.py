"""pysftpproxy: SFTP on standard input and output, for the files of another SFTP server.

What may not enter: packets, the ssh process.
"""

from __future__ import annotations

import os

from pysftpserver.cli import common, session
from pysftpserver.cli.options import BadValue, Command, Option
from pysftpserver.failures import BadInput, Unavailable
from pysftpserver.host.wholefiles import first_line
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.storages.sftp.address import SCHEME, TIMEOUT, seconds_of, settings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROG = "pysftpproxy"
VARIABLE = "PYSFTPPROXY_PASSWORD"
UNCHECKED = "the host key of the server behind is NOT checked: any host can pose as it and read everything"


def port_number(text: str) -> int:
    """Convert a port. Raises BadValue."""
    if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= 65535:
        return int(text)
    raise BadValue(f"invalid port {text!r}: use 1 to 65535")


def timeout(text: str) -> float:
    """Convert a number of seconds. Raises BadValue."""
    try:
        return seconds_of(text)
    except ValueError as error:
        raise BadValue(str(error)) from None


def _without_short_flag(option: Option, *flags: str) -> Option:
    """The same option without its letter, which belongs to another option here."""
    return Option(
        option.flags[-1],
        metavar=option.metavar,
        convert=option.convert,
        default=option.default or None,
        help=option.help.replace(" -p ", " --allow-requests "),
        choices=option.choices,
        separator=option.separator,
    )


READ_ONLY, ALLOW, DENY, _, CHECKSUMS = session.ACCESS_OPTIONS
NO_SANDBOX, _, _, *AUDIT = session.SECURITY_OPTIONS

# fmt: off
COMMAND = Command(
    PROG,
    description="Serves the files of another SFTP server on standard input and output. OpenSSH's ssh "
    "connects to it, with the user's configuration, keys, agents and known hosts.",
    epilog="It is started by sshd. Put a password into the file of --password-file or into the environment "
    f"variable {VARIABLE}: other users of this host can see the command line, if only for a moment.",
    examples=(
        (
            "In authorized_keys:",
            'restrict,command="pysftpproxy -k /etc/key files.example" ssh-rsa AAAA...',
        ),
        ("Try it without sshd:", f"sftp -D '{PROG} -a sftp://alice@files.example/srv/shared'"),
    ),
    statuses=session.STATUSES,
    arguments=[(
        "remote",
        "The server: [USER[:PASSWORD]@]HOST, or a name such as sftp://USER@HOST:PORT/PATH, whose path "
        "clients see as /. HOST may be an alias of ssh_config; what is not given here comes from there.",
    )],
    options=(
        *session.LOG_OPTIONS,
        Option(
            "-k", "--key", "--private-key-path", metavar="FILE", name="key",
            help="Log in with this private key. The default is those of ssh_config and the usual ones.",
        ),
        Option(
            "-p", "--port", metavar="PORT", convert=port_number,
            help="Connect to this port. The default is the one of ssh_config, or 22.",
        ),
        Option(
            "-a", "--ssh-agent",
            help="Let an SSH agent log in. The default is to ask none: under sshd, it would be the client's.",
        ),
        Option(
            "-c", "--ssh-config", metavar="FILE",
            help="Use this configuration of ssh. The default is the user's ~/.ssh/config and the system's.",
        ),
        Option(
            "-n", "--known-hosts", metavar="FILE",
            help="Take host keys from this file only. The default is the user's ~/.ssh/known_hosts and the "
            "system's. A host that is not there is refused.",
        ),
        Option(
            "-d", "--disable-known-hosts",
            help="Connect without checking the host key, and warn about it. The default is to check it.",
        ),
        Option(
            "--password-file", metavar="FILE",
            help="Read the password from the first line of this file. The default is the password in "
            f"the argument or in {VARIABLE}, or none.",
        ),
        Option(
            "--timeout", metavar="SECONDS", convert=timeout,
            help="Give up when the server is silent for this many seconds. The default is "
            f"{TIMEOUT:g}.",
        ),
        session.CLIENT_NAME,
        Option(
            "--start-directory", metavar="DIR",
            help="Start sessions in this directory. The default is where its own sessions "
            "start, or the root if the name has a path.",
        ),
        READ_ONLY,
        _without_short_flag(ALLOW),
        DENY,
        CHECKSUMS,
        *session.LIMIT_OPTIONS,
        NO_SANDBOX,
        *AUDIT,
        session.ALLOW_SETID,
        session.LIST_REQUESTS,
    ),
)
# fmt: on


def arguments_of(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the storage that the options describe. Raises ValueError, BadInput."""
    in_environment = os.environ.pop(VARIABLE, None)  # child processes do not need it
    remote = options["remote"]
    found = settings_of(remote) if remote.startswith(SCHEME) else {"remote": remote}
    for name, option in (("key", "key"), ("port", "port"), ("ssh_config_path", "ssh_config"),
                         ("known_hosts_path", "known_hosts"), ("timeout", "timeout")):  # fmt: skip
        if options[option] is not None:
            found[name] = options[option]
    if options["ssh_agent"]:
        found["ssh_agent"] = True
    if options["password_file"] is not None:
        found.pop("password_file", None)
        found["password"] = first_line(options["password_file"], "password file", keep_spaces=True)
    elif in_environment and "password_file" not in found and ":" not in found["remote"].rpartition("@")[0]:
        found["password"] = in_environment
    found["check_host_key"] = not options["disable_known_hosts"]
    return found


def run(options: dict[str, Any]) -> int:
    """Connect, and serve the session; return the exit status. Raises BadInput, Unavailable."""
    from pysftpserver.proxystorage import SFTPServerProxyStorage

    log = session.open_log(PROG, options)
    try:
        storage = SFTPServerProxyStorage(**arguments_of(options), ends_session=True)
    except ValueError as error:
        raise BadInput(str(error), "bad arguments") from None
    if options["disable_known_hosts"]:
        log.error(f"{storage.label}: {UNCHECKED}")
        common.tell(f"{PROG}: WARNING: {UNCHECKED}")
    try:
        storage.connect()
        if options["start_directory"] is not None:
            session.set_home(storage, options["start_directory"], "server")
        # Neither a umask nor uploads in temporary files: the server behind decides how it stores a file.
        own = {**options, "umask": None, "atomic_uploads": False}
        return session.serve(PROG, storage, log, own)
    except SFTPException as error:
        message = f"{storage.label}: {error}{hint(str(error))}"
        raise Unavailable(message, "the server behind cannot be reached") from None
    # ssh ends with this process: waiting for it would keep the client waiting.


def hint(words: str) -> str:
    """Advice for ssh's error message; "" if the message has it already."""
    if "ost key" in words:
        return "; add the host's key to the known hosts, once you have compared it"
    if "Permission denied" in words:
        return "; give a key with -k, or a password with --password-file"
    return ""


def serve(arguments: Sequence[str]) -> int:
    """Parse the arguments, hide the password in them, and run the command. Raises BadInput."""
    if not any(":" in word and "@" in word for word in arguments):
        return run(COMMAND.parse(arguments))
    from pysftpserver.cli import title

    if not title.hide_passwords():
        raise BadInput(
            f"other users of this host can see this command line; use --password-file or {VARIABLE}",
            "bad arguments",
        )
    try:
        return run(COMMAND.parse(arguments))
    except BadInput as error:
        error.message = title.without_passwords(error.message)
        raise


main = common.main_of(PROG, serve)
