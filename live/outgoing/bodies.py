"""What is sent: the body of an event in both formats, and its headers.

Always: the body of a delivery is the same at each try - it is put together from what is stored, and
the contact from the payment, which nobody changes until it is forgotten.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from live.domain.outgoing.deliveries import DueDelivery
from live.domain.outgoing.signatures import read_secret, sign
from live.domain.outgoing.webhooks import WebhookFormat

SOURCE = "urn:live-shopping"
_MEDIA_TYPES = {
    WebhookFormat.STANDARD: "application/json",
    WebhookFormat.CLOUDEVENTS: "application/cloudevents+json",
}


def body_of(due: DueDelivery) -> bytes:
    """JSON; `data` as the sequencer rendered it, byte by byte, with the contact behind."""
    at = datetime.fromtimestamp(due.at_us // 1_000 / 1_000, UTC)
    time_text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = orjson.Fragment(_data(due))
    if due.format is WebhookFormat.STANDARD:
        return orjson.dumps({"type": due.type, "timestamp": time_text, "data": data})
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": due.name,
            "source": SOURCE,
            "type": due.type,
            "subject": due.subject,
            "time": time_text,
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def headers_of(
    due: DueDelivery, body: bytes, *, clock: Callable[[], float] = time.time
) -> Mapping[str, str]:
    """Signed with every secret that counts at the moment."""
    at = int(clock())
    keys = [read_secret(secret) for secret in due.secrets]
    return {
        "content-type": _MEDIA_TYPES[due.format],
        "accept-encoding": "identity",
        "user-agent": "live-shopping-webhooks",
        "webhook-id": due.name,
        "webhook-timestamp": str(at),
        "webhook-signature": sign(keys, due.name, at, body),
    }


def _data(due: DueDelivery) -> bytes:
    if due.event is None:
        return orjson.dumps({"webhook": due.webhook})
    assert due.data is not None, "the sender looks first"
    data = due.data.encode()
    if due.contact is None:
        return data
    comma = b"," if data != b"{}" else b""
    return data[:-1] + comma + b'"contact":' + due.contact.encode() + b"}"
