"""Signed webhooks after the Standard Webhooks specification, both directions.

Always: the signature covers id, timestamp and the raw body, is compared in constant time, and any
of the configured keys may have made it, so a key can be rotated without a gap. A timestamp further
than `TOLERANCE_SECONDS` from our clock is refused whatever its signature, so a recorded call cannot
be replayed later; within the tolerance the event's id makes a repeat harmless.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from live.payments.port import WEBHOOK_BYTES_MAX, WebhookRefused

TOLERANCE_SECONDS = 300
SIGNATURES_MAX = 8  # of one header; more is somebody guessing
ID_CHARS_MAX = 255
_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """Read a key: base64 behind `whsec_`, or the text's own bytes. Raises ValueError."""
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("what follows whsec_ must be base64") from error


def sign(key: bytes, *, event: str, timestamp: int, body: bytes) -> str:
    """Make the value of a `webhook-signature` header."""
    mac = hmac.new(key, f"{event}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def signed_headers(key: bytes, *, event: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that go with a webhook."""
    return {
        "webhook-id": event,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(key, event=event, timestamp=timestamp, body=body),
    }


def signed_by_all(
    keys: Sequence[bytes], *, event: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The same while one key replaces another: whoever has either can verify it."""
    signatures = [sign(key, event=event, timestamp=timestamp, body=body) for key in keys]
    headers = signed_headers(keys[0], event=event, timestamp=timestamp, body=body)
    return headers | {"webhook-signature": " ".join(signatures)}


def verify(headers: Mapping[str, str], body: bytes, *, keys: Sequence[bytes], now: float) -> str:
    """Return the event's id. Raises WebhookRefused: 401 for a signature, 400 for its age.

    `headers` has lower-case names; `now` is Unix seconds.
    """
    if len(body) > WEBHOOK_BYTES_MAX:
        raise WebhookRefused("the body is too long", status=413, code="webhook.too_long")
    event = headers.get("webhook-id", "")
    stamp = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split(" ")
    if not 0 < len(event) <= ID_CHARS_MAX or not _is_decimal(stamp) or len(given) > SIGNATURES_MAX:
        raise WebhookRefused("no usable signature", status=401, code="webhook.signature")
    timestamp = int(stamp)
    wanted = [sign(key, event=event, timestamp=timestamp, body=body) for key in keys]
    # Every pair is compared, so the time taken does not tell which key or signature was close.
    hits = [hmac.compare_digest(a.encode(), b.encode()) for a in wanted for b in given]
    if not any(hits):
        raise WebhookRefused("the signature is wrong", status=401, code="webhook.signature")
    if abs(now - timestamp) > TOLERANCE_SECONDS:
        raise WebhookRefused("the event is too old or too new", status=400, code="webhook.stale")
    return event


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
