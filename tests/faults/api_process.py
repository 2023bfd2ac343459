"""One call of the HTTP API in a process of its own, to be killed by LIVE_FAILPOINT.

python -m tests.faults.api_process DATABASE_URL REDIS_URL PATH BODY KEY
"""

import asyncio
import json
import sys

from live.ledger.db.pool import open_pool
from tests.support.api_kit import open_stage


async def run(database_url: str, redis_url: str, path: str, body: str, key: str) -> None:
    pool = await open_pool(database_url, size=2, command_timeout_seconds=20)
    async with open_stage(pool, redis_url) as stage:
        await stage.call("POST", path, json.loads(body), headers={"idempotency-key": key})
    await pool.close()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
