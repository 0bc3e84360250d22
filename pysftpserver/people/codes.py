"""One-time codes as a second factor: a new secret, its address for an app, and the step of a code.

What may not enter: SSH, users, which codes were used before. Facts: RFC 6238, RFC 4226, Google
Authenticator's key URI format.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from pysftpserver.failures import needed

SECONDS = 30  # of a step
DIGITS = 6
FEWEST_BYTES, MOST_BYTES = 16, 128  # of a secret; RFC 4226 wants 128 bits at least
DRIFT = 1  # steps by which the app's clock may be behind or ahead


def new_secret() -> str:
    """A new secret, in base32."""
    with needed("sshd", "pyotp"):
        import pyotp
    return pyotp.random_base32()


def uri(secret: str, name: str, issuer: str) -> str:
    """The otpauth address of a user's secret, as apps take it."""
    import pyotp

    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)


def secret_problem(text: str) -> str | None:
    """What is wrong with a secret in a user's record; None: nothing."""
    try:
        size = len(base64.b32decode(text + "=" * (-len(text) % 8)))
    except (ValueError, binascii.Error):
        size = 0
    if not FEWEST_BYTES <= size <= MOST_BYTES:
        return f"totp is not base32 of {FEWEST_BYTES} to {MOST_BYTES} bytes; make one with pysftpctl totp"
    return None


def step_of(secret: str, code: str, now: float) -> int | None:
    """The number of a code's step; None: not a code of the present. now: seconds of Unix time."""
    import pyotp

    code = "".join(code.split())  # apps show "123 456"
    if len(code) != DIGITS or not (code.isascii() and code.isdecimal()):
        return None
    made = pyotp.TOTP(secret, digits=DIGITS, interval=SECONDS)
    found = None
    for step in range(int(now) // SECONDS - DRIFT, int(now) // SECONDS + DRIFT + 1):  # always all of them
        if hmac.compare_digest(made.generate_otp(step), code):
            found = step
    return found
