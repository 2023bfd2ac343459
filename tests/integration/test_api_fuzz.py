"""No body, key or query that a client can send is answered by "something broke on our side".

Method: every call of the table, with each of its fields set to each of a list of odd values, on
real engines; beside it hypothesis makes whole bodies from the calls' own JSON schemas.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live.api.http.routes import ENDPOINTS
from live.api.http.table import Endpoint
from live.api.schema.fields import Empty
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.integration.test_api_shows import begin
from tests.support.api_kit import Stage, open_stage

ODD_TEXTS = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\x1f",
    "\x7f",
    "\x85",
    "\u00a0",
    "a\u00a0b",
    "\u200f",
    "\u202e",
    "\u2028",
    "\u3000",
    "\ufeff",
    "\ufffe",
    "\U0001f469\u200d\U0001f680",
    "\U0010ffff",
    "e\u0301" * 127,
    "\U0001f600" * 255,
    "x" * 64,
    "x" * 65,
    "x" * 255,
    "x" * 256,
    "x" * 5_000,
    "%00",
    "*",
    "line\nbreak",
    "'; DROP TABLE shows; --",
]
ODD_VALUES: list[object] = [
    *ODD_TEXTS,
    None,
    True,
    0,
    -1,
    1.0,
    1.5,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    10**40,
    [],
    {},
    [None],
    ["\x00"],
    [f"show-{'x' * 59}{number:02}" for number in range(100)],
]
RAW_BODIES = [
    b'{"text": "\\ud800"}',
    b'{"sub": "\\ud83d", "role": "viewer", "shows": ["*"], "ttl_seconds": 60}',
    b'{"title": "\\udc00", "currency": "EUR"}',
    b'{"rehearsal_passcode": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"title": 1e999}',
    b"\xff\xfe",
    b"[" * 10_000,
    b'{"a":' * 5_000,
    b'{"seconds": 1.0, "x": ' + b"[" * 20_000,
    b'{"seconds": 1.0, "x": "\\ud800"}',
    b'{"quantity": 1.0, "seconds": 1.0, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    b"null",
    b"[]",
    b'""',
    b"{" + b" " * 60_000 + b"}",
]
SPECIMENS: dict[str, dict[str, object]] = {
    "ProductBody": {"sku": "new", "title": "A", "price_minor": 1, "currency": "EUR", "on_hand": 1},
    "AdjustmentBody": {"sku": "lamp", "delta": 1, "reason": "found", "key": "k"},
    "ShowBody": {"id": "fuzz", "title": "A", "currency": "EUR"},
    "ShowPatchBody": {"frozen": False},  # a frozen one would refuse the rest unread
    "OfferBody": {
        "id": "fuzz",
        "sku": "lamp",
        "price_minor": 1,
        "quantity": 1,
        "per_buyer_limit": 1,
        "hold_seconds": 60,
        "mode": "hold",
    },
    "RunOrderBody": {"skus": []},
    "PinsBody": {"skus": []},
    "AnnouncementBody": {"text": "hello"},
    "ExtendBody": {"seconds": 1},
    "WebhookBody": {"url": "https://8.8.8.8/", "types": ["*"]},
    "WebhookPatchBody": {"types": ["*"]},
    "ReplayBody": {"from": 1, "to": 2},
    "RestockBody": {"quantity": 1},
    "ModerationBody": {"action": "mute", "sub": "ada", "seconds": 1},
    "RefundBody": {"reason": "broken"},
    "ConfirmBody": {"reference": "shop-1", "amount_minor": 1, "currency": "EUR"},
    "DeclineBody": {"reason": "card refused"},
    "CancelBody": {"reason": "broken", "restock": True},
    "ShipmentBody": {
        "carrier": "DHL",
        "tracking_number": "1",
        "items": [{"line": 1, "qty": 1}],
    },
    "ShipmentPatchBody": {"status": "delivered"},
    "ReturnBody": {"reason": "broken", "items": [{"line": 1, "qty": 1}]},
    "ReturnPatchBody": {"state": "received"},
    "SessionBody": {"token": "x"},
    "TokenBody": {"role": "viewer", "sub": "ada", "shows": ["*"], "ttl_seconds": 60},
}
WITH_BODY = [one for one in ENDPOINTS if one.body is not Empty]


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


def odd_bodies(endpoint: Endpoint[Any]) -> Iterator[dict[str, object]]:
    """A good body with one field after the other set to one odd value after the other."""
    good = SPECIMENS.get(endpoint.body.__name__, {})
    for name in endpoint.body.__struct_fields__:
        for value in ODD_VALUES:
            yield good | {name: value}


async def places(stage: Stage, show: ShowId) -> dict[str, str]:
    """Names of what is there, an order with a parcel and a return among them."""
    offer = await begin(stage, show)
    where = names(show, offer)
    await stage.pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
           VALUES ($1, $2, $3, 'ada', gen_random_uuid(), 'paid', 1, 'EUR', 1)""",
        where["order"],
        show,
        b"b" * 16,
    )
    await stage.pool.execute(
        "INSERT INTO order_items (order_id, offer, qty, price_minor) VALUES ($1, $2, 1000, 1)",
        where["order"],
        offer,
    )
    await stage.pool.execute(
        """INSERT INTO shipments (id, order_id, carrier, tracking_number)
           VALUES ($1, $2, 'DHL', '1')""",
        where["shipment"],
        where["order"],
    )
    await stage.pool.execute(
        "INSERT INTO shipment_items (shipment, line, qty) VALUES ($1, 1, 500)", where["shipment"]
    )
    await stage.pool.execute(
        "INSERT INTO returns (id, order_id, reason) VALUES ($1, $2, 'odd')",
        where["return"],
        where["order"],
    )
    await stage.pool.execute(
        "INSERT INTO return_items (return, line, qty) VALUES ($1, 1, 1)", where["return"]
    )
    webhook = await stage.pool.fetchval(
        """INSERT INTO webhooks (id, url, types, format)
           VALUES (gen_random_uuid(), 'https://8.8.8.8', '{*}', 'standard') RETURNING id::text"""
    )
    return where | {"webhook": webhook}


def names(show: ShowId, offer: str) -> dict[str, str]:
    """What stands in paths."""
    ids = ("order", "hold", "shipment", "return", "webhook")
    unknown = {name: str(uuid4()) for name in ids}
    return {"show": show, "offer": offer, "sku": "lamp", "sub": "ada", **unknown}


def path_of(endpoint: Endpoint[Any], where: dict[str, str]) -> str:
    filled = {**where, "provider": "sandbox"}
    path = endpoint.path.replace("{sub:path}", "ada").format_map(filled)
    needed = "&".join(f"{name}={filled[name]}" for name in endpoint.needed)
    return f"{path}?{needed}" if needed else path


async def send(stage: Stage, endpoint: Endpoint[Any], path: str, body: bytes, **more: str) -> int:
    headers = {
        "authorization": f"Bearer {stage.token(Role.SERVICE, ['*'])}",
        "content-type": "application/json",
        **more,
    }
    answer = await stage.client.request(endpoint.method, path, content=body, headers=headers)
    assert answer.status_code < 500, (endpoint.method, path, body[:300], answer.text)
    return answer.status_code


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda one: f"{one.method} {one.path}")
async def test_odd_value_in_any_field_is_the_clients_fault(
    stage: Stage, show: ShowId, endpoint: Endpoint[Any]
) -> None:
    """Taken or refused, never broken by it."""
    path = path_of(endpoint, await places(stage, show))

    for body in odd_bodies(endpoint):
        key = {"idempotency-key": str(uuid4())} if endpoint.keyed else {}
        await send(stage, endpoint, path, json.dumps(body).encode(), **key)
        await send(stage, endpoint, path, json.dumps(body, ensure_ascii=False).encode(), **key)


async def test_odd_bytes_as_any_body_are_the_clients_fault(stage: Stage, show: ShowId) -> None:
    """Half characters, numbers without end, nests without bottom, no JSON at all."""
    where = await places(stage, show)
    for endpoint in ENDPOINTS:
        if endpoint.method != "GET":
            for body in RAW_BODIES:
                await send(stage, endpoint, path_of(endpoint, where), body)


async def test_odd_names_in_paths_queries_and_headers_are_the_clients_fault(
    stage: Stage, show: ShowId
) -> None:
    """Whatever a path, a query or a key can carry."""
    where = await places(stage, show)
    texts = [text for text in ODD_TEXTS if len(text) < 300]
    for endpoint in ENDPOINTS:
        for text in texts:
            odd = {name: "".join(f"%{byte:02x}" for byte in text.encode()) for name in where}
            await send(stage, endpoint, path_of(endpoint, odd), b"")
            path = path_of(endpoint, where)
            for name in endpoint.query + endpoint.needed:
                bare = path.partition("?")[0]
                await send(stage, endpoint, f"{bare}?{name}={odd['show']}", b"")
            if endpoint.keyed and endpoint.method == "POST" and text.isascii() and "\n" not in text:
                key = {"idempotency-key": text}
                await send(stage, endpoint, path, b"{}", **key)


def whole_bodies(kind: type) -> st.SearchStrategy[Any]:
    """Bodies as the OpenAPI document describes them, and their neighbours."""
    (_,), schemas = msgspec.json.schema_components([kind])
    fields = schemas[kind.__name__]["properties"]
    odd = st.one_of(st.text(max_size=300), st.integers(), st.booleans(), st.none())
    mostly_good = SPECIMENS.get(kind.__name__, {})
    values = {
        name: st.one_of(st.just(mostly_good[name]), odd) if name in mostly_good else odd
        for name in fields
    }
    return st.fixed_dictionaries({}, optional=values)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_made_up_bodies_are_the_clients_fault(
    stage: Stage, show: ShowId, data: st.DataObject
) -> None:
    """Whole bodies of any call."""
    endpoint = data.draw(st.sampled_from(WITH_BODY))
    body = data.draw(whole_bodies(endpoint.body))
    where = names(show, "o")
    await send(stage, endpoint, path_of(endpoint, where), json.dumps(body).encode())
