"""Public keys as people write them, and the binary blobs that SSH compares.

What may not enter: files, logs, asyncio, users; pysftp-keys loads this for every login under OpenSSH. No
message contains the text of a key: people paste the wrong half of a pair.
Facts: RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4, OpenSSH's PROTOCOL.u2f, sshd(8) on
authorized_keys.
"""

from __future__ import annotations

import binascii

from pysftpserver.people.fields import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")
    #: A key, and if it is a CA's, the principals of which a certificate needs one; () for the user's name.
    Entry = tuple[bytes, tuple[str, ...] | None]

LEAST_RSA_BITS = 2048
MOST_RSA_BITS = 16384  # OpenSSH's limit
LONGEST_LINE = 16384  # characters
ED25519_BYTES = 32
CERT_AUTHORITY, PRINCIPALS = "cert-authority", "principals"  # options before the key of a CA
UNCOMPRESSED = 4  # first byte of a point on a curve, the only form that RFC 5656 requires
COORDINATE_BYTES = {b"nistp256": 32, b"nistp384": 48, b"nistp521": 66}


class BadKey(ValueError):
    """Not a public key of a known kind. The text says why, without the key."""


def _check_ed25519(fields: Fields) -> None:
    if len(fields.string()) != ED25519_BYTES:
        raise BadKey("the key's length is wrong")


def _check_ecdsa(curve: bytes) -> Callable[[Fields], None]:
    def check(fields: Fields) -> None:
        if fields.string() != curve:
            raise BadKey("the curve is not that of the key's type")
        point = fields.string()
        if len(point) != 1 + 2 * COORDINATE_BYTES[curve] or point[0] != UNCOMPRESSED:
            raise BadKey("the key's length is wrong")

    return check


def _check_rsa(fields: Fields) -> None:
    exponent, bits = fields.number(), fields.number().bit_length()
    if exponent < 3 or exponent % 2 == 0:
        raise BadKey("the exponent is wrong")
    if not LEAST_RSA_BITS <= bits <= MOST_RSA_BITS:
        raise BadKey(f"RSA with {bits} bits; use {LEAST_RSA_BITS} to {MOST_RSA_BITS} bits")


def _with_application(check: Callable[[Fields], None]) -> Callable[[Fields], None]:
    """Check a security key's blob: the ordinary fields, and the application of the key (usually "ssh:")."""

    def check_both(fields: Fields) -> None:
        check(fields)
        if not fields.string():
            raise BadKey("the security key names no application")

    return check_both


TYPES = {
    b"ssh-ed25519": _check_ed25519,
    b"ecdsa-sha2-nistp256": _check_ecdsa(b"nistp256"),
    b"ecdsa-sha2-nistp384": _check_ecdsa(b"nistp384"),
    b"ecdsa-sha2-nistp521": _check_ecdsa(b"nistp521"),
    b"ssh-rsa": _check_rsa,
    b"sk-ssh-ed25519@openssh.com": _with_application(_check_ed25519),
    b"sk-ecdsa-sha2-nistp256@openssh.com": _with_application(_check_ecdsa(b"nistp256")),
}


def key_type(blob: bytes) -> str:
    """The type named in a checked blob, such as ssh-ed25519."""
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode("ascii")


#: Algorithms that keys of these types sign with, the preferred ones first: none has SHA-1.
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


def check_blob(blob: bytes) -> None:
    """Raises BadKey unless a blob is exactly a public key of a known type."""
    fields = Fields(blob, "the key", BadKey)
    check = TYPES.get(fields.string())
    if check is None:
        raise BadKey(f"not a supported type; use one of {', '.join(name.decode() for name in TYPES)}")
    check(fields)
    fields.end()


def parse_key(text: str) -> bytes:
    """The blob of a key: base64 alone, or a line `type base64 comment`. Raises BadKey."""
    return parse_line(text)[0]


def parse_entry(text: str) -> tuple[Entry, str]:
    """A user's key or that of a CA of the user's, and the comment. Raises BadKey.

    A CA's has `cert-authority` before it, and perhaps `principals="a,b"`, as in authorized_keys.
    """
    options, rest = _options_of(text.strip()) if len(text) <= LONGEST_LINE else ([], text)
    if all(option.lower() != CERT_AUTHORITY for option in options):
        blob, comment = parse_line(text)
        return (blob, None), comment
    principals: tuple[str, ...] = ()
    for option in options:
        name, _, value = option.partition("=")
        if name.lower() == PRINCIPALS and not principals:
            principals = _principals_of(value)
        elif option.lower() != CERT_AUTHORITY:
            raise BadKey(f"{CERT_AUTHORITY} takes the option {PRINCIPALS}, once; others would have no effect")
    blob, comment = parse_line(rest)
    return (blob, principals), comment


def _options_of(line: str) -> tuple[list[str], str]:
    """The options before the first unquoted blank, split at commas, and the rest of the line."""
    options, start, is_quoted = [], 0, False
    for place, letter in enumerate(f"{line} "):
        if letter == '"':
            is_quoted = not is_quoted
        elif letter in ", \t" and not is_quoted:
            options.append(line[start:place])
            start = place + 1
            if letter != ",":
                break
    return options, line[start:]


def _principals_of(value: str) -> tuple[str, ...]:
    names = tuple(one.strip() for one in value[1:-1].split(","))
    if not (len(value) > 2 and value[0] == value[-1] == '"' and all(names)):
        raise BadKey(f'{PRINCIPALS} is not names with commas between them, in quotes: {PRINCIPALS}="a,b"')
    if not value.isprintable() or any(letter in value[1:-1] for letter in '"\\'):
        raise BadKey(f"{PRINCIPALS} has quotes, backslashes or unprintable characters in it")
    return names


def parse_line(text: str) -> tuple[bytes, str]:
    """The blob of a key, and the comment, which may be empty. Raises BadKey."""
    if len(text) > LONGEST_LINE:
        raise BadKey(f"longer than {LONGEST_LINE} characters")
    if "PRIVATE KEY" in text:
        raise BadKey("this is a private key; use the public one, in the file that ends in .pub")
    if "\n" in text.strip() or "\r" in text.strip():
        raise BadKey("more than one line")
    words = text.split(None, 2)
    if not words:
        raise BadKey("empty")
    if words[0].encode() in TYPES:
        if len(words) < 2:
            raise BadKey("nothing follows the type")
        blob = _decode(words[1])
        outer = words[0]
        comment = words[2].rstrip() if len(words) > 2 else ""
    else:
        if len(words) > 1:
            raise BadKey(_why_no_type(words))
        blob, outer, comment = _decode(words[0]), None, ""
    check_blob(blob)
    if outer is not None and key_type(blob) != outer:
        raise BadKey(f"the line says {outer}, but the key is {key_type(blob)}")
    return blob, comment


def _why_no_type(words: list[str]) -> str:
    """What is wrong with a line whose first word is not a type of key."""
    types = [name.decode() for name in TYPES]
    if any(word in types for word in " ".join(words[1:]).split()) or "=" in words[0] or "," in words[0]:
        return "there are options before the key; they would have no effect here, so remove them"
    if words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return f"not a supported type; use one of {', '.join(types)}"
    return "neither base64 alone nor a line that begins with a type of key"


def _decode(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        raise BadKey("not valid base64") from None


def fingerprint(blob: bytes) -> str:
    """SHA256:... as ssh-keygen -l prints it."""
    import hashlib

    digest = binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False)
    return f"SHA256:{digest.decode().rstrip('=')}"


def key_line(blob: bytes, comment: str = "") -> str:
    """The line `type base64 comment` of a checked blob, without a line end."""
    line = f"{key_type(blob)} {binascii.b2a_base64(blob, newline=False).decode()}"
    return f"{line} {comment}" if comment else line


def entry_line(entry: Entry, comment: str = "") -> str:
    """The line that parse_entry() reads."""
    blob, principals = entry
    names = f',{PRINCIPALS}="{",".join(principals)}"' if principals else ""
    return ("" if principals is None else f"{CERT_AUTHORITY}{names} ") + key_line(blob, comment)


def parse_authorized_keys(text: str, parse: Callable[[str], T]) -> tuple[list[T], list[str]]:
    """The parsed lines of a file in the form of authorized_keys, and what is wrong with bad ones.

    Empty lines and comments are skipped. A bad line does not affect the others. parse: of one line.
    """
    found, problems = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(parse(line))
            except BadKey as error:
                problems.append(f"line {number}: {error}")
    return found, problems
