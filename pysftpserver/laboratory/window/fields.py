"""The fields of the window: what may be typed in them, and how text from outside is shown.

What may not enter: tkinter, sockets, files.
"""

from __future__ import annotations

import ipaddress
import re

from pysftpserver.failures import BadInput, one_line
from pysftpserver.laboratory import wire

HOST, PORT, NAME, PASSWORD = FIELDS = ("host", "port", "name", "password")
MOST_SHOWN = 4000  # characters of a message that the log shows: much longer ones make a window slow
MOST_HOST = 253  # characters: RFC 1035, section 2.3.4

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def fault(field: str, text: str) -> str | None:
    """What is wrong with the text of a field, as a sentence, or None."""
    return _FAULTS[field](text)


def _host_fault(text: str) -> str | None:
    host = text.strip()
    if not host:
        return "Give the server's IP address or host name."
    try:
        ipaddress.ip_address(host)
        return None
    except ValueError:
        pass
    if re.fullmatch(r"[\d.]+", host):
        return "Not an IPv4 address: write four numbers from 0 to 255, separated by dots."
    if "[" in host:
        return "Write the IPv6 address without brackets."
    if ":" in host:
        return "Not an IPv6 address; a port goes into its own field."
    return None if _is_host_name(host) else "Not a host name: it has letters, digits, hyphens and dots."


def _is_host_name(host: str) -> bool:
    if len(host) > MOST_HOST:  # checked first: the rest is slow for long ones
        return False
    try:
        encoded = host.removesuffix(".").encode("idna").decode()
    except UnicodeError:
        return False
    return len(encoded) <= MOST_HOST and all(map(_LABEL.fullmatch, encoded.split(".")))


def _port_fault(text: str) -> str | None:
    port = text.strip()
    if port.isascii() and port.isdecimal() and len(port) < 12 and 1 <= int(port) <= 65535:
        return None
    return "The port is a whole number from 1 to 65535."


def _name_fault(text: str) -> str | None:
    if not text.strip():
        return "Give a name for yourself: the server and others see it."
    reason = wire.name_fault(text.strip())
    return None if reason is None else f"Give another name: this one is {reason}."


def _password_fault(text: str) -> str | None:
    if not text:
        return "Give the server's password."
    return "The password contains a NUL character." if wire.END in text else None


def given_fields(server: list[str], name: str | None) -> dict[str, str]:
    """Values for the fields from a command line. server: HOST and PORT, or fewer. Raises BadInput."""
    if len(server) > 2:
        raise BadInput(f"{' '.join(server)}: too many arguments; give HOST [PORT]")
    given = dict(zip(FIELDS, server, strict=False))
    if name is not None:
        given[NAME] = name
    for field, text in given.items():
        if (reason := fault(field, text)) is not None:
            raise BadInput(f"{field} {text!r}: {reason[0].lower()}{reason[1:].rstrip('.')}")
    return given


_FAULTS = {HOST: _host_fault, PORT: _port_fault, NAME: _name_fault, PASSWORD: _password_fault}


def harmless(text: str) -> str:
    """Text from outside made safe to show: line ends stay, other unprintable characters become escapes. So a
    server can neither ring a bell nor reverse the direction of writing.
    """
    return "\n".join(one_line(line) for line in text.replace("\r\n", "\n").split("\n"))


def shortened(text: str) -> str:
    """The text, cut if it is too long for the log."""
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[:MOST_SHOWN]} ... ({len(text) - MOST_SHOWN} more characters are not shown)"
