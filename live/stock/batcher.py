"""Batches of holds: what arrives while batches are in flight goes with the next one. No timers.

Owns: two connections to each Redis node with one batch on each, and a queue per show. A crowd is
split over the free connections, at most `BATCH_MAX` requests a call.
Always: every request is answered once, with the engine's decision or a `CallError`, at most about
`DEADLINE_SECONDS` after it came; a batch whose reply was lost is repeated whole with the same keys;
one whose show went to another node goes there. A bug costs its own batch a decision, nobody an
answer, and no lane.
Runs on: the event loop; the way of a request that succeeds has no task and no Future.
Timers here guard deadlines only: they never decide when a batch leaves.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

import hiredis
import structlog

from live.aio.tasks import Tasks
from live.base.errors import Busy, CallError, EngineError
from live.base.faults import as_call_error, tell_fault
from live.base.redis_url import NodeUrl, place_of
from live.domain.hold import HoldDecision, Line
from live.domain.ids import ShowId
from live.redis.connection import LOST, Reply, Wire
from live.redis.memory import note_refusal
from live.redis.nodes import REDIRECTIONS
from live.stock import metrics
from live.stock.answers import WANTING, BatchReader
from live.stock.calls import StockCalls, stock_address, stock_scripts
from live.stock.keys import show_keys
from live.stock.letters import StockAnswer
from live.stock.records import read_offers_now

BATCH_MAX: Final = 512  # blocks Redis for 0.8 ms; more would delay everybody else
LANES: Final = 2  # one batch is decided while the other is built and answered
QUEUE_MAX: Final = 50_000  # half a second of work at full speed: beyond it waiting is no service
DEADLINE_SECONDS: Final = 2.0
ATTEMPT_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 0.1
LAST_CHANCE_SECONDS: Final = 0.5  # a batch of requests that waited long may still try once
RECONNECT_SECONDS: Final = 0.02  # also before a slot that moves is asked again
BEHIND: Final = StockAnswer.BEHIND.encode()  # hold.lua names the bound
PREFIXES_MAX: Final = 1_024  # shows with a ready-made command head; more are made anew

Done = Callable[[HoldDecision | CallError], None]
log = structlog.get_logger()


class QueuedHold(NamedTuple):
    packed: bytes
    lines: tuple[Line, ...]
    done: Done
    since: float
    second: bool = False  # refused once while units were about to come free


class Batch:
    __slots__ = ("deadline", "epoch", "requests", "sent_at", "show", "timer")

    def __init__(self, show: ShowId, requests: list[QueuedHold], deadline: float) -> None:
        self.show = show
        self.requests = requests
        self.deadline = deadline
        self.epoch = 0  # the life that it was last sent to
        self.sent_at = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Lane:
    __slots__ = ("batch", "node", "wire")

    def __init__(self, node: NodeUrl) -> None:
        self.node = node
        self.wire: Wire | None = None
        self.batch: Batch | None = None


class Batcher:
    def __init__(self, calls: StockCalls, reap: Callable[[ShowId], Awaitable[object]]) -> None:
        self._calls = calls
        self._nodes = calls.nodes
        self._reap = reap
        self._lanes: dict[NodeUrl, list[Lane]] = {}
        self._queues: dict[ShowId, deque[QueuedHold]] = {}
        self._again: dict[ShowId, list[QueuedHold]] = {}  # wait for a reap that is under way
        self._queued = 0  # in the queues and for a reap
        self._flushing = False
        self._sweeping: asyncio.TimerHandle | None = None
        self._learning: set[ShowId] = set()
        self._tasks = Tasks()
        self._prefixes: dict[tuple[ShowId, int, bytes], bytes] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop  # set by `open`

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        for node in self._nodes.all():
            if self._nodes.clustered:
                self._free_lanes(node)  # connected soon: a dead node's shows wait alone
                continue
            lanes = self._lanes[node] = [Lane(node) for _ in range(LANES)]
            for lane in lanes:
                lane.wire = await stock_address(node).connect(self._lost)

    async def close(self) -> None:
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._tasks.close()
        for lane in self._all_lanes():
            if lane.wire is not None:
                lane.wire.abort()
            if lane.batch is not None:
                self._fail(self._take_off(lane), "shutting down")
        for show in list(self._queues):
            self._fail(self._queues.pop(show), "shutting down")
        for show in list(self._again):
            self._fail(self._again.pop(show), "shutting down")
        await asyncio.sleep(0)

    def must_reach(self) -> None:
        """Raise EngineError where holds of no show at all could be decided now."""
        if not any(lane.wire is not None and lane.wire.alive for lane in self._all_lanes()):
            raise EngineError("no connection that decides holds")

    def submit(self, show: ShowId, packed: bytes, lines: tuple[Line, ...], done: Done) -> None:
        """Queue one request; `done` is called from the event loop, never from inside this call."""
        if self._queued >= QUEUE_MAX or self._closed:
            metrics.BUSY.labels("queue full").inc()
            self._loop.call_soon(_tell, done, Busy("too many requests wait for the stock engine"))
            return
        queue = self._queues.get(show)
        if queue is None:
            queue = self._queues[show] = deque()
        queue.append(QueuedHold(packed, lines, done, self._loop.time()))
        self._queued += 1
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Fill the free lanes of each node: shows in turn, a crowd split evenly."""
        self._flushing = False
        free_of: dict[NodeUrl, list[Lane]] = {}
        for show in list(self._queues):
            node = self._nodes.of(show)
            free = free_of.get(node)
            if free is None:
                free = free_of[node] = self._free_lanes(node)
            if not free:
                continue
            if self._calls.known_epoch(show) is None or show in self._learning:
                self._learn(show)
                continue
            queue = self._queues.pop(show)  # re-inserted behind the other shows if any remain
            share = min(BATCH_MAX, -(-len(queue) // len(free)))
            while queue and free:
                take = min(share, len(queue))
                requests = [queue.popleft() for _ in range(take)]
                self._queued -= take
                self._send(free.pop(), Batch(show, requests, self._deadline_of(requests)))
            if queue:
                self._queues[show] = queue
        self._watch()

    def _free_lanes(self, node: NodeUrl) -> list[Lane]:
        lanes = self._lanes.setdefault(node, [])
        while len(lanes) < LANES:  # a node that is new to us
            lane = Lane(node)
            lanes.append(lane)
            self._tasks.start("revive", self._revive(lane))
        return [lane for lane in lanes if lane.batch is None and lane.wire is not None]

    def _all_lanes(self) -> list[Lane]:
        return [lane for lanes in self._lanes.values() for lane in lanes]

    def _deadline_of(self, requests: list[QueuedHold]) -> float:
        waited_until = requests[0].since + DEADLINE_SECONDS
        return max(waited_until, self._loop.time() + LAST_CHANCE_SECONDS)

    def _send(self, lane: Lane, batch: Batch) -> None:
        lane.batch = batch
        try:
            self._write(lane, batch)
        except Exception as error:  # whoever was taken off the queue waits nowhere else
            _answer_fault(batch.show, self._take_off(lane), error)
            if lane.wire is not None and lane.wire.waiting:
                lane.wire.abort()  # a reply to what was perhaps not written is out of step
            self._loop.call_soon(self._start_batch)  # for those whom no reply will send

    def _write(self, lane: Lane, batch: Batch) -> None:
        wire = lane.wire
        epoch = self._calls.known_epoch(batch.show)
        assert wire is not None and epoch is not None
        batch.epoch = epoch
        batch.sent_at = now = self._loop.time()
        if batch.timer is not None:
            batch.timer.cancel()
            metrics.REPEATED.inc()
        metrics.BATCH_HOLDS.observe(len(batch.requests))
        patience = max(0.0, min(ATTEMPT_SECONDS, batch.deadline - now))
        batch.timer = self._loop.call_later(patience, self._overdue, lane, batch)
        blob = b"".join([request[0] for request in batch.requests])
        count = b"%d" % len(batch.requests)
        prefix = self._prefix(batch.show, epoch, wire.run_id)
        wire.send(
            b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (prefix, len(blob), blob, len(count), count),
            lambda reply: self._answered(lane, batch, reply),
        )

    def _prefix(self, show: ShowId, epoch: int, run_id: bytes) -> bytes:
        """Everything of the command that does not change from batch to batch."""
        prefix = self._prefixes.get((show, epoch, run_id))
        if prefix is None:
            if len(self._prefixes) >= PREFIXES_MAX:
                self._prefixes.clear()
            k = show_keys(show)
            keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.guests)
            parts = (b"EVALSHA", stock_scripts()["hold"].sha, b"6", *keys, b"%d" % epoch, run_id)
            packed = [b"*%d\r\n" % (len(parts) + 2)]
            packed += [b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]
            prefix = self._prefixes[show, epoch, run_id] = b"".join(packed)
        return prefix

    def _answered(self, lane: Lane, batch: Batch, reply: Reply) -> None:
        if lane.batch is not batch or reply is LOST:
            return  # given up already; or the lane's revival repeats the batch
        if isinstance(reply, list):
            self._take_off(lane)
            metrics.BATCH_SECONDS.observe(self._loop.time() - batch.sent_at)
            self._decided(batch, reply)
            if not self._flushing and self._queues:
                self._flushing = True
                self._flush()
            return
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            if text.startswith(("NOSCRIPT", "READONLY")):
                assert lane.wire is not None
                lane.wire.abort()  # another server: its revival asks who it is, then repeats
                return
            if text.startswith(REDIRECTIONS):
                self._nodes.redirected(text, lane.node)
                self._move_on(batch.show, self._take_off(lane))
                return
            if not note_refusal(text):  # which come by the thousand, and are told by the watch
                log.warning("batch refused by redis", show=batch.show, error=text)
            self._fail(self._take_off(lane), "Redis cannot decide now")
        elif reply == BEHIND:
            self._fail(self._take_off(lane), "the ledger is too far behind")
        else:  # another life of the show: look which, then ask that one, if there is one
            self._requeue(batch.show, self._take_off(lane))
            self._learn(batch.show, refused=batch.epoch)
        self._start_batch()

    def _decided(self, batch: Batch, reply: list[object]) -> None:
        done_with = 0
        try:
            statuses, now, offers_blob, details, due = reply
            assert isinstance(statuses, bytes) and isinstance(now, int)
            assert isinstance(offers_blob, bytes) and isinstance(details, bytes)
            answer_of = BatchReader(now, read_offers_now(offers_blob), details).answer
            for status, request in zip(statuses, batch.requests, strict=True):
                answer = answer_of(status, request.lines)
                if due and status in WANTING and not request.second:
                    self._try_again(batch.show, request)
                else:
                    _tell(request.done, answer)
                done_with += 1
        except Exception as error:  # the reply has come: nothing else would answer the others
            _answer_fault(batch.show, batch.requests[done_with:], error)

    def _try_again(self, show: ShowId, request: QueuedHold) -> None:
        """Units are due to come free: reap, then ask once more before saying no."""
        if show not in self._again:
            self._again[show] = []
            self._tasks.start("reap", self._reap_and_requeue(show), show=show)
        self._again[show].append(request._replace(second=True))
        self._queued += 1
        self._watch()

    async def _reap_and_requeue(self, show: ShowId) -> None:
        try:
            await self._reap(show)
        except CallError as error:
            log.warning("reap before a refusal failed", show=show, error=str(error))
        finally:  # whatever became of it, nobody waits for it any longer
            again = self._again.pop(show)
            self._queued -= len(again)
            self._requeue(show, again)
            self._start_batch()

    def _requeue(self, show: ShowId, requests: list[QueuedHold]) -> None:
        """Put requests back in front of their show's queue, in their order."""
        if requests:
            self._queues.setdefault(show, deque()).extendleft(reversed(requests))
            self._queued += len(requests)

    def _move_on(self, show: ShowId, requests: list[QueuedHold]) -> None:
        """Nothing ran: the show's slot is on another node, or on its way. Ask again in a moment."""
        oldest = self._loop.time() - DEADLINE_SECONDS
        self._fail((one for one in requests if one.since <= oldest), "Redis does not answer")
        self._requeue(show, [one for one in requests if one.since > oldest])
        self._learn(show, after=RECONNECT_SECONDS)
        self._start_batch()

    def _start_batch(self) -> None:
        if not self._flushing and self._queues and not self._closed:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _take_off(self, lane: Lane) -> list[QueuedHold]:
        batch, lane.batch = lane.batch, None
        assert batch is not None
        if batch.timer is not None:
            batch.timer.cancel()
        return batch.requests

    def _fail(self, requests: Iterable[QueuedHold], text: str) -> None:
        for request in requests:
            metrics.BUSY.labels(text).inc()
            _tell(request.done, Busy(text))

    def _overdue(self, lane: Lane, batch: Batch) -> None:
        if lane.batch is not batch:
            return
        if self._loop.time() >= batch.deadline:
            self._fail(self._take_off(lane), "Redis does not answer")
        else:
            left = batch.deadline - self._loop.time()
            batch.timer = self._loop.call_later(left, self._overdue, lane, batch)
        if lane.wire is not None:
            lane.wire.abort()  # what it still answers would be taken for the next batch's
            self._nodes.look_soon()  # perhaps another node has its shows by now

    def _lost(self, wire: Wire) -> None:
        for lane in self._all_lanes():
            if lane.wire is wire:
                lane.wire = None
                if not self._closed:
                    self._tasks.start("revive", self._revive(lane))

    async def _revive(self, lane: Lane) -> None:
        """Bring a lane back, whatever goes wrong on the way: nothing else would."""
        while True:
            try:
                await self._reconnect(lane)
                return
            except Exception as error:  # what engines raise is none: `_reconnect` goes on by itself
                tell_fault("task.failed", error, task="revive", node=place_of(lane.node))
                await asyncio.sleep(ATTEMPT_SECONDS)

    async def _reconnect(self, lane: Lane) -> None:
        """Connect again, then repeat the batch that was under way; or give its node up."""
        wire: Wire | None = None
        while wire is None or not wire.alive:
            await asyncio.sleep(RECONNECT_SECONDS)  # a server that hangs up at once is not flooded
            self._hand_over(lane)
            if lane.node not in self._nodes.all():
                self._lanes[lane.node].remove(lane)
                return
            try:
                wire = await stock_address(lane.node).connect(self._lost)
            except (OSError, TimeoutError, EngineError) as error:
                self._calls.note_fault(lane.node, error)
                await self._nodes.look()
        self._calls.note_link(lane.node)
        metrics.RECONNECTS.inc()
        lane.wire = wire
        if lane.batch is not None:
            self._send(lane, lane.batch)
        else:
            self._start_batch()

    def _hand_over(self, lane: Lane) -> None:
        """Let a batch go that was on its way to where its show is no more."""
        batch = lane.batch
        if batch is not None and self._nodes.of(batch.show) != lane.node:
            self._move_on(batch.show, self._take_off(lane))

    def _learn(self, show: ShowId, *, after: float = 0.0, refused: int | None = None) -> None:
        """Look which life the show is in; `refused` is one in which nothing is decided."""
        if show not in self._learning:
            self._learning.add(show)
            self._tasks.start("learn", self._learn_then_flush(show, after, refused), show=show)

    async def _learn_then_flush(self, show: ShowId, after: float, refused: int | None) -> None:
        try:
            await asyncio.sleep(after)
            await self._calls.learn_other_epoch(show, refused)
        except CallError as error:
            self._fail(self._drop(show), str(error))
        except Exception as error:  # it would be the same for each of them
            _answer_fault(show, self._drop(show), error)
        finally:
            self._learning.discard(show)
        self._start_batch()

    def _drop(self, show: ShowId) -> Iterable[QueuedHold]:
        queue = self._queues.pop(show, deque())
        self._queued -= len(queue)
        return queue

    def _watch(self) -> None:
        """See to it that whoever waits is swept in time."""
        if self._sweeping is None and (self._queues or self._again) and not self._closed:
            self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Answer those who have waited for as long as a batch may take."""
        self._sweeping = None
        oldest = self._loop.time() - DEADLINE_SECONDS
        for show, queue in list(self._queues.items()):
            late = []
            while queue and queue[0].since <= oldest:
                late.append(queue.popleft())
            self._queued -= len(late)
            if not queue:
                del self._queues[show]
            self._fail(late, "Redis does not answer")
        for show, again in list(self._again.items()):
            late = [request for request in again if request.since <= oldest]
            if late:
                self._again[show] = [request for request in again if request.since > oldest]
                self._queued -= len(late)
                self._fail(late, "Redis does not answer")
        self._watch()


def _tell(done: Done, answer: HoldDecision | CallError) -> None:
    try:
        done(answer)
    except Exception as error:  # one buyer's broken callback must not cost the others their answer
        tell_fault("hold.unanswered", error)


def _answer_fault(show: ShowId, requests: Iterable[QueuedHold], error: Exception) -> None:
    """A bug of ours stands between these requests and their decision: each is told so, once."""
    tell_fault("hold.unanswered", error, show=show)
    for request in requests:
        _tell(request.done, as_call_error("hold.unanswered", error, show=show))
