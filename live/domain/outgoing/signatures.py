"""Signatures of what we send, by Standard Webhooks 1.0.0: secrets, and what they sign.

Signed is `id.timestamp.body`, the body byte by byte, by HMAC-SHA256.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32  # the standard asks for 24 to 64


def write_secret(random: bytes) -> str:
    """The form in which a shop gets its key."""
    assert len(random) == SECRET_BYTES, "as many bytes as the hash has"
    return SECRET_PREFIX + base64.b64encode(random).decode()


def read_secret(secret: str) -> bytes:
    """The key itself. Raises ValueError for what was not written by `write_secret`."""
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)


def sign(keys: Sequence[bytes], message: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key, blanks between them.

    `message` is the header `webhook-id` and has no dot; `timestamp` in Unix seconds.
    """
    signed = f"{message}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_digest(key, signed)}" for key in keys)


def _digest(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
