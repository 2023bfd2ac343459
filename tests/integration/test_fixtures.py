"""The test run's own servers answer."""

from pathlib import Path

import asyncpg
import redis.asyncio

SCHEMA = Path("live/ledger/db/migrations/0001_initial.sql").read_text()


async def test_valkey_answers(redis_url: str) -> None:
    """PING over the unix socket."""
    client = redis.asyncio.from_url(redis_url)
    assert await client.ping()
    await client.aclose()


async def test_schema_applies_to_an_empty_database(database_url: str) -> None:
    """A fresh database has no tables of ours, and the first migration makes them."""
    connection = await asyncpg.connect(database_url)
    assert await connection.fetch("select 1 from pg_tables where schemaname = 'public'") == []
    async with connection.transaction():
        await connection.execute(SCHEMA)
    assert await connection.fetch("select id from shows") == []
    await connection.close()
