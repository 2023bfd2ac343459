"""Postgres is down for a while in the middle of a sale: holds go on up to the named backlog.

Method: the real engine with a small bound in its script, a cluster that is stopped and started
again, a settler that runs on. The bound itself: integration/stock/test_stock_backlog.py.
"""

import asyncio
import re
import signal
from collections.abc import Iterator

import pytest

from live.base.errors import Busy
from live.domain.hold import Line
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.redis import scripts
from tests.faults.test_ledger_without_postgres import (
    RECOVERY_SECONDS,
    cluster,
    confirm,
    fragile,
    orders_of,
    pay_for_holds,
    run_settler,
    settled,
)
from tests.support.ledger_kit import Buyer, Sale, new_buyer
from tests.support.servers import Postgres

__all__ = ["cluster", "fragile"]

BACKLOG_MAX = 12  # of unsettled entries, here


@pytest.fixture(autouse=True)
def small_backlog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same script with a bound that a test reaches."""
    whole = scripts.read_source

    def read(package: str, name: str) -> str:
        return re.sub(r"BACKLOG_MAX = \d+", f"BACKLOG_MAX = {BACKLOG_MAX}", whole(package, name))

    monkeypatch.setattr(scripts, "read_source", read)
    scripts.read_scripts.cache_clear()
    yield
    scripts.read_scripts.cache_clear()


async def hold_until_busy(sale: Sale) -> list[Buyer]:
    """Buyers who come one by one until the answer is 111; those who hold."""
    holding: list[Buyer] = []
    while len(holding) < 3 * BACKLOG_MAX:
        buyer = new_buyer()
        try:
            answer = await sale.engine.hold(sale.show, buyer.id, buyer.key, (Line(0, 1),))
        except Busy as busy:
            assert busy.code == 111
            return holding
        assert answer.outcome is Outcome.HELD
        holding.append(buyer)
    raise AssertionError("the backlog has no end")


async def test_holds_go_on_without_postgres_up_to_the_backlog(
    small_backlog: None, fragile: Sale, cluster: Postgres
) -> None:
    """Held without the ledger, then 111; when it is back all is settled and sold on."""
    buyers = await pay_for_holds(fragile, 4)
    running, stop = await run_settler(fragile)
    await settled(fragile)
    assert cluster.process is not None
    cluster.process.send_signal(signal.SIGQUIT)
    await asyncio.to_thread(cluster.process.wait, RECOVERY_SECONDS)

    await confirm(fragile, buyers)  # paid before: money follows stock, whoever is away
    holding = await hold_until_busy(fragile)
    unsettled = (await fragile.outbox.backlog(fragile.show)).length
    await asyncio.to_thread(cluster.start)
    await settled(fragile)
    late = new_buyer()
    await fragile.hold(late)
    await settled(fragile)
    stop.set()
    await asyncio.wait_for(running, RECOVERY_SECONDS)

    assert unsettled == BACKLOG_MAX + 1
    assert len(holding) == unsettled - len(buyers)
    assert await orders_of(cluster) == len(buyers)
    report = await audit(fragile.pool, fragile.engine, fragile.outbox, ())
    assert report.findings == ()
    (figures,) = report.offers
    assert (figures.sold, figures.held) == (len(buyers), len(holding) + 1)
