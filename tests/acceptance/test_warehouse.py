"""A warehouse ships, delivers, takes back and refunds a whole sale; its book is the ledger's.

Method: `live serve` as it is; buyers on sockets; a warehouse (tests/support/warehouse.py) that has
a service's token and a receiver for webhooks, and never reads an order but at the end, to compare.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, on_air, until
from tests.support.answers import Json
from tests.support.receiver import Receiver, receiving
from tests.support.servers import scratch_directory
from tests.support.warehouse import Entry, Plan, Warehouse
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(180)

ROUNDS = 3
PRICES = (900, 1_250, 333)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What somebody buys (units by offer), what the warehouse does, and what they say of it."""

    cart: tuple[int, ...]
    plan: Plan = field(default_factory=Plan)
    complaint: str = ""


STORIES = (
    Story(cart=(1,)),
    Story(cart=(0, 2), plan=Plan(parcels=2)),
    Story(cart=(2, 0, 1), plan=Plan(parcels=2), complaint="does not fit"),
    Story(cart=(0, 0, 1), complaint="does not fit"),
    Story(cart=(0, 3), plan=Plan(some=True)),
    Story(cart=(1,), plan=Plan(cancel=True)),
    Story(cart=(1, 1, 1), plan=Plan(cancel=True)),
    Story(cart=(1,), plan=Plan(bounce=True)),
    Story(cart=(2,), plan=Plan(goodwill_minor=100)),
    Story(cart=(0, 2), complaint="broken"),
    Story(cart=(0, 0, 1), complaint="too late"),
    Story(cart=(1, 1), plan=Plan(goodwill_minor=-1)),
    Story(cart=(1, 2), complaint="withdrawn"),
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """One that may call receivers on this machine."""
    found = Service(scratch_directory(), environment={"LIVE_WEBHOOK_DEVELOPMENT": "on"})
    found.start()
    yield found
    found.stop()


@pytest.fixture
async def stage(service: Service) -> AsyncIterator[Stage]:
    async with on_air(service, f"s{uuid4().hex[:10]}") as found:
        yield found


@dataclass(slots=True)
class Customer:
    """Somebody with one order, who looks into their own list as a page does."""

    number: int
    story: Story
    wire: Wire
    http: httpx.AsyncClient
    order: str = ""

    async def buy(self, offers: list[str]) -> None:
        cart = zip(offers, self.story.cart, strict=False)
        items = [{"offer": offer, "qty": qty} for offer, qty in cart if qty]
        key = str(uuid4())
        held = await self.wire.rpc("offer.hold", {"items": items, "key": key})
        assert held["outcome"] == "held", held
        contact = {"name": str(self.number), "address": f"{self.number} Quay\nHarbour"}
        how = {"provider": "sandbox", "token": "tok_approve", "contact": contact}
        paid = await self.wire.rpc("hold.checkout", {"hold": key, "key": str(uuid4()), **how})
        assert paid["outcome"] in ("confirmed", "processing"), paid
        async with asyncio.timeout(20):
            told = await self.wire.event("order.confirmed")
        self.order = told["order"]["order"]

    async def complain(self) -> None:
        """Once all has arrived: one unit of the first line goes back, or the whole contract."""
        if not self.story.complaint:
            return
        await until(self.has_arrived, seconds=40)
        if self.story.complaint == "withdrawn":
            told = await self.wire.rpc("order.withdraw", {"order": self.order, "confirm": True})
            assert told["refund_later_minor"] > 0, told
            return
        body = {"items": [{"line": 1, "qty": 1}], "reason": self.story.complaint}
        key = {"Idempotency-Key": uuid4().hex}
        answer = await self.http.post(f"/v1/orders/{self.order}/returns", json=body, headers=key)
        assert answer.status_code == 200, answer.text

    def was_heard(self, warehouse: Warehouse) -> bool:
        """Both that they bought and what they complained of."""
        entry = warehouse.book.get(self.order)
        back = entry is not None and entry.told["order.return_requested"] > 0
        return back if self.story.complaint else entry is not None

    async def has_arrived(self) -> bool:
        (mine,) = (await self.http.get("/v1/orders")).json()["items"]
        return bool(mine["fulfilment"] == "delivered")


@asynccontextmanager
async def customer(stage: Stage, number: int, story: Story) -> AsyncIterator[Customer]:
    sub = f"v{uuid4().hex[:10]}"
    token = stage.service.token(Role.VIEWER, sub, stage.show)
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(
            base_url=stage.service.url, headers=headers, trust_env=False, timeout=20
        ) as http,
        await stage.viewer(sub) as wire,
    ):
        yield Customer(number, story, wire, http)


@asynccontextmanager
async def warehouse_at(service: Service, receiver: Receiver) -> AsyncIterator[Warehouse]:
    """It works as long as the block goes on; a fault in its work fails the block."""
    headers = {"authorization": f"Bearer {service.token(Role.SERVICE, 'warehouse')}"}
    async with (
        httpx.AsyncClient(
            base_url=service.url, headers=headers, trust_env=False, timeout=20
        ) as http,
        asyncio.TaskGroup() as group,
    ):
        found = Warehouse(http, lambda order: story_of(order).plan)
        receiver.answer = found.take
        await found.listen(receiver.url)
        working = group.create_task(found.work())
        yield found
        working.cancel()


def story_of(order: Json) -> Story:
    return STORIES[int(order["contact"]["name"]) % len(STORIES)]


async def pages(http: httpx.AsyncClient, path: str, after: str, **query: str | int) -> list[Json]:
    """All that a list has, page by page; `after` names the parameter that goes on."""
    found: list[Json] = []
    while True:
        answer = await http.get(path, params=query | {"limit": 7})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page.get("items", page.get("events", []))
        if not page.get("next", page.get("more")):
            return found
        query[after] = page["cursor"]


def as_ledger(order: Json) -> dict[str, object]:
    """What the ledger says of an order, in the words of the book."""
    out = [parcel for parcel in order["shipments"] if parcel["status"] != "returned_to_sender"]
    back = [one for one in order["returns"] if one["state"] == "received"]
    return {
        "state": order["state"],
        "fulfilment": order["fulfilment"],
        "total_minor": order["total_minor"],
        "refunded_minor": order["refunded_minor"],
        "skus": {item["line"]: (item["sku"], item["qty"]) for item in order["items"]},
        "out": units(out),
        "back": units(back),
    }


def units(parts: list[Json]) -> dict[int, int]:
    found: dict[int, int] = {}
    for item in (item for part in parts for item in part["items"]):
        found[item["line"]] = found.get(item["line"], 0) + item["qty"]
    return found


def as_book(entry: Entry) -> dict[str, object]:
    return {
        "state": entry.state,
        "fulfilment": entry.fulfilment,
        "total_minor": entry.total_minor,
        "refunded_minor": entry.refunded_minor,
        "skus": {line: (entry.sku[line], qty) for line, qty in entry.qty.items()},
        "out": dict(entry.sent - entry.bounced),
        "back": dict(entry.back),
    }


async def nobody_pays(stage: Stage, offer: str, quick: str) -> None:
    """A card that is declined, and a hold that its buyer forgets: neither is an order."""
    async with await stage.viewer() as poor, await stage.viewer() as slow:
        held = await poor.hold(offer)
        assert (await poor.checkout(held["hold"], "tok_decline"))["outcome"] == "declined"
        await poor.rpc("hold.release", {"hold": held["hold"]})
        await slow.hold(quick)
        async with asyncio.timeout(30):
            await slow.event("hold.expired")


async def compare(service: Service, warehouse: Warehouse, since: int) -> None:
    """Order by order, in sums, on the shelf; every event was heard, each order's in its order."""
    events = await pages(warehouse.http, "/v1/events", "after", types="order.*,stock.adjusted")
    listed = [event["id"] for event in events]
    await warehouse.until(lambda: warehouse.heard.keys() >= set(listed))  # 5 s after a failure
    assert warehouse.heard.keys() == set(listed)
    ledger = {
        order["order"]: order
        for order in await pages(warehouse.http, "/v1/orders", "cursor", updated_since=since)
    }
    assert {id: as_ledger(order) for id, order in ledger.items()} == {
        id: as_book(entry) for id, entry in warehouse.book.items()
    }
    for name in ("total_minor", "refunded_minor"):
        kept = sum(getattr(entry, name) for entry in warehouse.book.values())
        assert kept == sum(order[name] for order in ledger.values()) > 0
    for id in ledger:
        told = [event["id"] for event in events if event["data"].get("order") == id]
        heard = [one for one, event in warehouse.heard.items() if event["data"].get("order") == id]
        assert heard == told


async def test_warehouse_keeps_the_same_book(service: Service, stage: Stage) -> None:
    """From the API and webhooks alone; and repeats, a forged call and an outage change nothing."""
    since = int(time.time() * 1_000)
    async with receiving() as receiver, warehouse_at(service, receiver) as warehouse:
        # It listens before there is anything to hear, and so hears all there is.
        offers = [await stage.offer(60, price_minor=price, per_buyer_limit=4) for price in PRICES]
        quick = await stage.offer(1, hold_seconds=5)
        async with customers_of(stage) as customers:
            warehouse.away = 2
            await asyncio.gather(
                nobody_pays(stage, offers[0], quick), *(one.buy(offers) for one in customers)
            )
            await asyncio.gather(*(one.complain() for one in customers))
            await warehouse.until(
                lambda: all(one.was_heard(warehouse) for one in customers) and warehouse.rests()
            )
        await compare(service, warehouse, since)

        forged = {**receiver.got[0].headers, "webhook-signature": "v1,AAAA"}
        async with httpx.AsyncClient(trust_env=False) as stranger:
            refused = await stranger.post(
                receiver.url, content=receiver.got[0].body, headers=forged
            )
        before = warehouse.repeats
        span = {"from": since, "to": since + 3_600_000, "types": ["order.paid"]}
        path = f"/v1/webhooks/{warehouse.webhook}/replay"
        assert (await warehouse.http.post(path, json=span)).status_code == 202
        await warehouse.until(lambda: warehouse.repeats >= before + len(warehouse.book))
        await compare(service, warehouse, since)

    assert (refused.status_code, warehouse.forged) == (401, 1)
    done = await asyncio.to_thread(service.live, "audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"] is True


@asynccontextmanager
async def customers_of(stage: Stage) -> AsyncIterator[list[Customer]]:
    """A customer for each story, some times over."""
    async with AsyncExitStack() as stack:
        numbered = enumerate(STORIES * ROUNDS)
        yield [
            await stack.enter_async_context(customer(stage, number, story))
            for number, story in numbered
        ]
