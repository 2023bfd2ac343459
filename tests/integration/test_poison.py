"""What is put aside unsettled: only what can never be settled, and not as a finding for ever."""

import asyncpg
import pytest

from live.domain.hold import Line
from live.ledger.audit.repair import repair
from live.ledger.audit.run import audit
from live.ledger.db.pool import is_transient
from live.ledger.settle.sql import POISON
from live.stock.keys import GROUP, show_keys
from tests.support.ledger_kit import Sale, new_buyer

SERVERS_FAULTS = (
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or a server that was made read-only
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,  # no such database
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.AdminShutdownError,
    asyncpg.ConnectionDoesNotExistError,
)
DATA_FAULTS = (
    asyncpg.CheckViolationError,
    asyncpg.UniqueViolationError,
    asyncpg.ForeignKeyViolationError,
    asyncpg.NumericValueOutOfRangeError,
    asyncpg.RaiseError,
    asyncpg.CardinalityViolationError,
)


@pytest.mark.parametrize("fault", SERVERS_FAULTS)
def test_fault_of_the_server_or_the_schema_is_waited_out(fault: type[Exception]) -> None:
    """The entry is as good as any; it is settled once the server is mended."""
    assert is_transient(fault("test"))


@pytest.mark.parametrize("fault", DATA_FAULTS)
def test_fault_of_the_entry_is_final(fault: type[Exception]) -> None:
    """A repeat would be refused for ever, and those behind it would wait."""
    assert not is_transient(fault("test"))


@pytest.mark.parametrize(
    ("harm", "mend"),
    [
        ("ALTER TABLE order_items RENAME TO away", "ALTER TABLE away RENAME TO order_items"),
        (
            "ALTER TABLE order_items RENAME COLUMN qty TO away",
            "ALTER TABLE order_items RENAME COLUMN away TO qty",
        ),
    ],
)
async def test_paid_sale_waits_for_the_schema(sale: Sale, harm: str, mend: str) -> None:
    """Nothing is put aside and nothing acknowledged; the order comes with the mend."""
    await sale.buy(new_buyer())
    await sale.pool.execute(harm)
    with pytest.raises(asyncpg.PostgresError):
        await sale.settle()
    assert await sale.outbox.first_unsettled(sale.show) is not None

    await sale.pool.execute(mend)
    await sale.settle()

    assert await sale.pool.fetchval("SELECT count(*) FROM poison") == 0
    assert await sale.pool.fetchval("SELECT count(*) FROM orders") == 1


async def repair_sale(sale: Sale) -> list[str]:
    async def work() -> bool:
        return False

    return await repair(
        sale.pool, stock=sale.engine, outbox=sale.outbox, settler=sale.settler, work=work
    )


async def findings(sale: Sale) -> tuple[str, ...]:
    report = await audit(sale.pool, sale.engine, sale.outbox, (), wait_seconds=5)
    return tuple(str(finding) for finding in report.findings)


async def test_finding_ends_when_what_was_put_aside_was_settled(sale: Sale) -> None:
    """As after a release whose settler could not settle it and the next one can."""
    await sale.buy(new_buyer(), Line(0, 1))
    entry = await sale.outbox.first_unsettled(sale.show)
    await sale.pool.execute(POISON, sale.show, entry, 1, "{}", "a fault that is mended")
    assert await findings(sale) != ()

    done = await repair_sale(sale)

    assert any("rebuilt" in line for line in done)
    assert await findings(sale) == ()
    assert await sale.pool.fetchval("SELECT decided_at IS NOT NULL FROM poison")
    assert await repair_sale(sale) == []


async def test_what_never_can_be_settled_is_told_once_and_kept(sale: Sale, redis_url: str) -> None:
    """A person reads of it in the repair; the row stays, the finding ends."""
    calls = sale.outbox._calls  # the stream itself, written to as no version of ours does

    stream = show_keys(sale.show).outbox
    await calls.send(b"XADD", stream, b"*", b"nonsense", b"x", show=sale.show)
    await sale.settle()
    assert await findings(sale) != ()

    done = await repair_sale(sale)

    assert any("cannot be settled" in line for line in done)
    assert await findings(sale) == ()
    assert await sale.pool.fetchval("SELECT count(*) FROM poison") == 1
    assert await repair_sale(sale) == []


async def test_dead_settlers_leave_the_group_and_living_ones_lose_nothing(sale: Sale) -> None:
    """Who owes an entry stays until it is claimed; who owes nothing and is silent goes."""
    read = sale.outbox.read
    await read([sale.show], consumer="idle", entries_max=10, block_ms=1)
    await sale.hold(new_buyer())
    assert await read([sale.show], consumer="owes", entries_max=10, block_ms=1)

    await sale.outbox.forget_consumers(sale.show, idle_ms=3_600_000)
    assert await consumers(sale) == {"idle", "owes"}
    await sale.outbox.forget_consumers(sale.show, idle_ms=-1)

    assert await consumers(sale) == {"owes"}
    assert await sale.outbox.first_unsettled(sale.show) is not None


async def consumers(sale: Sale) -> set[str]:

    key = show_keys(sale.show).outbox
    reply = await sale.outbox._calls.send(
        b"XINFO", b"CONSUMERS", key, GROUP.encode(), show=sale.show
    )  # fmt: skip
    assert isinstance(reply, list)
    return {row[1].decode() for row in reply}


async def test_settler_forgets_dead_consumers_by_itself(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start has a name of its own: years of restarts must not stay in every group."""
    monkeypatch.setattr("live.ledger.settle.settler.CONSUMER_SILENT_MS", -1)
    await sale.outbox.read([sale.show], consumer="dead", entries_max=10, block_ms=1)

    await sale.settler.run_once()

    assert "dead" not in await consumers(sale)
