"""Engines for a command, made fit for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from redis.exceptions import RedisError

from live.base.errors import EngineError, reason_of
from live.base.settings import Settings, resolve_secret
from live.ledger.db.fitness import check_ledger
from live.ledger.db.migrate import migrate as apply_migrations
from live.ledger.db.pool import DATABASE_ERRORS, Pool, make_pool
from live.tools.engines.embedded import Engines
from live.wiring.settler import prepare_stock

T = TypeVar("T")


@contextmanager
def engines_of(settings: Settings) -> Iterator[tuple[Engines, Settings]]:
    """Start or find the engines; yields settings that name them."""
    secret = resolve_secret(settings)  # before URLs are filled in: embedded engines need none set
    engines = Engines.start(settings)
    try:
        yield (
            engines,
            replace(
                settings,
                secret=secret,
                redis_url=engines.redis_url,
                database_url=engines.database_url,
            ),
        )
    finally:
        engines.stop()


async def prepare(settings: Settings, *, migrates: bool) -> None:
    """Make engines fit for traffic: schema, then stock. Raises EngineError.

    A configured ledger is not ours to change: `live migrate` does that, by an account of its own.
    """
    if migrates:
        await apply_migrations(settings.database_url or "")
    await check_ledger(settings.database_url or "")
    await prepare_stock(settings)


@contextmanager
def engine_faults() -> Iterator[None]:
    """Say in one line, as an EngineError, what an engine failed with."""
    try:
        yield
    except RedisError as error:
        raise EngineError(f"Redis: {reason_of(error)}") from error
    except DATABASE_ERRORS as error:
        raise EngineError(f"Postgres: {reason_of(error)}") from error


def with_pool(settings: Settings, work: Callable[[Pool], Awaitable[T]]) -> T:
    async def run(url: str) -> T:
        await check_ledger(url)
        async with make_pool(url) as pool:
            return await work(pool)

    with engines_of(settings) as (_, ready), engine_faults():
        return asyncio.run(run(ready.database_url or ""))
