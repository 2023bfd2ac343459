"""HTTP answers by key: one call runs, repeats get its answer, other requests are refused."""

import asyncio

import pytest

from live.base.errors import Conflict
from live.ledger.db.idempotency import CallKey, IdempotencyRows, InFlight, StoredAnswer, mark_done
from live.ledger.db.pool import Pool

REQUEST, OTHER = b"r" * 32, b"o" * 32


async def test_repeat_gets_the_stored_answer(pool: Pool) -> None:
    """Same key and request: the same status and body; another caller's key is another key."""
    rows = IdempotencyRows(pool)
    assert await rows.begin(CallKey("host-1", "k", REQUEST)) is None
    await rows.finish(CallKey("host-1", "k", REQUEST), 201, b'{"id": 1}')

    assert await rows.begin(CallKey("host-1", "k", REQUEST)) == StoredAnswer(201, b'{"id": 1}')
    assert await rows.begin(CallKey("host-2", "k", REQUEST)) is None
    with pytest.raises(Conflict) as refused:
        await rows.begin(CallKey("host-1", "k", OTHER))
    assert not isinstance(refused.value, InFlight)


async def test_one_of_many_callers_runs(pool: Pool) -> None:
    """Ten calls at once with one key: one goes on, nine hear that it runs."""
    rows = IdempotencyRows(pool)

    results = await asyncio.gather(
        *(rows.begin(CallKey("h", "k", REQUEST)) for _ in range(10)), return_exceptions=True
    )

    assert results.count(None) == 1
    assert sum(isinstance(one, InFlight) for one in results) == 9


async def test_abandoned_call_may_be_repeated(pool: Pool) -> None:
    """A call that died unanswered gives its key free after a while; a failed one at once."""
    rows = IdempotencyRows(pool)
    await rows.begin(CallKey("h", "k", REQUEST))
    await pool.execute("UPDATE idempotency SET created_at = now() - interval '31 seconds'")

    assert await rows.begin(CallKey("h", "k", REQUEST)) is None
    with pytest.raises(InFlight):
        await rows.begin(CallKey("h", "k", REQUEST))
    await rows.forget(CallKey("h", "k", REQUEST))
    assert await rows.begin(CallKey("h", "k", OTHER)) is None


async def test_command_is_done_once_by_whoever_holds_its_key(pool: Pool) -> None:
    """Two calls believe that the key is theirs: the later commit finds the earlier one's mark."""
    rows, call = IdempotencyRows(pool), CallKey("h", "k", REQUEST)
    await rows.begin(call)
    async with pool.acquire() as one, pool.acquire() as two:
        first = one.transaction()
        await first.start()
        assert await mark_done(one, call)

        async def late() -> bool:
            async with two.transaction():
                return await mark_done(two, call)

        waiting = asyncio.create_task(late())
        await first.commit()

        assert not await waiting


async def test_command_that_failed_leaves_no_mark_and_a_done_one_keeps_it(pool: Pool) -> None:
    """What was given back undone runs anew; what was done and then failed goes on at once."""
    rows, call = IdempotencyRows(pool), CallKey("h", "k", REQUEST)
    await rows.begin(call)
    async with pool.acquire() as connection:
        undone = connection.transaction()
        await undone.start()
        await mark_done(connection, call)
        await undone.rollback()
    await rows.forget(call)
    with pytest.raises(Conflict):
        await mark_done(pool, call)  # type: ignore[arg-type]  # a pool runs single statements, too

    assert await rows.begin(call) is None
    assert await mark_done(pool, call)  # type: ignore[arg-type]
    await rows.forget(call)
    assert await rows.begin(call) is None
    assert not await mark_done(pool, call)  # type: ignore[arg-type]


async def test_sweep_deletes_old_answers_only(pool: Pool) -> None:
    """Answers are kept for a day."""
    rows = IdempotencyRows(pool)
    for key in ("old", "new"):
        await rows.begin(CallKey("h", key, REQUEST))
        await rows.finish(CallKey("h", key, REQUEST), 200, b"")
    await pool.execute(
        "UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = 'old'"
    )

    await rows.sweep()

    assert [row["key"] for row in await pool.fetch("SELECT key FROM idempotency")] == ["new"]
