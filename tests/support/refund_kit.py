"""Orders that are paid back: asking, working, looking, and what everybody was told."""

import asyncio
import time
from dataclasses import replace
from uuid import uuid4

import orjson

from live.domain.hold import Line
from live.domain.ids import OrderId
from live.domain.order import OrderState, OrderView, RefundState
from live.ledger.audit.repair import repair
from live.ledger.audit.run import AuditReport, audit
from live.ledger.money.refunds import RefundWish
from live.payments.inbox import WebhookInbox
from live.payments.webhooks import signed_headers
from tests.support.answers import Json
from tests.support.sale_kit import SETTLED_SECONDS, Sale, new_key, viewer
from tests.support.sandbox import KEY
from tests.support.shows_kit import HOST


async def paid_order(sale: Sale, *lines: Line) -> OrderId:
    """A captured order of these lines; five units of the first offer by default."""
    ada, hold = viewer(), new_key()
    await sale.try_hold(ada, hold, *(lines or (Line(0, 5),)))
    answer = await sale.pay(ada, hold)
    assert answer.order is not None
    await sale.work_until("captured", "paid")
    return answer.order.order


async def ask(sale: Sale, order: OrderId, what: RefundWish, *, key: str = "") -> OrderView:
    found = await sale.orders.request_refund(
        order, what, request_key=key or uuid4().hex, actor=HOST
    )
    return found.view


async def work(sale: Sale) -> None:
    """Everything that is asked for is tried once, whenever it is due."""
    await sale.pool.execute("UPDATE money_jobs SET due_at = now()")
    while await sale.worker.run_once():
        pass


async def look(sale: Sale, order: OrderId) -> tuple[OrderState, int, list[RefundState]]:
    view = (await sale.orders.get(order)).view
    return view.state, view.refunded_minor, [one.state for one in view.refunds]


async def proof(sale: Sale) -> AuditReport:
    """What the audit says, but of the charges that other tests left in the provider's books."""
    report = await audit(sale.pool, sale.stock, sale.outbox, [sale.provider], wait_seconds=5)
    mine = tuple(line for line in report.findings if "unknown here" not in line)
    return replace(report, findings=mine)


async def mend(sale: Sale) -> list[str]:
    return await repair(
        sale.pool,
        stock=sale.stock,
        outbox=sale.outbox,
        settler=sale.settler,
        work=sale.worker.run_once,
        providers=[sale.provider],
        grace_seconds=0,
    )


async def payment_of(sale: Sale) -> str:
    return str(await sale.pool.fetchval("SELECT id FROM payments WHERE show = $1", sale.show))


async def hear(sale: Sale, kind: str) -> None:
    """A signed event of the provider comes in."""
    payment = await payment_of(sale)
    body = orjson.dumps({"type": kind, "payment": payment, "ref": payment})
    name, now = f"evt_{uuid4().hex}", int(time.time())
    headers = signed_headers(KEY.encode(), event=name, timestamp=now, body=body)
    await WebhookInbox({"sandbox": sale.provider}, sale.payments).take("sandbox", headers, body)


async def refund_events(sale: Sale, *, buyers: int = 0) -> list[Json]:
    """What the desk was told of refunds that failed; so many `buyers` were told, too."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while await sale.pool.fetchval("SELECT count(*) FROM notices"):
            sale.told.news.clear()
            sale.notices.wake()
            await asyncio.wait([asyncio.ensure_future(sale.told.news.wait())], timeout=0.05)
    found = [(buyer, told) for buyer, kind, told in sale.told.events if kind == "refund.failed"]
    assert sum(buyer is not None for buyer, _ in found) == buyers
    return [told for buyer, told in found if buyer is None]
