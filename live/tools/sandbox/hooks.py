"""The sandbox's webhooks: sent at least once, and late, twice or out of order where a test asks.

Always: an event leaves the books only after a 2xx answer or after its last try; at most
`BATCH` calls are open at once.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from functools import partial

import structlog

from live.aio.loops import Backoff, pause, repeat
from live.payments.http_client import HttpClient
from live.payments.webhooks import signed_headers, signing_key
from live.tools.sandbox.books import Books, Event

BATCH = 32
TIMEOUT_SECONDS = 5.0
COPIES_MAX = 100
IDLE_SECONDS = 0.25  # how long an event that is due later may be overslept
BACKOFF = Backoff(0.2, seconds_max=30.0)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HookRules:
    delay_ms: int = 0
    copies: int = 1
    shuffle: bool = False


class HookSender:
    """Reads due events from the books and posts them; one task."""

    def __init__(self, books: Books, *, url: str | None, key: str, uds: str | None) -> None:
        self.rules = HookRules()
        self._books = books
        self._url = url or ""
        self._key = signing_key(key)
        self._uds = uds
        self._news = asyncio.Event()

    def wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        client = HttpClient(self._url, headers={}, timeout_seconds=TIMEOUT_SECONDS, uds=self._uds)
        try:
            await repeat("webhooks", partial(self._turn, client), backoff=BACKOFF)
        finally:
            await client.close()

    async def _turn(self, client: HttpClient) -> None:
        self._news.clear()
        if not await self._pass(client):
            await pause(IDLE_SECONDS, self._news)

    async def _pass(self, client: HttpClient) -> bool:
        rules = self.rules
        now = int(time.time() * 1000)
        events = self._books.due_events(now_ms=now - rules.delay_ms, limit=BATCH)
        posts = [event for event in events for _ in range(min(rules.copies, COPIES_MAX))]
        if rules.shuffle:
            random.shuffle(posts)
        done: dict[int, bool] = {}
        for start in range(0, len(posts), BATCH):
            part = posts[start : start + BATCH]
            results = await asyncio.gather(*(self._post(client, event) for event in part))
            for event, ok in zip(part, results, strict=True):
                done[event.number] = done.get(event.number, True) and ok
        for event in events:
            if done[event.number]:
                self._books.event_done(event.number)
            else:
                wait_ms = int(1_000 * BACKOFF.seconds(event.tries + 1))
                self._books.event_again(event, due_ms=now + wait_ms)
        return bool(events)

    async def _post(self, client: HttpClient, event: Event) -> bool:
        headers = signed_headers(
            self._key, event=event.id, timestamp=int(time.time()), body=event.body
        )
        answer = await client.call("POST", "", headers=headers, content=event.body)
        ok = answer is not None and answer.ok
        if not ok:
            log.warning("sandbox.webhook_failed", event_id=event.id, tries=event.tries)
        return ok
