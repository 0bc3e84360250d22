"""The login methods, and the combinations of them that let a user in.

What may not enter: SSH, how a method is checked. Facts: RFC 4252 on partial success, sshd_config(5) on
AuthenticationMethods, which has the same form.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from pysftpserver.people.users import User

    Combination = tuple[str, ...]

    class Rules(Protocol):
        """The login rules of a door, as in PeopleSettings."""

        @property
        def auth_methods(self) -> Sequence[str]: ...

        @property
        def offered(self) -> frozenset[str]: ...


PUBLICKEY, PASSWORD, TOTP = "publickey", "password", "totp"
METHODS = (PUBLICKEY, PASSWORD, TOTP)
MOST = 16  # combinations of one user


def parse(text: str) -> Combination:
    """Parse a combination: methods in order, with commas. Raises ValueError that says what is expected."""
    found = tuple(text.split(","))
    if set(found) - set(METHODS) or len(set(found)) < len(found) or found[0] == TOTP:
        raise ValueError(
            "publickey, password, or several of publickey, password and totp with commas between them, which "
            "are then all needed; totp is never the first"
        )
    return found


def problem(texts: Iterable[str]) -> str | None:
    """What is wrong with a user's combinations; None: nothing."""
    every = list(texts)
    if not 0 < len(every) <= MOST:
        return f"methods has to have 1 to {MOST} combinations"
    for text in every:
        try:
            parse(text)
        except ValueError as error:
            return f"methods: each has to be {error}"
    return None


def needed(texts: Iterable[str], offered: frozenset[str], has_code: bool) -> list[Combination]:
    """The combinations that let a user in.

    offered: the methods that the server has. has_code: whether the user has a second factor, which each
    combination then needs; without it, none can ask for a code.
    """
    found = []
    for combination in map(parse, texts):
        if has_code and TOTP not in combination:
            combination = (*combination, TOTP)
        if offered.issuperset(combination) and (has_code or TOTP not in combination):
            found.append(combination)
    return found


def of_user(user: User, settings: Rules) -> list[Combination]:
    """The combinations that let a user in: those of the record, or else of the settings."""
    return needed(user.methods or settings.auth_methods, settings.offered, bool(user.totp))


def following(combinations: Iterable[Combination], passed: Combination) -> set[str]:
    """The methods that may follow those that have succeeded."""
    length = len(passed)
    return {one[length] for one in combinations if len(one) > length and one[:length] == passed}


def how_to_offer(user: User, settings: Rules) -> str:
    """What to do if the server lacks methods that a user's record asks for; "" if it has them."""
    wanted = {word for text in user.methods or settings.auth_methods for word in text.split(",")}
    missing = sorted(wanted - settings.offered)
    return f"; add {' and '.join(missing)} to auth_methods" if missing else ""
