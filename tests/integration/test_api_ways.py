"""Ways to pay, prices they can charge, paid invoices and refunds, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from live.domain.caller import Role
from live.domain.ids import ShowId
from live.hosting.ways import Till
from live.ledger.db.pool import Pool
from live.payments.providers.invoice import Invoice
from live.payments.providers.stripe import Stripe
from tests.integration.test_api_shows import begin, offer
from tests.support.answers import Json
from tests.support.api_kit import Stage, open_stage

STRIPE = Stripe("sk_of_nobody", webhook_secrets=("whsec_x",), api_base="http://127.0.0.1:9")


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    """A shop that takes the sandbox' cards and invoices."""
    async with open_stage(pool, redis_url) as opened:
        yield opened


@pytest.fixture
async def stripe_only(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url, tills={"stripe": STRIPE}) as opened:
        yield opened


async def test_ways_of_show_and_offer_are_kept_and_told(stage: Stage, show: ShowId) -> None:
    """What a host names is in both objects, for viewers, too; an empty list takes it away."""
    name = await begin(stage, show)
    path = f"/v1/shows/{show}"
    cards: dict[str, Any] = {"providers": ["sandbox"]}

    made = await stage.call("POST", f"{path}/offers", offer(id="second", **cards))
    patched = await stage.call("PATCH", path, cards)
    edited = await stage.call("PATCH", f"/v1/offers/{name}", cards)
    await stage.call("POST", f"/v1/offers/{name}/open")

    assert made.json()["providers"] == edited.json()["providers"] == ["sandbox"]
    assert patched.json()["providers"] == ["sandbox"]
    events = {event["type"]: event for event in await stage.published(show)}
    assert events["show.updated"]["show"]["providers"] == ["sandbox"]
    assert events["offer.opened"]["offer"]["providers"] == ["sandbox"]
    wide = await stage.call("PATCH", path, {"providers": []})
    assert wide.json()["providers"] == []
    other = await stage.call(
        "POST", "/v1/shows", {"id": f"{show}-2", "title": "x", "currency": "EUR"} | cards
    )
    assert other.json()["providers"] == ["sandbox"]


async def test_way_that_the_shop_does_not_take_is_refused(stage: Stage, show: ShowId) -> None:
    """By name, wherever a host may write one."""
    name = await begin(stage, show)
    wrong: dict[str, Any] = {"providers": ["stripe"]}
    answers = [
        await stage.call("PATCH", f"/v1/shows/{show}", wrong),
        await stage.call("PATCH", f"/v1/offers/{name}", wrong),
        await stage.call("POST", f"/v1/shows/{show}/offers", offer(**wrong)),
        await stage.call("POST", "/v1/shows", {"title": "x", "currency": "EUR"} | wrong),
    ]
    assert {answer.status_code for answer in answers} == {400}
    assert all("providers: stripe" in answer.json()["detail"] for answer in answers)


async def test_offer_keeps_a_way_to_be_paid(stage: Stage, show: ShowId) -> None:
    """Show and offer together must leave one."""
    await begin(stage, show)
    await stage.call("PATCH", f"/v1/shows/{show}", {"providers": ["sandbox"]})
    offers = f"/v1/shows/{show}/offers"
    answer = await stage.call("POST", offers, offer(providers=["invoice"]))
    assert (answer.status_code, "in common" in answer.text) == (400, True)


async def test_guests_never_have_invoices_as_their_only_way(stage: Stage, show: ShowId) -> None:
    """However show, offer and guests come together, and in whichever order."""
    name = await begin(stage, show)
    path, made = f"/v1/shows/{show}", f"/v1/offers/{name}"
    invoice: dict[str, Any] = {"providers": ["invoice"]}
    wide: dict[str, Any] = {"providers": []}

    async def patched(where: str, body: dict[str, Any]) -> int:
        answer = await stage.call("PATCH", where, body)
        if answer.status_code == 400:
            assert "invoice is the only way" in answer.json()["detail"]
        return answer.status_code

    bad = await stage.call("POST", f"{path}/offers", offer(id="bad", guests=True, **invoice))
    assert (bad.status_code, bad.json()["field"]) == (400, "guests")
    assert await patched(made, invoice | {"guests": True}) == 400
    assert await patched(made, {"guests": True}) == 200
    assert await patched(made, invoice) == 400
    assert await patched(path, invoice) == 400
    assert await patched(made, {"guests": False}) == 200
    assert await patched(path, invoice) == 200
    assert await patched(made, {"guests": True}) == 400
    late = await stage.call("POST", f"{path}/offers", offer(id="late", guests=True))
    assert late.status_code == 400
    assert await patched(path, wide) == 200
    assert await patched(made, {"guests": True}) == 200


async def begin_in(stage: Stage, show: ShowId, currency: str) -> str:
    """A product and a show that sells in this currency; the answer's note."""
    product = {"sku": "lamp", "title": "Lamp", "price_minor": 1_234, "on_hand": 10}
    made = await stage.call("POST", "/v1/products", product | {"currency": currency})
    assert made.status_code == 201
    await stage.call("POST", "/v1/shows", {"id": show, "title": "x", "currency": currency})
    return str(made.headers.get("live-note", ""))


@pytest.mark.parametrize(
    ("currency", "bad", "good"),
    [("KWD", 1_234, 1_230), ("MGA", 150, 200), ("EUR", 0, 1)],
)
async def test_price_that_no_way_can_charge_is_refused_at_the_offer(
    stripe_only: Stage, show: ShowId, currency: str, bad: int, good: int
) -> None:
    """Where only Stripe can pay, the host is told, and not the buyer."""
    stage, offers = stripe_only, f"/v1/shows/{show}/offers"
    await begin_in(stage, show, currency)
    refused = await stage.call("POST", offers, offer(price_minor=bad))
    taken = await stage.call("POST", offers, offer(id="lamp", price_minor=good))
    edited = await stage.call("PATCH", "/v1/offers/lamp", {"price_minor": bad})
    assert (refused.status_code, taken.status_code, edited.status_code) == (400, 201, 400)
    assert "Stripe" in refused.json()["detail"]


async def test_product_whose_price_cannot_be_charged_is_noted(
    stripe_only: Stage, show: ShowId
) -> None:
    """An offer of it may cost something else, so it is made."""
    assert "Stripe" in await begin_in(stripe_only, show, "KWD")


async def test_other_way_may_charge_what_stripe_cannot(pool: Pool, redis_url: str) -> None:
    """One way is enough; but then it cannot be taken away."""
    show = ShowId(f"s{uuid4().hex[:12]}")
    tills: dict[str, Till] = {"stripe": STRIPE, "invoice": Invoice()}
    async with open_stage(pool, redis_url, tills=tills) as stage:
        assert await begin_in(stage, show, "KWD") == ""
        made = await stage.call(
            "POST", f"/v1/shows/{show}/offers", offer(id="lamp", price_minor=1_234)
        )
        narrowed = await stage.call("PATCH", f"/v1/shows/{show}", {"providers": ["stripe"]})
        edited = await stage.call("PATCH", "/v1/offers/lamp", {"providers": ["stripe"]})
    assert (made.status_code, narrowed.status_code, edited.status_code) == (201, 400, 400)


async def test_items_of_a_refund_need_a_restock_and_are_named_once(
    stage: Stage, show: ShowId
) -> None:
    """What a host cannot mean is refused before anything is looked at."""
    await begin(stage, show)
    order = str(uuid4())
    await stage.pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
           VALUES ($1, $2, $3, 'viewer-1', $4, 'paid', 1900, 'EUR', 1)""",
        order,
        show,
        b"b" * 16,
        uuid4(),
    )
    item, body = {"offer": "lamp", "qty": 1}, Json()
    for body in (
        {"items": [item]},
        {"items": [item, item], "restock": True},
        {"items": [], "restock": True},
    ):
        answer = await stage.call("POST", f"/v1/orders/{order}/refund", {"reason": "x"} | body)
        assert (answer.status_code, answer.json()["field"]) == (400, "items")
    for path, body in (("paid", {"reference": "x"}), ("refund/call-off", {"reason": "x"})):
        foreign = await stage.call("POST", f"/v1/orders/{order}/{path}", body, shows=["other"])
        viewer = await stage.call("POST", f"/v1/orders/{order}/{path}", body, role=Role.VIEWER)
        assert (foreign.status_code, viewer.status_code) == (404, 403)
