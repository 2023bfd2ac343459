"""Requests: each bad input is refused by the name of its field, each good one is read."""

import json
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.api.rpc.methods import read_data
from live.api.schema import http_requests
from live.api.schema import rpc_requests as rpc
from live.api.schema.fields import Empty, SecureLink
from live.base import decode
from live.base.errors import BadField
from live.domain.hold import CART_LINES_MAX, QTY_MAX
from live.domain.ids import key_text
from live.domain.order import OrderState
from tests.support.answers import Json

KEY = "6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10"
OTHER = "0d5d6a1f-3b0a-4d9c-9a52-6f1c0f6e7f10"
HOLD = {"offer": "mug", "qty": 1, "key": KEY}
CART = {"items": [{"offer": "mug", "qty": 1}, {"offer": "cup", "qty": 2}], "key": KEY}
CHECKOUT = {"hold": KEY, "provider": "sandbox", "token": "tok_approve", "key": OTHER}
DIRECT = {"offer": "mug", "qty": 1, "provider": "sandbox", "key": OTHER}


def read(kind: type[msgspec.Struct], data: Json) -> msgspec.Struct:
    return decode.read(msgspec.json.Decoder(kind), json.dumps(data).encode())


def fault(kind: Any, data: Json | bytes) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(BadField) as caught:
        request = decode.read(msgspec.json.Decoder(kind), raw)
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
    assert fault(rpc.HoldRequest, data).startswith(f"{field}: ")


BAD_OTHERS: list[tuple[str, type[msgspec.Struct], Json, str]] = [
    ("no provider", rpc.CheckoutRequest, {"hold": KEY, "key": OTHER}, "provider"),
    ("no checkout key", rpc.CheckoutRequest, {"hold": KEY, "provider": "s"}, "key"),
    ("nothing to pay", rpc.CheckoutRequest, {"provider": "s", "key": KEY}, "hold"),
    ("hold and offer", rpc.CheckoutRequest, CHECKOUT | {"offer": "mug"}, "offer"),
    ("hold and qty", rpc.CheckoutRequest, CHECKOUT | {"qty": 1}, "qty"),
    ("offer without qty", rpc.CheckoutRequest,
     {"offer": "mug", "provider": "s", "key": KEY}, "qty"),
    ("qty without offer", rpc.CheckoutRequest,
     {"qty": 1, "provider": "s", "key": KEY}, "offer"),
    ("amount smuggled in", rpc.CheckoutRequest, CHECKOUT | {"amount_minor": 1}, "amount_minor"),
    ("token empty", rpc.CheckoutRequest, CHECKOUT | {"token": ""}, "token"),
    ("token with control character", rpc.CheckoutRequest, CHECKOUT | {"token": "a\x1b"},
     "token"),
    ("token too long", rpc.CheckoutRequest, CHECKOUT | {"token": "t" * 513}, "token"),
    ("contact a text", rpc.CheckoutRequest, CHECKOUT | {"contact": "Ada"}, "contact"),
    ("contact with card", rpc.CheckoutRequest, CHECKOUT | {"contact": {"card": "4242"}},
     "contact.card"),
    ("contact with NUL", rpc.CheckoutRequest, CHECKOUT | {"contact": {"name": "A\0"}},
     "contact.name"),
    ("contact too long", rpc.CheckoutRequest,
     CHECKOUT | {"contact": {"address": "x" * 1_001}}, "contact.address"),
    ("hold no UUID", rpc.HoldName, {"hold": "x"}, "hold"),
    ("no hold", rpc.HoldName, {}, "hold"),
    ("neither order nor hold", rpc.OrderName, {}, "order"),
    ("order and hold", rpc.OrderName, {"order": KEY, "hold": KEY}, "hold"),
    ("order no UUID", rpc.OrderName, {"order": "1"}, "order"),
    ("waitlist without key", rpc.JoinWaitlist, {"offer": "mug", "qty": 1}, "key"),
    ("waitlist qty zero", rpc.JoinWaitlist, HOLD | {"qty": 0}, "qty"),
    ("leave nothing", rpc.OfferName, {}, "offer"),
    ("no show", rpc.ShowName, {}, "show"),
    ("show with braces", rpc.ShowName, {"show": "{a}"}, "show"),
    ("unknown reaction", rpc.React, {"show": "demo", "kind": "spam"}, "kind"),
    ("time with a field", Empty, {"zone": "UTC"}, "zone"),
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
    assert fault(rpc.HoldRequest, raw)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No input raises anything but BadField."""
    try:
        decode.read(msgspec.json.Decoder(rpc.HoldRequest), raw)
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
        request = decode.read(msgspec.json.Decoder(rpc.HoldRequest), raw)
        request.wanted()
    except BadField as error:
        # NaN and infinities are no JSON at all.
        assert str(error).startswith((field, "request"))


def test_good_requests_are_read() -> None:
    """Both forms of a hold and of a checkout, each with its lines."""
    one = read(rpc.HoldRequest, HOLD)
    cart = read(rpc.HoldRequest, CART)
    paid = read(rpc.CheckoutRequest, CHECKOUT | {"contact": {"name": "Ada", "address": "a\nb"}})
    direct = read(rpc.CheckoutRequest, DIRECT)
    assert isinstance(one, rpc.HoldRequest) and isinstance(cart, rpc.HoldRequest)
    assert isinstance(paid, rpc.CheckoutRequest) and isinstance(direct, rpc.CheckoutRequest)
    assert one.wanted() == (rpc.Item(offer="mug", qty=1),)
    assert [item.qty for item in cart.wanted()] == [1, 2]
    assert paid.direct() is None
    assert direct.direct() == rpc.Item(offer="mug", qty=1)


@pytest.mark.parametrize("qty", [1, QTY_MAX])
def test_quantities_at_the_bounds_are_read(qty: int) -> None:
    """The limits themselves are allowed."""
    request = read(rpc.HoldRequest, HOLD | {"qty": qty})
    assert isinstance(request, rpc.HoldRequest)
    assert request.wanted()[0].qty == qty


@pytest.mark.parametrize("raw", [b"", b"null", b"{}"])
def test_absent_data_is_an_empty_request(raw: bytes) -> None:
    """Clients send nothing, null or {} where a method takes no fields."""
    assert read_data(msgspec.json.Decoder(Empty), raw) == Empty()


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"seconds": 1.0}', None),
        (b'{"seconds": 1.5}', "seconds"),
        (b'{"seconds": 0.0}', "seconds"),
        (b'{"seconds": 1.0, "x": 2.0}', "x"),
        (b'{"seconds": 1.0} x', "request"),
        (b"null", "request"),
    ],
    ids=["whole", "part", "out of range", "no field", "no JSON", "null"],
)
def test_whole_float_is_an_integer_where_a_call_says_so(raw: bytes, field: str | None) -> None:
    """JSON Schema takes 1.0 for an integer, and so do the HTTP calls; all else is told as ever."""
    decoder = msgspec.json.Decoder(http_requests.ExtendBody)
    if field is None:
        assert decode.read(decoder, raw, whole_floats=True).seconds == 1
    else:
        with pytest.raises(BadField, match=f"^{field}: "):
            decode.read(decoder, raw, whole_floats=True)
    with pytest.raises(BadField):
        decode.read(decoder, raw)


def test_fault_of_the_whole_has_no_field() -> None:
    """What is no JSON has nothing that could be named; a field is told apart from its fault."""
    with pytest.raises(BadField, match=r"^request: is no JSON$") as whole:
        decode.read(msgspec.json.Decoder(Empty), b"{")
    with pytest.raises(BadField) as part:
        decode.read(msgspec.json.Decoder(rpc.HoldName), b'{"hold": "x"}')
    assert (whole.value.field, part.value.field) == ("", "hold")
    assert str(part.value) == "hold: has a wrong form"


def test_closed_list_and_form_say_what_is_right() -> None:
    """Wherever the field stands; the client's own text is cut."""

    class Inner(msgspec.Struct):
        kind: OrderState | None = None
        link: SecureLink = ""

    class Outer(msgspec.Struct):
        word: Literal["a", "b"] | msgspec.UnsetType = msgspec.UNSET
        inner: list[Inner] = []
        named: dict[str, Literal["c", "d"]] = {}

    assert fault(Outer, {"word": "x"}) == "word: 'x' is not one of a, b"
    assert fault(Outer, {"named": {"k": "x"}}).endswith(": 'x' is not one of c, d")
    states = ", ".join(OrderState)
    told = fault(Outer, {"inner": [{}, {"kind": "x"}]})
    assert told == f"inner[1].kind: 'x' is not one of {states}"
    told = fault(Outer, {"inner": [{"link": "http://x"}]})
    assert told.startswith("inner[0].link: has a wrong form: an https address")
    assert len(fault(Outer, {"word": "x" * 50_000})) < 300
    assert fault(Literal["a"], b'"x"') == "request: 'x' is not one of a"


def test_long_field_name_is_cut_in_the_answer() -> None:
    """An answer does not echo kilobytes of the client's own text."""
    assert len(fault(Empty, {"x" * 50_000: 1})) < 300


@pytest.mark.parametrize(
    "kind", [rpc.HoldRequest, rpc.CheckoutRequest, rpc.JoinWaitlist, rpc.React]
)
def test_published_patterns_are_those_of_json_schema(kind: type[msgspec.Struct]) -> None:
    r"""Clients check with the patterns of our documents: `\A` and `\Z` mean nothing to them."""
    schema = json.dumps(msgspec.json.schema(kind))
    assert "\\\\A" not in schema
    assert "\\\\Z" not in schema


def test_key_in_capitals_is_the_same_key() -> None:
    """A UUID may be written either way; the answer writes it small."""
    raw = bytes.fromhex(KEY.replace("-", ""))
    request = read(rpc.HoldName, {"hold": KEY.upper()})
    assert isinstance(request, rpc.HoldName)
    assert bytes.fromhex(request.hold.replace("-", "")) == raw
    assert key_text(raw) == KEY
