"""Leases: work that one process does at a time, and another takes over when that one falls silent.

Owns: rows of `leases`. Always: a lease ends by Postgres' clock alone, so a holder that is frozen or
cut off loses it within LEASE_SECONDS although its connections still stand; each new holder has a
higher fence, by which whatever an earlier one still does is refused (`Lease.demand`, and the
stock's scripts). Not session locks: those last as long as a TCP connection, which may be hours.
Called by: rebuilds, schedules and the keeper's leadership.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from live.base.errors import Busy
from live.base.faults import tell_fault
from live.ledger.db.pool import DATABASE_ERRORS, Connection, Pool

LEASE_SECONDS = 3.0  # of silence; a stall of the event loop or of Postgres is far shorter
RENEW_EVERY_SECONDS = 0.5  # six beats a lease: five may be lost
LOOK_EVERY_SECONDS = 0.1  # while another one holds it

T = TypeVar("T")


class Fenced(Busy):
    """The lease went to another holder, who does the work now."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another process does this now: {name}")


@dataclass(frozen=True, slots=True)
class Lease:
    name: str
    fence: int

    async def demand(self, connection: Connection) -> None:
        """Inside a transaction: nobody else takes the lease before it ends. Raises Fenced."""
        mine = await connection.fetchval(_MINE, self.name, self.fence)
        if mine is None:
            raise Fenced(self.name)


async def take(pool: Pool, name: str) -> Lease | None:
    """The lease, where nobody holds it. Raises DATABASE_ERRORS."""
    fence = await pool.fetchval(_TAKE, name, LEASE_SECONDS)
    return None if fence is None else Lease(name, fence)


async def under(pool: Pool, lease: Lease, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work while the lease is renewed; it is given up at the end.

    Raises Fenced, with the work cancelled, once another one has it or may have it.
    """
    doing = asyncio.ensure_future(work())
    renewing = asyncio.create_task(_renew_until_lost(pool, lease))
    try:
        await asyncio.wait({doing, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Fenced(lease.name)
        return doing.result()
    finally:
        for task in (doing, renewing):
            task.cancel()
        _, lost = await asyncio.gather(doing, renewing, return_exceptions=True)
        if isinstance(lost, Exception):
            tell_fault("lease.not_renewed", lost, lease=lease.name)
        await give_up(pool, lease)


async def alone(
    pool: Pool, name: str, work: Callable[[Lease], Awaitable[T]], *, patience_seconds: float
) -> T:
    """Do the work under the lease, when its turn has come. Raises Busy, and what `under` does."""
    deadline = time.monotonic() + patience_seconds
    while (lease := await take(pool, name)) is None:
        if time.monotonic() >= deadline:
            raise Busy(f"another process is at it: {name}")
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    held = lease
    return await under(pool, held, lambda: work(held))


async def give_up(pool: Pool, lease: Lease) -> None:
    """The next one need not wait; where Postgres is away the lease ends by itself."""
    try:
        await pool.execute(_GIVE_UP, lease.name, lease.fence)
    except DATABASE_ERRORS:
        pass


async def renew(pool: Pool, lease: Lease) -> bool:
    """False where another one has it. Raises DATABASE_ERRORS."""
    return await pool.fetchval(_RENEW, lease.name, lease.fence, LEASE_SECONDS) is not None


async def _renew_until_lost(pool: Pool, lease: Lease) -> None:
    renewed = time.monotonic()
    while time.monotonic() - renewed < LEASE_SECONDS:
        await asyncio.sleep(RENEW_EVERY_SECONDS)
        began = time.monotonic()
        try:
            if not await renew(pool, lease):
                return
            renewed = began  # what Postgres counts from is later than this
        except DATABASE_ERRORS:
            continue  # it may come back before the lease ends


# From the clock, so fences go on growing over a ledger that was restored from a copy.
_TAKE = """
INSERT INTO leases AS l (name, fence, until)
VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        now() + make_interval(secs => $2))
ON CONFLICT (name) DO UPDATE
SET fence = greatest(l.fence + 1, excluded.fence), until = excluded.until
WHERE l.until <= now()
RETURNING fence"""

_RENEW = """
UPDATE leases SET until = now() + make_interval(secs => $3)
WHERE name = $1 AND fence = $2 RETURNING name"""

_GIVE_UP = "UPDATE leases SET until = now() WHERE name = $1 AND fence = $2"

# A share lock: renewing waits for it, as does whoever would take the lease.
_MINE = "SELECT name FROM leases WHERE name = $1 AND fence = $2 FOR SHARE"
