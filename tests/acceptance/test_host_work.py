"""What a host does on a whole service, seen by buyers, and what the report says afterwards."""

import asyncio

import pytest

from tests.acceptance.conftest import Stage, until

pytestmark = pytest.mark.timeout(60)


async def test_buyer_of_an_offer_marked_sold_out_reads_sold_out(stage: Stage) -> None:
    """Although units are left; the host who resumes it sells them."""
    offer = await stage.offer(3)
    async with await stage.viewer() as early, await stage.viewer() as late:
        held = await early.hold(offer)
        marked = (await stage.post(f"/v1/offers/{offer}/sold-out")).json()
        async with asyncio.timeout(60):
            heard = await late.event("offer.sold_out")
        refused = await late.hold(offer)
        paid = await early.checkout(held["hold"])
        resumed = (await stage.post(f"/v1/offers/{offer}/resume")).json()
        async with asyncio.timeout(60):
            await late.event("offer.opened")
        again = await late.hold(offer)

    assert (marked["phase"], marked["sold_out"], marked["left"]) == ("paused", True, 2)
    assert (heard["offer"]["id"], heard["offer"]["sold_out"]) == (offer, True)
    assert (refused["outcome"], refused["left"]) == ("sold_out", 0)
    assert paid["outcome"] == "confirmed"
    assert (resumed["phase"], resumed["sold_out"], again["outcome"]) == ("open", False, "held")


async def test_edited_draft_sells_at_its_new_terms(stage: Stage) -> None:
    """Price and units of the last edit count; a draft is no business of viewers."""
    offer = await stage.offer(3, opened=False)
    changes = {"price_minor": 450, "quantity": 1, "per_buyer_limit": 1}
    edited = await stage.http.patch(f"/v1/offers/{offer}", json=changes)
    assert edited.status_code == 200, edited.text
    async with await stage.viewer() as viewer:
        assert viewer.hello["data"]["show"]["offers"] == []
        await stage.post(f"/v1/offers/{offer}/open")
        held = await viewer.hold(offer)
        assert (held["outcome"], held["price_minor"], held["left"]) == ("held", 450, 0)
    refused = await stage.http.patch(f"/v1/offers/{offer}", json=changes)
    nothing = await stage.http.patch(f"/v1/offers/{offer}", json={})
    assert (refused.status_code, nothing.status_code) == (409, 400)


async def test_announcement_goes_when_its_time_is_over(stage: Stage) -> None:
    """Nobody has to take it down; who joins later does not see it."""
    async with await stage.viewer() as viewer:
        now = (await viewer.rpc("time.now", {}))["time"]
        body: dict[str, object] = {"text": "two seconds!", "until": now + 2_000}
        await stage.post(f"/v1/shows/{stage.show}/announcements", body)
        async with asyncio.timeout(60):
            assert (await viewer.event("announcement"))["until"] == now + 2_000
            assert (await viewer.event("announcement"))["text"] == ""
    async with await stage.viewer() as late:
        assert late.hello["data"]["show"]["announcement"] is None


async def test_report_agrees_with_the_orders(stage: Stage) -> None:
    """Holds, conversion, average order and revenue, added up again from the list of orders."""
    offer = await stage.offer(10)
    async with await stage.viewer() as one, await stage.viewer() as two, await stage.viewer() as no:
        for viewer, qty in ((one, 2), (two, 1)):
            held = await viewer.hold(offer, qty)
            assert (await viewer.checkout(held["hold"]))["outcome"] == "confirmed"
        given_back = await no.hold(offer)
        await no.rpc("hold.release", {"hold": given_back["hold"]})

    async def listed() -> list[dict[str, object]]:
        found = (await stage.http.get(f"/v1/orders?show={stage.show}")).json()
        items: list[dict[str, object]] = found["items"]
        return items

    async def captured() -> bool:
        return {order["state"] for order in await listed()} == {"paid"}

    await until(captured)
    biggest = max(await listed(), key=lambda order: int(str(order["total_minor"])))
    refund: dict[str, object] = {"amount_minor": 300, "reason": "scratched"}
    answer = await stage.post(f"/v1/orders/{biggest['order']}/refund", refund)
    assert answer.status_code == 200, answer.text

    async def refunded() -> bool:
        return sum(int(str(order["refunded_minor"])) for order in await listed()) == 300

    await until(refunded)
    orders = await listed()
    revenue = sum(int(str(one["total_minor"])) - int(str(one["refunded_minor"])) for one in orders)

    async def counted() -> bool:
        found = (await stage.http.get(f"/v1/shows/{stage.show}/report")).json()
        return bool(found["holds"] == 3)  # the last release is settled

    await until(counted)
    report = (await stage.http.get(f"/v1/shows/{stage.show}/report")).json()
    assert (report["orders"], report["revenue_minor"]) == (len(orders), revenue) == (2, 2_400)
    assert report["conversion"] == round(2 / 3, 4)
    assert report["average_order_minor"] == revenue // len(orders)
    (of_offer,) = report["offers"]
    assert (of_offer["orders"], of_offer["sold"], of_offer["revenue_minor"]) == (2, 3, 2_700)
