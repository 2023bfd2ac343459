"""The audit log of hosts: a chain per show that shows every kind of tampering."""

import asyncio

import pytest

from live.domain.ids import ShowId
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.hosting import actions
from tests.support.ledger_kit import make_show


async def append(pool: Pool, show: ShowId, number: int) -> None:
    async def work(connection: Connection) -> None:
        await actions.append(
            connection,
            show=show,
            caller="host-1",
            role="host",
            action="offer.open",
            detail={"number": number, "a": [1, None]},
            address="127.0.0.1",
        )

    await in_transaction(pool, work)


async def verify(pool: Pool, show: ShowId) -> int | None:
    async with pool.acquire() as connection:
        return await actions.verify(connection, show)


async def test_concurrent_actions_make_one_chain(pool: Pool, show: ShowId) -> None:
    """Twenty commands at once follow one another; each show has a chain of its own."""
    other = ShowId(f"{show}-other")
    await make_show(pool, show)
    await make_show(pool, other)

    await asyncio.gather(*(append(pool, (show, other)[n % 2], n) for n in range(20)))

    assert await verify(pool, show) is None
    assert await verify(pool, other) is None
    async with pool.acquire() as connection:
        page = await actions.read(connection, show, limit=6)
        rest = await actions.read(connection, show, after=page[-1].id)
    assert len(page) + len(rest) == 10
    assert page[0].detail in {f'{{"a":[1,null],"number":{n}}}' for n in range(0, 20, 2)}


TAMPER = {
    "changed": "UPDATE host_actions SET detail = '{}' WHERE id = $1",
    "backdated": "UPDATE host_actions SET created_at = created_at - interval '1 s' WHERE id = $1",
    "blamed": "UPDATE host_actions SET caller = 'somebody' WHERE id = $1",
    "moved": "UPDATE host_actions SET address = '10.0.0.1' WHERE id = $1",
    "removed": "DELETE FROM host_actions WHERE id = $1",
}


@pytest.mark.parametrize("kind", TAMPER)
async def test_tampering_breaks_the_chain(pool: Pool, show: ShowId, kind: str) -> None:
    """A row changed or removed behind the trigger is found, and where."""
    await make_show(pool, show)
    for number in range(5):
        await append(pool, show, number)
    ids = [row["id"] for row in await pool.fetch("SELECT id FROM host_actions ORDER BY id")]
    await pool.execute("ALTER TABLE host_actions DISABLE TRIGGER USER")

    await pool.execute(TAMPER[kind], ids[2])

    assert await verify(pool, show) == ids[3 if kind == "removed" else 2]


async def test_rows_refuse_update_and_delete(pool: Pool, show: ShowId) -> None:
    """The append-only tables say no by themselves."""
    await make_show(pool, show, 1)
    await append(pool, show, 1)

    for statement in (
        "UPDATE host_actions SET caller = 'x'",
        "DELETE FROM host_actions",
        "DELETE FROM stock_movements",
        "UPDATE stock_movements SET qty = 0",
    ):
        with pytest.raises(Exception, match="append only"):
            await pool.execute(statement)
