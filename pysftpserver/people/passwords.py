"""Passwords: their hashes, how they are verified, and which are too weak.

A check uses OWASP's parameters for argon2id: 19 MiB and about 30 milliseconds of one processor. If there is
no password to compare with, checking DUMMY takes as long. What may not enter: SSH, users, logs, asyncio. No
message contains a password. Facts: RFC 9106, RFC 4252 section 8, RFC 4013.
"""

from __future__ import annotations

import base64
import re
import secrets

from pysftpserver.failures import needed

KIBIBYTES, PASSES, LANES = 19456, 2, 1  # of new hashes
MOST_KIBIBYTES, MOST_PASSES, MOST_LANES = 256 << 10, 16, 4
MOST_WORK = 1 << 20  # KiB times passes
SALT, TAG = 16, 32  # bytes
SHORTEST, LONGEST = 10, 256  # characters
FEWEST_DIFFERENT = 5  # characters
SHORTEST_NAME = 3  # characters; a password may not contain a name of this length or longer
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
# Common passwords, without the digits and signs that people put before, after and into them.
_COMMON = frozenset(
    "password passwort motdepasse contrasena qwerty qwertz azerty letmein welcome willkommen admin "
    "administrator iloveyou monkey dragon master superman batman football baseball sunshine princess trustno "
    "whatever freedom changeme secret default guest test login hello abc asdf asdfgh zxcvbn sftp ssh ftp "
    "server root".split()
)
_ROWS = ("01234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm")
_LOOKALIKES = str.maketrans("01345@$!", "oleasasi")


def prepared(text: str) -> str:
    """A password in normalized form (SASLprep), in which it is compared.

    Raises ValueError if it cannot be a password, BadInput without asyncssh.
    """
    with needed("sshd", "asyncssh"):
        from asyncssh.saslprep import SASLPrepError, saslprep

    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    try:
        return saslprep(text)
    except SASLPrepError:
        raise ValueError("it has characters that no password may have") from None


def hashed(password: str) -> str:
    """The hash of a prepared password, for a user's record."""
    with needed("sshd", "argon2"):
        from argon2.low_level import Type, hash_secret

    salt = secrets.token_bytes(SALT)
    how = {"time_cost": PASSES, "memory_cost": KIBIBYTES, "parallelism": LANES, "hash_len": TAG}
    return hash_secret(password.encode(), salt, **how, type=Type.ID).decode()


def verify(hash: str, password: str) -> bool:
    """Whether a prepared password has that hash, which hash_problem() must have accepted.

    Raises Argon2Error if there is not enough memory.
    """
    from argon2.exceptions import VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    try:
        return verify_secret(hash.encode(), password.encode(), Type.ID)
    except VerifyMismatchError:
        return False


def _dummy() -> str:
    salt, tag = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (SALT, TAG))
    return f"$argon2id$v=19$m={KIBIBYTES},t={PASSES},p={LANES}${salt}${tag}"


DUMMY = _dummy()  # matches no password; checking it takes as long as any hash


def hash_problem(text: str) -> str | None:
    """What is wrong with a hash in a user's record; None: nothing."""
    found = _HASH.fullmatch(text)
    if found is None:
        return "password is not a hash by argon2id; make one with pysftpctl passwd"
    memory, passes, lanes = map(int, found.groups())
    if memory > MOST_KIBIBYTES or not 0 < passes <= MOST_PASSES or not 0 < lanes <= MOST_LANES:
        return "password: checking this hash takes too much; make another with pysftpctl passwd"
    if memory < 8 * lanes or memory * passes > MOST_WORK:
        return "password: checking this hash takes too much or too little; make another with pysftpctl passwd"
    return None


def weakness(password: str, name: str) -> str | None:
    """Why a prepared password is too weak for a user; None: it is not."""
    plain = password.casefold()
    if len(password) < SHORTEST:
        return f"shorter than {SHORTEST} characters"
    if len(set(plain)) < FEWEST_DIFFERENT:
        return f"it has fewer than {FEWEST_DIFFERENT} different characters"
    if len(name) >= SHORTEST_NAME and name.casefold() in plain:
        return "it contains the user's name"
    core = re.sub(r"^[^a-z]+|[^a-z]+$", "", plain).translate(_LOOKALIKES)
    stems = (re.sub(r"[^a-z]", "", text) for text in (plain, core, plain.translate(_LOOKALIKES)))
    if any(stem in _COMMON or stem * 2 in _COMMON for stem in stems):
        return "it is one of the most common ones"
    if any(plain[start : start + 6] in row for row in _walks() for start in (0, len(plain) - 6)):
        return "it begins or ends with a row of keys or of letters"
    return None


def _walks() -> list[str]:
    return [row for one in _ROWS for row in (one, one[::-1])]
