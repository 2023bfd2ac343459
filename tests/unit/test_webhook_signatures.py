"""Standard Webhooks signatures: who is believed, and for how long."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.payments.port import WEBHOOK_BYTES_MAX, WebhookRefused
from live.payments.webhooks import (
    SIGNATURES_MAX,
    TOLERANCE_SECONDS,
    sign,
    signed_headers,
    signing_key,
    verify,
)

NOW = 1_700_000_000
OLD, NEW = b"the key until last week", b"the key since last week"
BODY = b'{"type":"charge.authorised"}'


def headers(key: bytes = NEW, *, timestamp: int = NOW, body: bytes = BODY) -> dict[str, str]:
    return signed_headers(key, event="evt_1", timestamp=timestamp, body=body)


def refusal(given: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> WebhookRefused:
    with pytest.raises(WebhookRefused) as caught:
        verify(given, body, keys=[NEW], now=now)
    return caught.value


def test_signature_follows_the_published_example() -> None:
    """The specification's own test vector."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(
        key,
        event="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("key", [OLD, NEW])
def test_verify_accepts_both_keys_during_rotation(key: bytes) -> None:
    """While two keys are configured, either may have signed."""
    assert verify(headers(key), BODY, keys=[NEW, OLD], now=NOW) == "evt_1"


def test_verify_refuses_a_key_that_was_removed() -> None:
    """After the rotation the old key is worth nothing."""
    refused = refusal(headers(OLD))
    assert (refused.status, refused.code) == (401, "webhook.signature")


def test_verify_accepts_one_good_signature_among_several() -> None:
    """A sender in the middle of its own rotation signs with both of its keys."""
    both = headers()
    both["webhook-signature"] = (
        f"{sign(OLD, event='evt_1', timestamp=NOW, body=BODY)} " + (both["webhook-signature"])
    )
    assert verify(both, BODY, keys=[NEW], now=NOW) == "evt_1"


@pytest.mark.parametrize("age", [-TOLERANCE_SECONDS, TOLERANCE_SECONDS])
def test_verify_accepts_up_to_the_tolerance(age: int) -> None:
    """Five minutes either way are fine."""
    assert verify(headers(), BODY, keys=[NEW], now=NOW + age) == "evt_1"


@pytest.mark.parametrize("age", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1])
def test_verify_refuses_beyond_the_tolerance(age: int) -> None:
    """A recorded call cannot be played again later, nor one from the future."""
    refused = refusal(headers(), now=NOW + age)
    assert (refused.status, refused.code) == (400, "webhook.stale")


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_2"},
        {"webhook-id": ""},
        {"webhook-id": "e" * 256},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "٣"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": " ".join(["v1,AAAA"] * (SIGNATURES_MAX + 1))},
    ],
)
def test_verify_refuses_changed_headers(change: dict[str, str]) -> None:
    """Each header is part of what is signed, or bounded before it is used."""
    assert refusal(headers() | change).status == 401


def test_verify_refuses_a_body_that_is_too_long() -> None:
    """A long body is refused before it is hashed."""
    assert refusal(headers(), b"x" * (WEBHOOK_BYTES_MAX + 1)).status == 413


@given(body=st.binary(max_size=200), other=st.binary(max_size=200))
def test_verify_refuses_every_other_body(body: bytes, other: bytes) -> None:
    """A signature is good for its body and no other."""
    given_headers = headers(body=body)
    assert verify(given_headers, body, keys=[NEW], now=NOW) == "evt_1"
    if other != body:
        assert refusal(given_headers, other).status == 401


def test_signing_key_reads_both_forms() -> None:
    """`whsec_` means base64; anything else is taken as it stands."""
    assert signing_key("whsec_" + base64.b64encode(b"abc").decode()) == b"abc"
    assert signing_key("plain") == b"plain"
    with pytest.raises(ValueError, match="base64"):
        signing_key("whsec_!")
