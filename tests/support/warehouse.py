"""A warehouse as a shop has one: it knows the HTTP API and what webhooks tell it, and nothing else.

Always: its book is its own arithmetic on what it was told and what it did; no state, sum or count
in it is copied from an answer. What it has heard once it does not do again, and each of its calls
carries a key made of the event behind it, so a call repeated after a lost answer is done once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.answers import Json

TYPES = ("order.*", "stock.adjusted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What its people do with an order. `some`: only the first unit leaves; `bounce`: the first
    parcel comes back and leaves once more; `goodwill_minor`: paid back after delivery, -1 for all.
    """

    cancel: bool = False
    parcels: int = 1
    some: bool = False
    bounce: bool = False
    goodwill_minor: int = 0


@dataclass(slots=True)
class Entry:
    """An order in the book. Counters are units by line; `due`: what must be heard of it."""

    plan: Plan
    qty: Counter[int]
    price_minor: dict[int, int]
    sku: dict[int, str]
    label: str
    sent: Counter[int] = field(default_factory=Counter)
    bounced: Counter[int] = field(default_factory=Counter)
    back: Counter[int] = field(default_factory=Counter)
    under_way: int = 0
    refunded_minor: int = 0
    cancelled: bool = False
    told: Counter[str] = field(default_factory=Counter)
    due: Counter[str] = field(default_factory=Counter)

    @property
    def total_minor(self) -> int:
        return sum(qty * self.price_minor[line] for line, qty in self.qty.items())

    @property
    def state(self) -> str:
        if self.cancelled:
            return "cancelled"
        if not self.refunded_minor:
            return "paid"
        return "refunded" if self.refunded_minor == self.total_minor else "partially_refunded"

    @property
    def fulfilment(self) -> str:
        if not self.sent:
            return "unfulfilled"
        if self.back == self.qty:
            return "returned"
        if (self.sent - self.bounced).total() < self.qty.total():
            return "partial"
        return "shipped" if self.under_way else "delivered"

    def line(self, sku: str) -> int:
        return next(line for line, its in self.sku.items() if its == sku)


class Warehouse:
    """`decide`: the plan for an order, told as webhooks tell it. `heard`: events by their id, in
    the order of their first arrival."""

    def __init__(self, http: httpx.AsyncClient, decide: Callable[[Json], Plan]) -> None:
        self.http, self.decide = http, decide
        self.webhook = ""
        self.book: dict[str, Entry] = {}
        self.shelf: Counter[str] = Counter()
        self.heard: dict[str, Json] = {}
        self.repeats = self.forged = 0
        self.away = 0  # calls to come that it answers with 500
        self._at_hand = 0  # events that were heard and not worked on to the end
        self.changed = asyncio.Condition()
        self._verifier: Webhook | None = None
        self._behind: asyncio.Queue[tuple[str, Json]] = asyncio.Queue()

    # Hearing: verify, note, answer; the work waits behind.

    async def listen(self, url: str) -> None:
        """Have events sent to `url`, with the contacts that parcels need."""
        body = {"url": url, "types": TYPES, "contact": True}
        key = {"Idempotency-Key": f"warehouse at {url}"}
        made = await self.http.post("/v1/webhooks", json=body, headers=key)
        assert made.status_code == 201, made.text
        self.webhook = made.json()["webhook"]
        self._verifier = Webhook(made.json()["secret"])

    async def take(self, request: web.Request, body: bytes) -> web.Response:
        assert self._verifier is not None
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            self._verifier.verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return web.Response(status=401)
        if self.away:
            self.away -= 1
            return web.Response(status=500)
        id, event = headers["webhook-id"], orjson.loads(body)
        async with self.changed:
            if id in self.heard:
                self.repeats += 1
            else:
                self.heard[id] = event
                self._at_hand += 1
                self._behind.put_nowait((id, event))
            self.changed.notify_all()
        return web.Response(status=204)

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(condition)

    def rests(self) -> bool:
        """Nothing is left to do, and all that must follow from its work was heard."""
        done = all(entry.told >= entry.due for entry in self.book.values())
        return done and not self._at_hand and not any(e.under_way for e in self.book.values())

    # Working: one event after the other.

    async def work(self) -> None:
        while True:
            id, event = await self._behind.get()
            await self._do(id, event["type"], event["data"])
            async with self.changed:
                self._at_hand -= 1
                self.changed.notify_all()

    async def _do(self, id: str, type: str, data: Json) -> None:
        if type == "stock.adjusted":
            self.shelf[data["sku"]] += data["delta"] if data["kind"] == "returned" else 0
            return
        if type == "order.paid":
            self.book[data["order"]] = self._open(data)
        entry = self.book.get(data["order"])
        if entry is None:  # `order.confirmed`: its money is not here yet
            return
        entry.told[type] += 1
        match type:
            case "order.paid" if entry.plan.cancel:
                await self._cancel(id, data["order"], entry)
            case "order.paid":
                await self._pack(id, data["order"], entry)
            case "order.shipped":
                await self._carry(id, data, entry)
            case "order.delivered" if not entry.under_way and entry.plan.goodwill_minor:
                await self._be_kind(id, data["order"], entry)
            case "order.return_requested" | "order.return_updated":
                await self._judge(id, data, entry)

    def _open(self, data: Json) -> Entry:
        items = data["items"]
        return Entry(
            plan=self.decide(data),
            qty=Counter({item["line"]: item["qty"] for item in items}),
            price_minor={item["line"]: item["price_minor"] for item in items},
            sku={item["line"]: item["sku"] for item in items},
            label=f"{data['contact']['name']}, {data['contact']['address']['line1']}",
            due=Counter({"order.paid": 1}),
        )

    async def _call(self, method: str, path: str, key: str, **body: object) -> Json:
        headers = {"Idempotency-Key": key}
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 200, (method, path, body, answer.text)
        found: Json = answer.json()
        return found

    async def _cancel(self, id: str, order: str, entry: Entry) -> None:
        await self._call("POST", f"/v1/orders/{order}/cancel", id, reason="damp", restock=True)
        entry.cancelled, entry.refunded_minor = True, entry.total_minor
        entry.due += Counter({"order.cancelled": 1, "order.refunded": 1})

    async def _pack(self, id: str, order: str, entry: Entry) -> None:
        units = list(entry.qty.elements())
        first = units[:1] if entry.plan.some or entry.plan.parcels == 2 else units
        await self._ship(f"{id}-1", order, entry, Counter(first))
        if entry.plan.parcels == 2:
            await self._ship(f"{id}-2", order, entry, entry.qty - Counter(first))

    async def _ship(self, key: str, order: str, entry: Entry, units: Counter[int]) -> None:
        items = [{"line": line, "qty": qty} for line, qty in units.items()]
        parcel = {"items": items, "carrier": "Parcels", "tracking_number": key}
        await self._call("POST", f"/v1/orders/{order}/shipments", key, **parcel)
        entry.sent += units
        entry.under_way += 1
        entry.due += Counter({"order.shipped": 1})

    async def _carry(self, id: str, data: Json, entry: Entry) -> None:
        """The carrier's part: the parcel arrives, or comes back."""
        (parcel,) = [one for one in data["shipments"] if one["shipment"] == data["shipment"]]
        units = Counter({item["line"]: item["qty"] for item in parcel["items"]})
        bounces = entry.plan.bounce and not entry.bounced
        status = "returned_to_sender" if bounces else "delivered"
        path = f"/v1/orders/{data['order']}/shipments/{parcel['shipment']}"
        await self._call("PATCH", path, id, status=status)
        entry.under_way -= 1
        if bounces:
            entry.bounced += units
            await self._ship(f"{id}-again", data["order"], entry, units)
        else:
            entry.due += Counter({"order.delivered": 1})

    async def _be_kind(self, id: str, order: str, entry: Entry) -> None:
        wish, left = entry.plan.goodwill_minor, entry.total_minor - entry.refunded_minor
        part = {} if wish < 0 else {"amount_minor": wish}
        await self._call("POST", f"/v1/orders/{order}/refund", id, reason="goodwill", **part)
        self._pay_back(entry, left if wish < 0 else wish)

    async def _judge(self, id: str, data: Json, entry: Entry) -> None:
        """A return: approved, refused or received, by what the buyer says of it."""
        (found,) = [one for one in data["returns"] if one["return"] == data["return"]]
        path = f"/v1/orders/{data['order']}/returns/{data['return']}"
        worth = sum(one["qty"] * entry.price_minor[one["line"]] for one in found["items"])
        match found["state"], found["reason"]:
            case "requested", "too late":
                await self._call("PATCH", path, id, state="refused")
            case "requested", "broken":
                half = {"refund_minor": worth // 2, "restock": False}
                await self._call("PATCH", path, id, state="received", **half)
                self._receive(entry, found["items"], worth // 2, restock=False)
            case "requested", _:
                await self._call("PATCH", path, id, state="approved")
            case "approved", _:
                await self._call("PATCH", path, id, state="received", restock=True)
                self._receive(entry, found["items"], worth, restock=True)
            case _:  # its own decision, come back as an event
                return
        entry.due += Counter({"order.return_updated": 1})

    def _receive(self, entry: Entry, items: list[Json], minor: int, *, restock: bool) -> None:
        entry.back += Counter({one["line"]: one["qty"] for one in items})
        self._pay_back(entry, minor)

    def _pay_back(self, entry: Entry, minor: int) -> None:
        entry.refunded_minor += minor
        entry.due += Counter({"order.refunded": 1})
