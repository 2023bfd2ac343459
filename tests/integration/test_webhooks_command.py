"""`live webhooks` at the terminal: a process of its own, on a ledger with endpoints."""

import asyncio
import os
import subprocess
import sys

from live.domain.outgoing.webhooks import DeliveryState
from live.ledger.db.pool import Pool
from tests.support.events_kit import going_out
from tests.support.receiver import receiving


async def live(
    database_url: str, redis_url: str, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LIVE_")},
        "LIVE_DATABASE_URL": database_url,
        "LIVE_REDIS_URL": redis_url,
        "LIVE_SECRET": "a secret that is long enough for HS256",
    }
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "live", "webhooks", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_endpoints_are_listed_tested_and_replayed(
    pool: Pool, database_url: str, redis_url: str
) -> None:
    """Without a secret in what is shown."""
    async with going_out(pool) as out, receiving() as shop:
        await pool.execute("INSERT INTO events (type, subject) VALUES ('order.paid', 'order:x')")
        await out.place()
        made = await out.endpoint(shop.url, "order.*")
        webhook = made.endpoint.webhook

        listed = await live(database_url, redis_url, "list")
        tested = await live(database_url, redis_url, "test", webhook)
        since = ("--since", "2026-01-01", "--type", "order.paid")
        replayed = await live(database_url, redis_url, "replay", webhook, *since)
        await out.send()

        assert webhook in listed.stdout and shop.url in listed.stdout, listed.stderr
        assert made.secret not in listed.stdout
        assert (tested.returncode, replayed.returncode) == (0, 0), tested.stderr + replayed.stderr
        assert sorted(one.type for one in shop.got) == ["order.paid", "webhook.test"]
        states = {one.state for one in await out.all(webhook)}
        assert states == {DeliveryState.DELIVERED}


async def test_endpoint_is_paused_looked_at_and_made_active(
    pool: Pool, database_url: str, redis_url: str
) -> None:
    """What waits for minutes is sent once it is active, and the terminal says how many that is."""
    async with going_out(pool) as out, receiving() as shop:
        webhook = (await out.endpoint(shop.url, "order.*")).endpoint.webhook
        await pool.execute("INSERT INTO events (type, subject) VALUES ('order.paid', 'order:x')")
        shop.status(500)
        await out.send()
        shop.answer = None

        paused = await live(database_url, redis_url, "set", webhook, "paused")
        shown = await live(database_url, redis_url, "deliveries", webhook, "--state", "due")
        none = await live(database_url, redis_url, "deliveries", webhook, "--state", "dead")
        since = ("--since", "2026-01-01T00:00+01:00")
        waits = await live(database_url, redis_url, "replay", webhook, *since)
        active = await live(database_url, redis_url, "set", webhook, "active")
        await out.send()

        assert "wait: 1" in paused.stdout, paused.stderr
        assert "order.paid  due  tries 1: 500 at" in shown.stdout, shown.stderr
        assert "no deliveries" in none.stdout
        assert "order: 1" in waits.stdout and "is paused" in waits.stdout, waits.stderr
        assert "sends now: 1" in active.stdout, active.stderr
        assert {one.state for one in await out.all(webhook)} == {DeliveryState.DELIVERED}


async def test_wrong_words_are_told(pool: Pool, database_url: str, redis_url: str) -> None:
    unknown = "6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10"
    for arguments, words in (
        (("test",), "name an endpoint"),
        (("replay", unknown), "--since is missing"),
        (("test", unknown), "unknown webhook"),
        (("replay", unknown, "--since", "2026-01-01"), "unknown webhook"),
        (("replay", unknown, "--since", "soon"), "no time"),
        (("set", unknown), "active or paused"),
        (("set", unknown, "disabled"), "active or paused"),
        (("deliveries", unknown), "unknown webhook"),
        (("deliveries",), "name an endpoint"),
    ):
        told = await live(database_url, redis_url, *arguments)

        assert told.returncode == 2 and words in told.stderr, told.stderr
