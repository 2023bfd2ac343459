"""The audit of what changed: what was proven is passed over until something of it moves.

Method: a real sale that is over, proven once; then one thing happens, and the next run looks again
or does not.
"""

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis.asyncio

import live.ledger.audit.marks
import live.ledger.audit.run
from live.base.errors import EngineError, NotFound
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.ledger.audit import (
    findings as audit_findings,
)
from live.ledger.audit import (
    goods_sql as audit_goods_sql,
)
from live.ledger.audit import (
    money_sql as audit_money_sql,
)
from live.ledger.audit import (
    shop_sql as audit_shop_sql,
)
from live.ledger.audit import (
    sql as audit_sql,
)
from live.ledger.audit.marks import AGAIN_AFTER_SECONDS
from live.ledger.audit.run import AuditReport, Extent, audit
from live.ledger.db.fitness import check_ledger
from live.ledger.db.migrate import DIRECTORY, migrate
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowRows
from live.ledger.orders.orders import OrderRows
from live.stock.keys import show_keys
from tests.support.audit_rows import fill
from tests.support.books import Books, charges_of
from tests.support.ledger_kit import PRICE, Sale, new_buyer, wish
from tests.support.shows_kit import HOST

BROKEN = {"order_total", "order_payment", "order_refunds"}
"""What is told of an order whose total is not the sum of anything."""


async def look(sale: Sale, *books: Books) -> AuditReport:
    """What a settler does on its schedule."""
    extent = Extent(changed=True, remember=True)
    return await audit(sale.pool, sale.engine, sale.outbox, books, wait_seconds=0, extent=extent)


async def look_at_all(sale: Sale, show: ShowId | None = None) -> AuditReport:
    extent = Extent(show=show)
    return await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=0, extent=extent)


@pytest.fixture
async def over(sale: Sale, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sale]:
    """Two orders that are paid; the show has ended, its offers are closed, Redis has forgotten.

    No transaction is open, so nothing older than what is there can still come.
    """
    monkeypatch.setattr(live.ledger.audit.marks, "SLACK_SECONDS", 0)
    for _ in range(2):
        await sale.buy(new_buyer(), Line(0, 2))
    await sale.settle()
    await sale.capture_all()
    await ShowRows(sale.pool).announce(sale.show, "Good-bye", None, HOST)
    await sale.pool.execute(
        """WITH back AS (
               INSERT INTO stock_movements (sku, offer, kind, qty)
               SELECT sku, id, 'given_back', sold - allotted FROM offers WHERE sold < allotted
           ), ended AS (
               UPDATE shows SET status = 'ended', version = version + 1
           ), shelved AS (
               UPDATE products p SET allotted = f.sold FROM offers f WHERE f.sku = p.sku
           ), told AS (
               DELETE FROM notices
           )
           UPDATE offers SET allotted = sold, phase = 'closed', version = version + 1"""
    )
    keys = show_keys(sale.show)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(*(getattr(keys, name) for name in keys.__slots__))
    yield sale


async def test_proven_show_is_passed_over(over: Sale) -> None:
    """The second run looks at nothing, and its totals are those of the first."""
    first = await look(over)
    second = await look(over)

    assert first.ok and second.ok
    assert (first.shows.proven, first.shows.unchanged) == (1, 0)
    assert (second.shows.proven, second.shows.unchanged) == (0, 1)
    assert first.payments == second.payments
    assert second.payments.captured == 2
    assert second.offers == ()


async def test_first_proofs_of_a_long_past_are_spread(
    over: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop of a thousand shows is not proven in one run; who waits is named."""
    monkeypatch.setattr(live.ledger.audit.marks, "FIRST_MAX", 2)
    await fill(over.pool, shows=3, orders=4, offers=2)

    runs = [await look(over) for _ in range(3)]

    assert [one.shows.proven for one in runs] == [2, 2, 0]
    assert any("2 ended shows wait" in line for line in runs[0].in_flight)
    assert runs[1].ok and runs[1].in_flight == ()
    assert runs[2].payments.captured == 2 + 3 * 4


async def test_show_on_sale_is_looked_at_each_time(sale: Sale) -> None:
    """Redis has no table that tells what changed."""
    await look(sale)

    assert (await look(sale)).shows.proven == 1


async def test_change_of_a_proven_show_is_looked_at(over: Sale) -> None:
    """A late refund, or what a host does: the show is proven again."""
    order = await over.pool.fetchval("SELECT id::text FROM orders LIMIT 1")
    await look(over)
    await OrderRows(over.pool).request_refund(order, wish(PRICE), request_key="k", actor=HOST)
    asked = await look(over)
    await over.capture_all()
    done = await look(over)

    assert (asked.shows.proven, done.shows.proven) == (1, 1)
    assert done.payments.refunded == 1
    assert (await look_at_all(over)).payments == done.payments


async def test_old_row_changed_in_silence_is_found_in_turn(over: Sale) -> None:
    """Who changes old rows leaves no trace: the oldest proofs are made again, `--full` and
    `--show` find it at once."""
    await look(over)
    await over.pool.execute("UPDATE orders SET total_minor = total_minor + 1")

    at_once = await look(over)
    await over.pool.execute(
        "UPDATE audit_proofs SET proven_at = now() - make_interval(secs => $1)",
        AGAIN_AFTER_SECONDS + 1,
    )
    in_turn = await look(over)

    assert at_once.ok
    assert {one.code for one in in_turn.mend} == BROKEN
    assert {one.code for one in (await look_at_all(over)).mend} == BROKEN
    assert not (await look_at_all(over, over.show)).ok


async def test_finding_is_told_until_it_is_mended(over: Sale) -> None:
    """A show with a finding is not proven, so it is looked at again although nothing changes."""
    await over.pool.execute("UPDATE orders SET total_minor = total_minor + 1")
    broken = [await look(over) for _ in range(2)]
    await over.pool.execute("UPDATE orders SET total_minor = total_minor - 1")
    mended = await look(over)

    assert [one.ok for one in (*broken, mended)] == [False, False, True]
    assert (await look(over)).shows.unchanged == 1


async def test_end_of_a_log_that_was_cut_off_is_found(over: Sale) -> None:
    """The chain alone cannot tell; the proof noted its newest row outside of it."""
    await look(over)
    async with over.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM host_actions")

    report = await look_at_all(over)

    assert [one.code for one in report.mend] == ["log_broken"]


async def test_one_show_is_proven_alone(over: Sale) -> None:
    """Nothing of the rest of the shop is looked at; a show that is not there is an error."""
    await over.pool.execute("INSERT INTO stock_doubts (show, reason) VALUES ('another', 'x')")
    await over.pool.execute("UPDATE stock_doubts SET created_at = now() - interval '1 hour'")

    assert (await look_at_all(over, over.show)).ok
    assert not (await look_at_all(over)).ok
    with pytest.raises(NotFound):
        await look_at_all(over, ShowId("nowhere"))


async def test_old_charges_are_compared_once_a_day(over: Sale) -> None:
    """In between only what was charged since the last run; in full nothing is left out."""
    await over.pool.execute("UPDATE payments SET updated_at = now() - interval '1 hour'")
    books = Books(await charges_of(over.pool))
    await look(over, books)
    await look(over, books)
    since = [books.since[0], books.since[-1]]
    await over.pool.execute("UPDATE audit_marks SET mark = 0 WHERE name = 'books in full'")
    await look(over, books)

    assert since[0] == 0 < since[1]
    assert books.since[-1] == 0


async def test_question_that_is_not_answered_is_a_finding(
    over: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit that could not look says so, and goes on with the rest."""
    monkeypatch.setattr(live.ledger.audit.run, "READ_TIMEOUT_SECONDS", 0.3)
    async with over.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE poison")
        report = await look_at_all(over)

    assert [one.code for one in report.mend] == ["ledger_unread"]
    assert report.payments.captured == 2


async def test_audit_of_everything_writes_nothing(over: Sale) -> None:
    """Only the settlers' schedule remembers; a person's audit needs no right to write."""
    await over.pool.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
    try:
        await over.pool.expire_connections()
        assert (await look_at_all(over)).ok
        extent = Extent(changed=True)
        report = await audit(over.pool, over.engine, over.outbox, (), wait_seconds=0, extent=extent)
    finally:
        connection = await over.pool.acquire()
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("ALTER ROLE CURRENT_USER RESET default_transaction_read_only")
        await over.pool.release(connection)

    assert report.ok
    assert await over.pool.fetchval("SELECT count(*) FROM audit_proofs") == 0


def test_every_code_has_its_sentence() -> None:
    """Codes of all checks are explained, each with a remedy and who can apply it."""
    checks = (
        *audit_sql.SHOW_CHECKS,
        *audit_money_sql.MONEY_CHECKS,
        *audit_goods_sql.GOODS_CHECKS,
        *audit_shop_sql.SHOP_CHECKS,
        *audit_shop_sql.ORPHANS,
        audit_shop_sql.SHELVES,
    )
    assert {check.code for check in checks} <= audit_findings.MENDS.keys()
    for code, (who, how) in audit_findings.MENDS.items():
        assert re.fullmatch("[a-z_]+", code)
        assert who in ("service", "repair", "person")
        assert len(how.split()) >= 3


async def test_database_without_a_ledger_is_refused(database_url: str) -> None:
    """Whoever looks changes nothing: a wrong URL does not become a ledger in good order."""
    with pytest.raises(EngineError, match="migrations are not applied, the first is 0001"):
        await check_ledger(database_url)

    connection = await asyncpg.connect(database_url)
    tables = await connection.fetchval(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    )
    await connection.close()
    assert tables == 0


async def test_ledger_that_lacks_a_migration_is_refused(database_url: str, pool: Pool) -> None:
    """Its name is told, and the command that applies it."""
    last = sorted(path.name for path in DIRECTORY.glob("*.sql"))[-1]
    await pool.execute("DELETE FROM migrations WHERE name = $1", last)

    with pytest.raises(
        EngineError, match=f"1 migrations are not applied, the first is {last}; run `live migrate`"
    ):
        await check_ledger(database_url)


async def test_empty_ledger_has_nothing_to_prove(database_url: str) -> None:
    """It may be served; an audit of it is an error, because its URL may be a wrong one."""
    await migrate(database_url)

    await check_ledger(database_url)
    with pytest.raises(EngineError, match="this ledger is empty"):
        await check_ledger(database_url, used=True)
