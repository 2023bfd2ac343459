"""HTTP answers by key: one call runs, repeats get its answer, other requests are refused."""

import asyncio

import pytest

from live.errors import Conflict
from live.ledger.idempotency import IdempotencyRows, InFlight, StoredAnswer
from live.ledger.pool import Pool

REQUEST, OTHER = b"r" * 32, b"o" * 32


async def test_repeat_gets_the_stored_answer(pool: Pool) -> None:
    """Same key and request: the same status and body; another caller's key is another key."""
    rows = IdempotencyRows(pool)
    assert await rows.begin("host-1", "k", REQUEST) is None
    await rows.finish("host-1", "k", 201, b'{"id": 1}')

    assert await rows.begin("host-1", "k", REQUEST) == StoredAnswer(201, b'{"id": 1}')
    assert await rows.begin("host-2", "k", REQUEST) is None
    with pytest.raises(Conflict) as refused:
        await rows.begin("host-1", "k", OTHER)
    assert not isinstance(refused.value, InFlight)


async def test_one_of_many_callers_runs(pool: Pool) -> None:
    """Ten calls at once with one key: one goes on, nine hear that it runs."""
    rows = IdempotencyRows(pool)

    results = await asyncio.gather(
        *(rows.begin("h", "k", REQUEST) for _ in range(10)), return_exceptions=True
    )

    assert results.count(None) == 1
    assert sum(isinstance(one, InFlight) for one in results) == 9


async def test_abandoned_call_may_be_repeated(pool: Pool) -> None:
    """A call that died unanswered gives its key free after a while; a failed one at once."""
    rows = IdempotencyRows(pool)
    await rows.begin("h", "k", REQUEST)
    await pool.execute("UPDATE idempotency SET created_at = now() - interval '31 seconds'")

    assert await rows.begin("h", "k", REQUEST) is None
    with pytest.raises(InFlight):
        await rows.begin("h", "k", REQUEST)
    await rows.forget("h", "k")
    assert await rows.begin("h", "k", OTHER) is None


async def test_sweep_deletes_old_answers_only(pool: Pool) -> None:
    """Answers are kept for a day."""
    rows = IdempotencyRows(pool)
    for key in ("old", "new"):
        await rows.begin("h", key, REQUEST)
        await rows.finish("h", key, 200, b"")
    await pool.execute(
        "UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = 'old'"
    )

    await rows.sweep()

    assert [row["key"] for row in await pool.fetch("SELECT key FROM idempotency")] == ["new"]
