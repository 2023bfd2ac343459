"""The examples of receivers, as processes, take what the real sender sends."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from live.ledger.db.pool import Pool
from tests.support.cluster import free_ports
from tests.support.events_kit import SHOP, Out, going_out
from tests.support.example_process import Program
from tests.support.node import NODE, install

EXAMPLES = Path(__file__).parents[2] / "examples" / "webhooks"
PACKAGE = "standardwebhooks@1.1.1"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["python", "node"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    if request.param == "python":
        return (sys.executable, "-W", "error", str(EXAMPLES / "receiver.py"))
    install(tmp_path, PACKAGE)
    shutil.copy(EXAMPLES / "receiver.mjs", tmp_path)
    return (str(NODE), str(tmp_path / "receiver.mjs"))


async def happen(out: Out, *types: str) -> None:
    for type in types:
        await out.pool.execute(
            """INSERT INTO events (type, subject, detail)
               VALUES ($1, 'product:x', '{"title": "Чайник"}')""",
            type,
        )
    await out.send()


async def heard(process: asyncio.subprocess.Process, count: int) -> list[str]:
    """The types that it prints, in order."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return [(await process.stdout.readline()).decode().split()[1] for _ in range(count)]


async def test_receiver_takes_each_event_once(
    pool: Pool, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """In order; a forged call is refused, a repeat and a crash change nothing."""
    (port,) = free_ports(1)
    async with going_out(pool) as out:
        made = await out.endpoint(f"http://127.0.0.1:{port}/")
        environment = {"PORT": str(port), "WEBHOOK_SECRET": made.secret}
        program = Program(command, {**os.environ, **environment, "BOOKS": str(tmp_path / "books")})
        async with program.running() as process:
            await happen(out, "product.created", "product.updated")
            first = await heard(process, 2)
            forged = {"webhook-id": "evt_9", "webhook-timestamp": "1", "webhook-signature": "v1,AA"}
            refused = [await program.call(forged), await program.call(forged, b"\xff")]
        async with program.running() as process:
            sent = [int(one.delivery) for one in await out.all(made.endpoint.webhook)]
            await out.log.repeat(made.endpoint.webhook, sent, SHOP)
            await happen(out, "stock.adjusted")
            again = await heard(process, 1)
            deliveries = await out.all(made.endpoint.webhook)

    assert (first, refused) == (["product.created", "product.updated"], [401, 401])
    assert again == ["stock.adjusted"]
    answers = [attempt.status for one in deliveries for attempt in one.attempts]
    assert answers == [204] * len(answers) and len(answers) >= 5
