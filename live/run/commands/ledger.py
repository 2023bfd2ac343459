"""`live migrate` and `live import`: work on the ledger that ends."""

import asyncio
from pathlib import Path

from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.commerce.imports import import_feed as read_and_import
from live.ledger.db.fitness import grant
from live.ledger.db.migrate import migrate as apply_migrations
from live.ledger.db.pool import Pool
from live.ledger.hosting.catalogue import Catalogue
from live.run.commands.engines import engine_faults, engines_of, with_pool


def migrate(settings: Settings, *, grantee: str) -> list[str]:
    """Apply what is missing; the names of what was applied.

    `grantee`: a role that gets what serving needs, and no more; "": nobody.
    """
    set_up_logs(role="migrate", quiet=True)

    async def work(url: str) -> list[str]:
        applied = await apply_migrations(url)
        if grantee:
            await grant(url, grantee)
        return applied

    with engines_of(settings) as (_, ready), engine_faults():
        return asyncio.run(work(ready.database_url or ""))


def import_feed(settings: Settings, path: Path, *, kind: str, currency: str) -> int:
    """Bring a product feed into the catalogue; the number of products."""
    set_up_logs(role="import", quiet=True)

    async def work(pool: Pool) -> int:
        return await read_and_import(Catalogue(pool), path, kind, currency=currency)

    return with_pool(settings, work)
