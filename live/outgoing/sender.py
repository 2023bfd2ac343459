"""The sender: what is due to an endpoint goes there, one endpoint beside the other.

Owns: calls under way, and how many each endpoint bears; all else stands in Postgres under leases.
Always: an endpoint has one call of its own at any time, further ones share EXTRA_MAX, so neither a
slow nor a dead one delays another; one that fails gets fewer calls at once, down to one, and more
with each answer that is good. Of one subject the next event is sent when the one before it arrived
or was given up. Run several of these, kill any of them at any point: the next one sends again.
Runs on: one task of the settler role, and a task for each endpoint with something due.
Not here: which events go where (live/ledger/events/sequencer.py), what an address must be (guard).
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from live.aio.coalesce import Coalescer
from live.aio.loops import Backoff, pause, repeat
from live.aio.tasks import Tasks, cancel_all
from live.base.failpoint import failpoint
from live.base.faults import tell_fault
from live.domain.outgoing.deliveries import Attempted, DueDelivery
from live.domain.outgoing.retries import (
    GONE,
    THROTTLING,
    pause_seconds,
    read_retry_after,
    rest_seconds,
)
from live.domain.outgoing.webhooks import DeliveryState
from live.outgoing.bodies import body_of, headers_of
from live.outgoing.metrics import ATTEMPTS, DEAD, name_of
from live.outgoing.ports import DeliveryPort, PostPort, Receipt

EXTRA_MAX = 64  # calls of a process beyond the first of each endpoint
WINDOW_MAX = 16  # calls at once to one endpoint: a quarter of them
WINDOW_FIRST = 4
IDLE_SECONDS = 0.25  # a look at the table where nobody woke us
LINGER_SECONDS = 3.0  # for calls under way when the process is to stop; later ones are sent again
RECORDED_TOGETHER_MAX = 200
BACKOFF = Backoff(0.1, seconds_max=5.0)


@dataclass(slots=True)
class _Line:
    """The calls to one endpoint; `window` of them may be under way."""

    webhook: str
    window: int = WINDOW_FIRST
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    sent: bool = False  # something, since it was looked at last

    def learn(self, good: bool) -> None:
        """One more at once after a good answer, half as many after another."""
        self.window = min(WINDOW_MAX, self.window + 1) if good else max(1, self.window // 2)


class WebhookSender:
    """`chance` in 0..1 and `clock` (Unix seconds) are a test's."""

    def __init__(
        self,
        rows: DeliveryPort,
        post: PostPort,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = rows
        self._post = post
        self._chance = chance
        self._clock = clock
        self._awake = asyncio.Event()
        self._lines: dict[str, _Line] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._tasks = Tasks()
        self._recorder: Coalescer[Attempted, None] = Coalescer(
            rows.record,
            batch_max=RECORDED_TOGETHER_MAX,
            waiting_max=10 * (EXTRA_MAX + RECORDED_TOGETHER_MAX),
        )

    def wake(self) -> None:
        """There is something to send: look now."""
        self._awake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; what is under way then has LINGER_SECONDS to end."""

        async def turn() -> None:
            self._awake.clear()
            await self._look()
            await pause(IDLE_SECONDS, self._awake, stop)

        try:
            await repeat("webhooks", turn, stop, backoff=BACKOFF)
        finally:
            await self._end()

    async def send_due(self) -> None:
        """Send what is due now, to its end."""
        await self._look()
        while self._serving:
            await asyncio.wait(list(self._serving.values()))

    async def _look(self) -> None:
        for webhook in await self._rows.due_endpoints():
            if webhook not in self._serving:
                line = self._lines.setdefault(webhook, _Line(webhook))
                task = self._tasks.start("webhooks", self._serve(line), webhook=webhook)
                self._serving[webhook] = task
                task.add_done_callback(partial(self._served, line))

    def _served(self, line: _Line, _task: asyncio.Task[None]) -> None:
        del self._serving[line.webhook]
        if line.window >= WINDOW_FIRST:  # nothing bad to remember of it
            del self._lines[line.webhook]
        if line.sent and not self._stopping:
            self.wake()  # something may have become due while it ended
        line.sent = (
            False  # else what is due stands behind what waits, and a look at it mends nothing
        )

    async def _serve(self, line: _Line) -> None:
        """Send to one endpoint until nothing is due there any more."""
        try:
            while True:
                for due in await self._take(line):
                    call = asyncio.create_task(self._deliver(line, due))
                    line.calls.add(call)
                    call.add_done_callback(line.calls.discard)
                    line.sent = True
                if not line.calls:
                    return
                await asyncio.wait(line.calls, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_all(line.calls)

    async def _take(self, line: _Line) -> list[DueDelivery]:
        """As many as may be under way beside those that are."""
        extra = EXTRA_MAX - sum(max(0, len(one.calls) - 1) for one in self._lines.values())
        own = 0 if line.calls else 1
        free = min(line.window - len(line.calls), own + max(0, extra))
        if free <= 0 or self._stopping:
            return []
        try:
            return await self._rows.take(line.webhook, limit=free)
        except Exception as error:  # Postgres fails in many ways; the calls under way go on
            tell_fault("webhooks.not_taken", error, webhook=line.webhook)
            return []

    async def _deliver(self, line: _Line, due: DueDelivery) -> None:
        """One try, and what is written of it."""
        began = self._clock()
        try:
            receipt = await self._try(due)
        except Exception as error:  # a bug of ours in one of them stops no other
            tell_fault("webhooks.unsent", error, webhook=due.webhook, delivery=due.delivery)
            receipt = Receipt(None, "a fault of the sender; its log says more")
        failpoint("webhooks.sent")
        end = self._judge(due, receipt, began)
        line.learn(end.good)
        ATTEMPTS.labels(name_of(due.webhook), end.state.value if end.good else "failed").inc()
        if end.state is DeliveryState.DEAD:
            DEAD.inc()
        try:
            await self._recorder.ask(end)
        except Exception as error:  # the lease ends, and it is sent once more
            tell_fault("webhooks.unrecorded", error, webhook=due.webhook, delivery=due.delivery)

    async def _try(self, due: DueDelivery) -> Receipt:
        if due.event is not None and due.data is None:
            return Receipt(None, "the event is older than it is kept")
        body = body_of(due)
        headers = headers_of(due, body, clock=self._clock)
        return await self._post.post(due.url, headers, body)

    def _judge(self, due: DueDelivery, receipt: Receipt, began: float) -> Attempted:
        """What follows from an answer, by Standard Webhooks: 2xx is good, and nothing else is."""
        status = receipt.status
        good = status is not None and 200 <= status < 300
        wait, rest = None, None
        lost = due.event is not None and due.data is None
        if not good and not lost and status != GONE:
            # Ahead of its time: its own comes later, and this is how soon that may be.
            tries = 1 if due.ahead else due.tries + 1
            wait = pause_seconds(tries, chance=self._chance())
            asked = read_retry_after(receipt.retry_after, now=self._clock())
            if status in THROTTLING:
                rest = rest_seconds(due.throttles + 1) if asked is None else asked
            if wait is not None:
                wait = max(wait, asked or 0.0, rest or 0.0)
        state = DeliveryState.DELIVERED if good else DeliveryState.DUE
        if not good and wait is None:
            state = DeliveryState.DEAD
        return Attempted(
            delivery=due.delivery,
            webhook=due.webhook,
            subject=due.subject,
            lease=due.lease,
            state=state,
            at=int(began * 1000),
            status=status,
            ms=max(0, int((self._clock() - began) * 1000)),
            answer=receipt.answer,
            pause_seconds=wait,
            rest_seconds=rest,
            gone=status == GONE,
            ahead=due.ahead,
            test=due.event is None,
        )

    async def _end(self) -> None:
        self._stopping = True
        serving = list(self._serving.values())
        if serving:
            await asyncio.wait(serving, timeout=LINGER_SECONDS)
        await cancel_all(serving)
        await self._recorder.close()
