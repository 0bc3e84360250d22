"""What people type before they connect: what is wrong with it, and how text from outside is shown.

What may not enter: tkinter, sockets, files.
"""

from __future__ import annotations

import ipaddress
import re

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
        return "That is no IP address: four numbers from 0 to 255, with dots between."
    if "[" in host:
        return "An IPv6 address is written without brackets here."
    if ":" in host:
        return "That is no IPv6 address; a port goes into the field beside."
    return None if _is_host_name(host) else "That is no host name: it has letters, digits, hyphens and dots."


def _is_host_name(host: str) -> bool:
    if len(host) > MOST_HOST:  # checked first: what follows is slow for long ones
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
    return None if reason is None else f"Give another name: this is {reason}."


def _password_fault(text: str) -> str | None:
    if not text:
        return "Give the server's password."
    return "A password has no zero character in it." if wire.END in text else None


_FAULTS = {HOST: _host_fault, PORT: _port_fault, NAME: _name_fault, PASSWORD: _password_fault}


def harmless(text: str) -> str:
    """Text from outside as it may be shown: line ends stay, whatever else is no letter becomes an escape.

    So a server can neither ring a bell nor turn the direction of writing around.
    """
    return "\n".join(one_line(line) for line in text.replace("\r\n", "\n").split("\n"))


def one_line(text: str) -> str:
    """The same for a place that has one line."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shortened(text: str) -> str:
    """A text that is not too long for the log."""
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[:MOST_SHOWN]} ... ({len(text) - MOST_SHOWN} more characters are not shown)"
