"""Who may call what, and what bad input is told: every call against every role, and one table."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from live.api.http.call import BODY_BYTES_MAX
from live.api.http.routes import ENDPOINTS
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from tests.integration.test_api_shows import LAMP, begin, offer
from tests.support.api_kit import Stage, open_stage

H, M, S, V = Role.HOST, Role.MODERATOR, Role.SERVICE, Role.VIEWER

# The public contract's column "who", typed from it and not from the code; with two additions:
# a moderator reads the show, and three calls for the console are ours (docs/concepts/access.md).
WHO: dict[str, set[Role]] = {
    "POST /v1/products": {H, S},
    "GET /v1/products": {H, M, S},
    "GET /v1/products/{sku}": {H, M, S},
    "POST /v1/stock/adjustments": {H, S},
    "GET /v1/catalogue/audit-log": {H, S},
    "POST /v1/shows": {H, S},
    "GET /v1/shows": {H, M, S},
    "GET /v1/shows/{show}/restrictions": {H, M, S},
    "GET /v1/shows/{show}": {H, M, S},
    "PATCH /v1/shows/{show}": {H, S},
    "POST /v1/shows/{show}/start": {H, S},
    "POST /v1/shows/{show}/pause": {H, S},
    "POST /v1/shows/{show}/resume": {H, S},
    "POST /v1/shows/{show}/end": {H, S},
    "PUT /v1/shows/{show}/run-order": {H, S},
    "POST /v1/shows/{show}/pins": {H, S},
    "POST /v1/shows/{show}/announcements": {H, S},
    "POST /v1/shows/{show}/offers": {H, S},
    "GET /v1/shows/{show}/offers": {H, M, S, V},
    "GET /v1/offers/{offer}": {H, M, S},
    "PATCH /v1/offers/{offer}": {H, S},
    "POST /v1/offers/{offer}/sold-out": {H, S},
    "POST /v1/offers/{offer}/open": {H, S},
    "POST /v1/offers/{offer}/pause": {H, S},
    "POST /v1/offers/{offer}/resume": {H, S},
    "POST /v1/offers/{offer}/close": {H, S},
    "POST /v1/offers/{offer}/extend": {H, S},
    "POST /v1/offers/{offer}/restock": {H, S},
    "POST /v1/shows/{show}/moderation": {H, M, S},
    "GET /v1/orders": {H, S, V},
    "GET /v1/orders/{order}": {H, S, V},
    "POST /v1/orders/{order}/refund": {H, S},
    "POST /v1/orders/{order}/refund/call-off": {H, S},
    "POST /v1/orders/{order}/paid": {H, S},
    "POST /v1/orders/{order}/shipments": {H, S},
    "PATCH /v1/orders/{order}/shipments/{shipment}": {H, S},
    "POST /v1/orders/{order}/cancel": {H, S},
    "POST /v1/orders/{order}/returns": {H, S, V},
    "PATCH /v1/orders/{order}/returns/{return}": {H, S},
    "GET /v1/holds/{hold}": {S},
    "POST /v1/holds/{hold}/confirm": {S},
    "POST /v1/holds/{hold}/decline": {S},
    "GET /v1/session": {H, M, S},
    "POST /v1/tokens": {S},
    "POST /v1/webhooks": {S},
    "GET /v1/webhooks": {S},
    "GET /v1/webhooks/{webhook}": {S},
    "PATCH /v1/webhooks/{webhook}": {S},
    "DELETE /v1/webhooks/{webhook}": {S},
    "POST /v1/webhooks/{webhook}/test": {S},
    "POST /v1/webhooks/{webhook}/rotate": {S},
    "GET /v1/webhooks/{webhook}/deliveries": {S},
    "POST /v1/webhooks/{webhook}/replay": {S},
    "GET /v1/events": {S},
    "POST /v1/users/{sub:path}/logout": {H, S},
    "GET /v1/shows/{show}/report": {H, S},
    "GET /v1/shows/{show}/audit-log": {H, S},
}
GUESTS_TOO = {"GET /v1/shows/{show}/offers"}  # what everybody may watch, without a token as well
OPEN = {
    "POST /v1/payments/{provider}/webhook",
    "POST /v1/session",
    "DELETE /v1/session",
    "POST /v1/guests",
}


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


def test_every_call_is_in_the_matrix() -> None:
    """A new call must say who may use it before it is tested."""
    assert {f"{one.method} {one.path}" for one in ENDPOINTS} == WHO.keys() | OPEN


async def test_every_call_is_refused_to_every_role_that_may_not(stage: Stage, show: ShowId) -> None:
    """403 before a field or a state is looked at; 401 without a token; allowed roles get past."""
    name = await begin(stage, show)
    ids = ("order", "hold", "shipment", "return", "webhook")
    unknown = {name: str(uuid4()) for name in ids}
    places = {"show": show, "offer": name, "sku": "lamp", "sub": "ada", **unknown}
    for call, allowed in WHO.items():
        method, _, template = call.partition(" ")
        path = template.replace("{sub:path}", "ada").format_map(places)
        nobody = await stage.client.request(method, path)
        assert nobody.status_code == (200 if call in GUESTS_TOO else 401), call
        assert call in GUESTS_TOO or nobody.headers["www-authenticate"].startswith("Bearer")
        for role in Role:
            body = {"unexpected": 1} if method != "GET" else None
            answer = await stage.call(method, path, body, role=role, shows=[show, "*"])
            refused = answer.status_code == 403
            assert refused == (role not in allowed), (call, role, answer.text)
            if refused:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == 103


async def test_token_of_another_show_opens_nothing(stage: Stage, show: ShowId) -> None:
    """A host of another show is refused by name, and learns nothing about an offer."""
    name = await begin(stage, show)
    foreign: dict[str, Any] = {"shows": ["elsewhere"]}

    for call in WHO:
        method, _, template = call.partition(" ")
        if "{show}" in template:
            answer = await stage.call(method, template.format(show=show), **foreign)
            assert answer.status_code == 403, call
        if "{offer}" in template:
            known = await stage.call(method, template.format(offer=name), **foreign)
            unknown = await stage.call(method, template.format(offer="nope"), **foreign)
            assert (known.status_code, unknown.status_code) == (404, 404), call
            assert known.text.replace(name, "nope") == unknown.text


async def test_catalogue_is_written_with_a_token_for_all_shows_only(stage: Stage) -> None:
    """A host of one show reads products and changes none; a service may."""
    one_show: dict[str, Any] = {"shows": ["elsewhere"]}

    refused = await stage.call("POST", "/v1/products", LAMP, **one_show)
    allowed = await stage.call("POST", "/v1/products", LAMP, role=S, **one_show)

    assert (refused.status_code, allowed.status_code) == (403, 201)
    assert (await stage.call("GET", "/v1/products", **one_show)).status_code == 200


async def test_show_is_created_under_a_name_that_the_token_covers(stage: Stage) -> None:
    """Neither another's name nor one that the server would choose."""
    body = {"title": "Mine", "currency": "EUR"}

    other = await stage.call("POST", "/v1/shows", body | {"id": "theirs"}, shows=["mine"])
    chosen = await stage.call("POST", "/v1/shows", body, shows=["mine"])
    own = await stage.call("POST", "/v1/shows", body | {"id": "mine"}, shows=["mine"])
    any_name = await stage.call("POST", "/v1/shows", body)

    assert (other.status_code, chosen.status_code) == (403, 403)
    assert (own.status_code, any_name.status_code) == (201, 201)
    assert any_name.json()["id"].startswith("show-")


OFFERS = "/v1/shows/{show}/offers"
BAD: list[tuple[str, str, Any, str]] = [
    ("POST", OFFERS, offer(quantity=0), "quantity"),
    ("POST", OFFERS, offer(quantity=-1), "quantity"),
    ("POST", OFFERS, offer(quantity=1.5), "quantity"),
    ("POST", OFFERS, offer(quantity="1"), "quantity"),
    ("POST", OFFERS, offer(quantity=True), "quantity"),
    ("POST", OFFERS, offer(quantity=10**9), "quantity"),
    ("POST", OFFERS, offer(quantity=10**400), "quantity"),
    ("POST", OFFERS, offer(quantity=None), "quantity"),
    ("POST", OFFERS, offer(price_minor=-1), "price_minor"),
    ("POST", OFFERS, offer(price_minor=19.99), "price_minor"),
    ("POST", OFFERS, offer(price_minor=10**12 + 1), "price_minor"),
    ("POST", OFFERS, offer(per_buyer_limit=0), "per_buyer_limit"),
    ("POST", OFFERS, offer(hold_seconds=4), "hold_seconds"),
    ("POST", OFFERS, offer(hold_seconds=86_401), "hold_seconds"),
    ("POST", OFFERS, offer(mode="auction"), "mode"),
    ("POST", OFFERS, offer(countdown_seconds=301), "countdown_seconds"),
    ("POST", OFFERS, offer(duration_seconds=0), "duration_seconds"),
    ("POST", OFFERS, offer(waitlist="yes"), "waitlist"),
    ("POST", OFFERS, offer(sku="a b"), "sku"),
    ("POST", OFFERS, offer(sku="lamp\n"), "sku"),
    ("POST", OFFERS, offer(id="x" * 65), "id"),
    ("POST", OFFERS, offer(id=""), "id"),
    ("POST", OFFERS, offer(price=1), "price"),
    ("POST", OFFERS, {"sku": "lamp"}, "price_minor"),
    ("POST", OFFERS, [], ""),
    ("POST", "/v1/products", LAMP | {"currency": "eur"}, "currency"),
    ("POST", "/v1/products", LAMP | {"on_hand": -1}, "on_hand"),
    ("POST", "/v1/products", LAMP | {"title": ""}, "title"),
    ("POST", "/v1/products", LAMP | {"title": "x" * 201}, "title"),
    ("POST", "/v1/products", LAMP | {"title": "a\u0000b"}, "title"),
    ("POST", "/v1/products", LAMP | {"description": "a\u0000b"}, "description"),
    ("POST", "/v1/products", LAMP | {"image_url": "javascript:alert(1)"}, "image_url"),
    ("POST", "/v1/stock/adjustments", {"sku": "lamp", "delta": 1, "reason": "x"}, "key"),
    ("POST", "/v1/shows/{show}/pins", {"skus": ["a", "b", "c", "d"]}, "skus"),
    ("POST", "/v1/shows/{show}/pins", {"skus": ["lamp", 7]}, "skus[1]"),
    ("PUT", "/v1/shows/{show}/run-order", {"skus": ["lamp"] * 101}, "skus"),
    ("POST", "/v1/shows/{show}/announcements", {"text": "x" * 501}, "text"),
    ("POST", "/v1/shows/{show}/announcements", {"text": "x", "until": -1}, "until"),
    ("PATCH", "/v1/shows/{show}", {"frozen": 1}, "frozen"),
    ("PATCH", "/v1/shows/{show}", {"slow_mode_seconds": 3_601}, "slow_mode_seconds"),
    ("PATCH", "/v1/shows/{show}", {"playback_url": "file:///etc/passwd"}, "playback_url"),
    ("PATCH", "/v1/shows/{show}", {"status": "live"}, "status"),
    ("POST", "/v1/shows/{show}/moderation", {"action": "mute"}, "sub"),
    ("POST", "/v1/shows/{show}/moderation", {"action": "pin", "sub": "ada"}, "message"),
    (
        "POST",
        "/v1/shows/{show}/moderation",
        {"action": "unban", "sub": "a", "seconds": 5},
        "seconds",
    ),
    ("POST", "/v1/shows/{show}/moderation", {"action": "disconnect", "sub": "ada"}, "action"),
    ("GET", "/v1/products?limit=0", None, "limit"),
    ("GET", "/v1/products?limit=201", None, "limit"),
    ("GET", "/v1/products?limit=٣", None, "limit"),
    ("GET", "/v1/products?cursor=%00", None, "cursor"),
    ("GET", "/v1/products?colour=red", None, "colour"),
    ("GET", "/v1/orders?show=a%20b", None, "show"),
    ("GET", "/v1/shows/{show}/audit-log?cursor=YWJj", None, "cursor"),
]


async def test_bad_input_is_refused_and_the_field_is_named(stage: Stage, show: ShowId) -> None:
    """400 with the field's path; nothing of it reaches the ledger."""
    await begin(stage, show)
    before = await stage.pool.fetchval("SELECT count(*) FROM host_actions")

    for method, template, body, field in BAD:
        answer = await stage.call(method, template.format(show=show), body)
        assert answer.status_code == 400, (template, body, answer.text)
        problem = answer.json()
        assert (problem["code"], problem.get("field", "")) == (1400, field), (body, problem)

    assert await stage.pool.fetchval("SELECT count(*) FROM host_actions") == before
    assert await stage.pool.fetchval("SELECT count(*) FROM offers") == 1
    assert await stage.pool.fetchval("SELECT count(*) FROM products") == 1


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"title": "\\ud800"}', "application/json", 400),
        (b"[" * 5_000, "application/json", 400),
        (b'{"a": ' * 9_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"title=x", "application/x-www-form-urlencoded", 415),
        (b" " * (BODY_BYTES_MAX + 1), "application/json", 413),
    ],
    ids=["cut", "not-utf8", "surrogate", "nest", "deep", "plain", "form", "huge"],
)
async def test_body_that_cannot_be_read_is_a_problem(
    stage: Stage, content: bytes, kind: str, status: int
) -> None:
    """Whatever arrives, the answer is a problem document and no trace of our code."""
    token = stage.token(Role.HOST, ["*"])
    headers = {"authorization": f"Bearer {token}", "content-type": kind}

    answer = await stage.client.post("/v1/shows", content=content, headers=headers)

    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert "Traceback" not in answer.text


async def test_longest_body_is_still_read(stage: Stage) -> None:
    """Exactly 64 KiB pass; the byte after them was refused above."""
    padded = b'{"title": "t", "currency": "EUR"}'.ljust(BODY_BYTES_MAX)
    headers = {
        "authorization": f"Bearer {stage.token(Role.HOST, ['*'])}",
        "content-type": "application/json; charset=utf-8",
    }

    answer = await stage.client.post("/v1/shows", content=padded, headers=headers)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "path",
    [
        "/v1/shows/nope",
        "/v1/shows/a%20b",
        "/v1/shows/a%7Bb",
        "/v1/shows/%0D%0Ax",
        "/v1/offers/nope",
        "/v1/products/nope",
        "/v1/orders/nope",
        "/v1/orders/6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10",
    ],
)
async def test_unknown_things_are_not_found(stage: Stage, path: str) -> None:
    """404 in the same form, whether the name is possible or not."""
    answer = await stage.call("GET", path)

    assert (answer.status_code, answer.json()["code"]) == (404, 1404)


async def test_idempotency_key_out_of_bounds_is_refused(stage: Stage) -> None:
    """255 characters are a key, 256 are not."""
    for length, status in ((255, 201), (256, 400)):
        body = {"title": "t", "currency": "EUR"}
        headers = {"idempotency-key": "k" * length}
        assert (await stage.call("POST", "/v1/shows", body, headers=headers)).status_code == status


async def test_expired_and_malformed_authorization_is_unauthorised(stage: Stage) -> None:
    """401 with a challenge, whatever stands in the header."""
    for value in ("Bearer", "Bearer x.y.z", "Basic YTpi", "bearer  "):
        answer = await stage.client.get("/v1/products", headers={"authorization": value})
        assert (answer.status_code, answer.json()["code"]) == (401, 101), value
