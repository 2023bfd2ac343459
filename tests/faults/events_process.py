"""Sequencer and sender as a process of their own: something that a test can kill.

    python -m tests.faults.events_process DATABASE_URL AHEAD_SECONDS

AHEAD_SECONDS moves its clock, so that nobody waits for the lease of one that died.
"""

import asyncio
import sys
import time

from live.ledger.db.pool import open_pool
from live.ledger.events.deliveries import DeliveryRows
from live.ledger.events.sequencer import Sequencer
from live.outgoing.client import WebhookClient
from live.outgoing.sender import WebhookSender


async def run(database_url: str, ahead: float) -> None:
    pool = await open_pool(database_url, size=3, command_timeout_seconds=20)
    rows = DeliveryRows(pool, ahead_seconds=lambda: ahead)
    client = WebhookClient(development=True)
    sender = WebhookSender(rows, client, clock=lambda: time.time() + ahead)
    sequencer = Sequencer(pool, on_placed=sender.wake, ahead_seconds=lambda: ahead)
    stop = asyncio.Event()
    await asyncio.gather(sequencer.run(stop), sender.run(stop))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], float(sys.argv[2])))
