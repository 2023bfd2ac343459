"""RPC requests: each bad input is refused by the name of its field, each good one is read."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.api.schema import rpc_requests as fields
from live.base.errors import BadField
from live.domain.hold import CART_LINES_MAX, QTY_MAX
from live.domain.ids import key_text
from tests.support.answers import Json

KEY = "6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10"
OTHER = "0d5d6a1f-3b0a-4d9c-9a52-6f1c0f6e7f10"
HOLD = {"offer": "mug", "qty": 1, "key": KEY}
CART = {"items": [{"offer": "mug", "qty": 1}, {"offer": "cup", "qty": 2}], "key": KEY}
CHECKOUT = {"hold": KEY, "provider": "sandbox", "token": "tok_approve", "key": OTHER}
DIRECT = {"offer": "mug", "qty": 1, "provider": "sandbox", "key": OTHER}


def read(kind: type[msgspec.Struct], data: Json) -> msgspec.Struct:
    return fields.read(msgspec.json.Decoder(kind), json.dumps(data).encode())


def fault(kind: type[msgspec.Struct], data: Json | bytes) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(BadField) as caught:
        request = fields.read(msgspec.json.Decoder(kind), raw)
        for check in ("wanted", "direct", "check"):
            if hasattr(request, check):
                getattr(request, check)()
    return str(caught.value)


BAD_HOLDS: list[tuple[str, Json, str]] = [
    ("qty zero", HOLD | {"qty": 0}, "qty"),
    ("qty negative", HOLD | {"qty": -1}, "qty"),
    ("qty fraction", HOLD | {"qty": 1.5}, "qty"),
    ("qty whole float", HOLD | {"qty": 1.0}, "qty"),
    ("qty text", HOLD | {"qty": "1"}, "qty"),
    ("qty true", HOLD | {"qty": True}, "qty"),
    ("qty null", HOLD | {"qty": None}, "qty"),
    ("qty list", HOLD | {"qty": [1]}, "qty"),
    ("qty a billion", HOLD | {"qty": 10**9}, "qty"),
    ("qty above the limit", HOLD | {"qty": QTY_MAX + 1}, "qty"),
    ("qty beyond 64 bits", HOLD | {"qty": 2**64 + 1}, "qty"),
    ("no qty", {"offer": "mug", "key": KEY}, "qty"),
    ("no key", {"offer": "mug", "qty": 1}, "key"),
    ("no offer", {"qty": 1, "key": KEY}, "offer"),
    ("key no UUID", HOLD | {"key": "1"}, "key"),
    ("key a number", HOLD | {"key": 7}, "key"),
    ("key null", HOLD | {"key": None}, "key"),
    ("key with braces", HOLD | {"key": "{" + KEY + "}"}, "key"),
    ("offer empty", HOLD | {"offer": ""}, "offer"),
    ("offer with a colon", HOLD | {"offer": "a:b"}, "offer"),
    ("offer with a newline", HOLD | {"offer": "mug\n"}, "offer"),
    ("offer with NUL", HOLD | {"offer": "a\0"}, "offer"),
    ("offer too long", HOLD | {"offer": "m" * 65}, "offer"),
    ("offer a number", HOLD | {"offer": 5}, "offer"),
    ("price smuggled in", HOLD | {"price": 1}, "price"),
    ("paid smuggled in", HOLD | {"paid": True}, "paid"),
    ("field in capitals", HOLD | {"Qty": 2}, "Qty"),
    ("cart empty", CART | {"items": []}, "items"),
    ("cart too long", {"items": [{"offer": f"o{i}", "qty": 1} for i in range(CART_LINES_MAX + 1)],
                       "key": KEY}, "items"),
    ("cart with a bad line", CART | {"items": [{"offer": "mug", "qty": 0}]}, "items[0].qty"),
    ("cart line with a price", CART | {"items": [{"offer": "m", "qty": 1, "price": 1}]},
     "items[0].price"),
    ("cart line without qty", CART | {"items": [{"offer": "m"}]}, "items[0].qty"),
    ("cart names an offer twice", CART | {"items": [{"offer": "m", "qty": 1}] * 2}, "items"),
    ("cart and offer", CART | {"offer": "mug"}, "offer"),
    ("cart and qty", CART | {"qty": 1}, "qty"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "field"), [case[1:] for case in BAD_HOLDS], ids=[case[0] for case in BAD_HOLDS]
)
def test_bad_hold_is_refused_by_field(data: Json, field: str) -> None:
    """The message begins with the name of the field that is wrong."""
    assert fault(fields.HoldRequest, data).startswith(f"{field}: ")


BAD_OTHERS: list[tuple[str, type[msgspec.Struct], Json, str]] = [
    ("no provider", fields.CheckoutRequest, {"hold": KEY, "key": OTHER}, "provider"),
    ("no checkout key", fields.CheckoutRequest, {"hold": KEY, "provider": "s"}, "key"),
    ("nothing to pay", fields.CheckoutRequest, {"provider": "s", "key": KEY}, "hold"),
    ("hold and offer", fields.CheckoutRequest, CHECKOUT | {"offer": "mug"}, "offer"),
    ("hold and qty", fields.CheckoutRequest, CHECKOUT | {"qty": 1}, "qty"),
    ("offer without qty", fields.CheckoutRequest,
     {"offer": "mug", "provider": "s", "key": KEY}, "qty"),
    ("qty without offer", fields.CheckoutRequest,
     {"qty": 1, "provider": "s", "key": KEY}, "offer"),
    ("amount smuggled in", fields.CheckoutRequest, CHECKOUT | {"amount_minor": 1}, "amount_minor"),
    ("token empty", fields.CheckoutRequest, CHECKOUT | {"token": ""}, "token"),
    ("token with control character", fields.CheckoutRequest, CHECKOUT | {"token": "a\x1b"},
     "token"),
    ("token too long", fields.CheckoutRequest, CHECKOUT | {"token": "t" * 513}, "token"),
    ("contact a text", fields.CheckoutRequest, CHECKOUT | {"contact": "Ada"}, "contact"),
    ("contact with card", fields.CheckoutRequest, CHECKOUT | {"contact": {"card": "4242"}},
     "contact.card"),
    ("contact with NUL", fields.CheckoutRequest, CHECKOUT | {"contact": {"name": "A\0"}},
     "contact.name"),
    ("contact too long", fields.CheckoutRequest,
     CHECKOUT | {"contact": {"address": "x" * 1_001}}, "contact.address"),
    ("hold no UUID", fields.HoldName, {"hold": "x"}, "hold"),
    ("no hold", fields.HoldName, {}, "hold"),
    ("neither order nor hold", fields.OrderName, {}, "order"),
    ("order and hold", fields.OrderName, {"order": KEY, "hold": KEY}, "hold"),
    ("order no UUID", fields.OrderName, {"order": "1"}, "order"),
    ("waitlist without key", fields.JoinWaitlist, {"offer": "mug", "qty": 1}, "key"),
    ("waitlist qty zero", fields.JoinWaitlist, HOLD | {"qty": 0}, "qty"),
    ("leave nothing", fields.OfferName, {}, "offer"),
    ("no show", fields.ShowName, {}, "show"),
    ("show with braces", fields.ShowName, {"show": "{a}"}, "show"),
    ("unknown reaction", fields.React, {"show": "demo", "kind": "spam"}, "kind"),
    ("time with a field", fields.Nothing, {"zone": "UTC"}, "zone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [case[1:] for case in BAD_OTHERS],
    ids=[case[0] for case in BAD_OTHERS],
)
def test_bad_request_is_refused_by_field(
    kind: type[msgspec.Struct], data: Json, field: str
) -> None:
    """The same for every other method."""
    assert fault(kind, data).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"1",
        b'"text"',
        b"{",
        b'{"offer": NaN}',
        b"\xff\xfe",
        b'{"offer": "\xff"}',
        b'{"offer": "\\ud800", "qty": 1}',
        b"[" * 100_000,
        b'{"items": ' + b"[" * 100_000,
        b'{"key":' * 5_000,
    ],
    ids=["list", "number", "text", "cut", "NaN", "bytes", "utf8", "surrogate", "deep", "deep in a"
         " field", "deep objects"],
)  # fmt: skip
def test_no_json_object_is_refused(raw: bytes) -> None:
    """Whatever the bytes are, the answer is BadField and the process goes on."""
    assert fault(fields.HoldRequest, raw)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No input raises anything but BadField."""
    try:
        fields.read(msgspec.json.Decoder(fields.HoldRequest), raw)
    except BadField:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values, field=st.sampled_from(["offer", "qty", "key", "items", "extra"]))
def test_any_value_in_a_field_is_read_or_named(value: object, field: str) -> None:
    """What is refused is refused in the name of the field, or of one inside it."""
    data = HOLD | {field: value} if field != "items" else {"key": KEY, "items": value}
    raw = json.dumps(data).encode()
    try:
        request = fields.read(msgspec.json.Decoder(fields.HoldRequest), raw)
        request.wanted()
    except BadField as error:
        # NaN and infinities are no JSON at all.
        assert str(error).startswith((field, "data"))


def test_good_requests_are_read() -> None:
    """Both forms of a hold and of a checkout, each with its lines."""
    one = read(fields.HoldRequest, HOLD)
    cart = read(fields.HoldRequest, CART)
    paid = read(fields.CheckoutRequest, CHECKOUT | {"contact": {"name": "Ada", "address": "a\nb"}})
    direct = read(fields.CheckoutRequest, DIRECT)
    assert isinstance(one, fields.HoldRequest) and isinstance(cart, fields.HoldRequest)
    assert isinstance(paid, fields.CheckoutRequest) and isinstance(direct, fields.CheckoutRequest)
    assert one.wanted() == (fields.Item("mug", 1),)
    assert [item.qty for item in cart.wanted()] == [1, 2]
    assert paid.direct() is None
    assert direct.direct() == fields.Item("mug", 1)


@pytest.mark.parametrize("qty", [1, QTY_MAX])
def test_quantities_at_the_bounds_are_read(qty: int) -> None:
    """The limits themselves are allowed."""
    request = read(fields.HoldRequest, HOLD | {"qty": qty})
    assert isinstance(request, fields.HoldRequest)
    assert request.wanted()[0].qty == qty


@pytest.mark.parametrize("raw", [b"", b"null", b"{}"])
def test_absent_data_is_an_empty_request(raw: bytes) -> None:
    """Clients send nothing, null or {} where a call takes no fields."""
    assert fields.read(msgspec.json.Decoder(fields.Nothing), raw) == fields.Nothing()


def test_long_field_name_is_cut_in_the_answer() -> None:
    """An answer does not echo kilobytes of the client's own text."""
    assert len(fault(fields.Nothing, {"x" * 50_000: 1})) < 300


@pytest.mark.parametrize(
    "kind", [fields.HoldRequest, fields.CheckoutRequest, fields.JoinWaitlist, fields.React]
)
def test_published_patterns_are_those_of_json_schema(kind: type[msgspec.Struct]) -> None:
    r"""Clients check with the patterns of our documents: `\A` and `\Z` mean nothing to them."""
    schema = json.dumps(msgspec.json.schema(kind))
    assert "\\\\A" not in schema
    assert "\\\\Z" not in schema


def test_key_in_capitals_is_the_same_key() -> None:
    """A UUID may be written either way; the answer writes it small."""
    raw = bytes.fromhex(KEY.replace("-", ""))
    request = read(fields.HoldName, {"hold": KEY.upper()})
    assert isinstance(request, fields.HoldName)
    assert bytes.fromhex(request.hold.replace("-", "")) == raw
    assert key_text(raw) == KEY
