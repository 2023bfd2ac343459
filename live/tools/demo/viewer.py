"""One simulated viewer: watches, presses Buy, pays or not, comes back after a lost connection.

Owns: the viewer's client, and their keys until each has a verdict.
Always: a key's question is repeated with the same key until it is answered or `TRIES_MAX` is
reached; only then is it `unknown`. What they were told is written down before anything else
happens.
Runs on: the event loop of its audience process; `hear` never awaits.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine

import msgspec

from live.client import CallFailed, Client, Connected, Disconnected, NoAnswer, Published
from live.client.events import News
from live.domain.channels import ChannelKind, personal_name, wire_name
from live.domain.offer import Phase
from live.tools.demo.crowd import Fate, Plan
from live.tools.demo.purchase import ViewerPurchase
from live.tools.demo.seen import EventSeen, OfferSeen, read_event, read_snapshot
from live.tools.demo.stage import Stage
from live.tools.demo.tally import KeyVerdict, Told

TRIES_MAX = 8  # per question; with the pauses below and the client's longer than a restart takes
PAUSE_SECONDS_MAX = 2.0
EARLY_CLICK_MS = 20  # an eager viewer's clock runs ahead by this much
FINISH_SECONDS = 3.0  # what calls under way get after the order to stop

CHAT_NAMES = ("Ana", "Ben", "Chiyo", "Dara", "Emre", "Femi", "Gul", "Hugo", "Ines", "Jun")
CHAT_LINES = (
    "that colour is lovely",
    "does it come in blue?",
    "hello from the kitchen!",
    "how long is the cable?",
    "mine from last year still works",
    "when does it start?",
)


class DemoViewer:
    def __init__(self, stage: Stage, plan: Plan, sub: str, token: str, *, seed: int) -> None:
        self.stage = stage
        self.plan = plan
        self.sub = sub
        self.tally = stage.tally
        self.offer = stage.offer
        self.over = stage.over
        self.client: Client  # from the beginning of `run` on
        self.purchases: dict[str, ViewerPurchase] = {}  # by key
        self._token = token
        self._seed = seed
        self._said = 0
        self._rng = random.Random(seed)
        self._opened = False
        self._thrown_out = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []

    async def run(self) -> None:
        """Watch until told to stop; then leave, with a verdict on every key."""
        stage = self.stage
        stage.tally.viewers += 1
        self.client = Client(
            stage.url,
            token=self._token,
            data={"show": stage.show},
            name="demo",
            listener=self.hear,
            gate=stage.gate,
        )
        async with self.client:
            stopping = asyncio.create_task(stage.stop.wait())
            thrown_out = asyncio.create_task(self._thrown_out.wait())
            await asyncio.wait((stopping, thrown_out), return_when=asyncio.FIRST_COMPLETED)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=FINISH_SECONDS)
            helpers = (stopping, thrown_out, *self._tasks)
            for task in helpers:
                task.cancel()
            results = await asyncio.gather(*helpers, return_exceptions=True)
        for purchase in self.purchases.values():
            purchase.settle(KeyVerdict.UNKNOWN, "unfinished")
        for fault in (*self._faults, *results):
            if isinstance(fault, Exception):
                raise fault

    # -- the connection

    def hear(self, news: News) -> None:
        """Take what the client tells, in the moment in which it is read."""
        if isinstance(news, Published):
            self._on_publication(news)
        elif isinstance(news, Connected):
            self._welcome(news)
        elif isinstance(news, Disconnected):
            self._on_end(news)

    def _welcome(self, connected: Connected) -> None:
        tally = self.tally
        tally.connected += 1
        tally.connects += 1
        tally.recovered += connected.recovered is True
        tally.restarted += connected.recovered is False
        snapshot = read_snapshot(connected.data)
        if snapshot is None:
            return
        for offer in snapshot.show.offers if snapshot.show is not None else ():
            self._see_offer(offer)
        for hold in snapshot.me.holds if snapshot.me is not None else ():
            if hold.hold in self.purchases:
                # A grant may have come while nobody listened.
                self.purchases[hold.hold].tell(EventSeen(type="hold.granted", hold=hold))

    def _on_end(self, end: Disconnected) -> None:
        if end.was_connected:
            self.tally.connected -= 1
        if not self.stage.stop.is_set():
            self.tally.closes += end.was_connected
            self.tally.note_failure(f"{'connect' if end.refused else 'closed'} {end.code}")
        if end.retry_seconds is None:
            self._thrown_out.set()

    async def ask(self, method: str, data: object) -> bytes:
        """Call until answered, always the same request. Raises CallFailed, or NoAnswer at last."""
        for tries in range(TRIES_MAX):
            try:
                return await self.client.rpc(method, data)
            except NoAnswer:
                self.tally.note_failure(f"{method} no answer")
            except CallFailed as failure:
                self.tally.note_failure(f"{method} {failure.code}")
                if not failure.temporary:
                    raise
            self.tally.repeats += 1
            await asyncio.sleep(min(PAUSE_SECONDS_MAX, 0.1 * 2.0**tries) * self._rng.random())
        raise NoAnswer(f"{method} was not answered in {TRIES_MAX} tries")

    # -- what they see

    def _on_publication(self, news: Published) -> None:
        try:
            event = read_event(news.data)
        except msgspec.DecodeError:
            self.tally.note_failure("unreadable event")
            return
        if news.channel == personal_name(self.sub):
            purchase = self.purchases.get(event.key)
            if purchase is not None:
                purchase.tell(event)
            self.tally.note_outcome(event.type)
        elif event.offer is not None and event.offer.id == self.stage.offer:
            if event.type == "offer.opened" and news.at is not None and not self._opened:
                self.tally.fanout.add(news.at - event.at)
            self._see_offer(event.offer)

    def _see_offer(self, offer: OfferSeen) -> None:
        if offer.id != self.stage.offer:
            return
        if offer.phase == Phase.SCHEDULED and self.plan.buys and self.plan.eager:
            if not self.purchases and offer.opens_at is not None:
                wait = offer.opens_at / 1000 - time.time() - EARLY_CLICK_MS / 1000
                self._start(self._click_early(max(0.0, wait)))
        elif offer.phase == Phase.OPEN and not self._opened:
            self._opened = True
            self._evening()
        elif offer.phase in (Phase.CLOSING, Phase.CLOSED):
            self.stage.over.set()

    def _evening(self) -> None:
        """The offer is open: everything this viewer planned starts now."""
        plan, seconds = self.plan, self.stage.sale_seconds
        if plan.buys:
            self._start(self._shop())
        for moment in plan.chat_at:
            self._start(self._after(moment * seconds, self._chat))
        for moment in plan.react_at:
            self._start(self._after(moment * seconds, self._react))
        if plan.drop_at is not None:
            self._start(self._after(plan.drop_at * seconds, self._drop))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None:  # a bug of ours: the process must not look healthy
            self._faults.append(fault)

    async def _after(self, seconds: float, work: Callable[[], Coroutine[None, None, None]]) -> None:
        await asyncio.sleep(seconds)
        await work()

    # -- what they do

    def _purchase(self, qty: int) -> ViewerPurchase:
        """A new key; it stays on the list until the end."""
        purchase = ViewerPurchase(self, qty, self.plan.think_ms / 1000)
        self.purchases[purchase.key] = purchase
        self.tally.keys += 1
        return purchase

    def write_down(self, told: Told) -> None:
        self.stage.told.append(told)

    async def _click_early(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self.purchases:
            await self._purchase(self.plan.qty).click()

    async def _shop(self) -> None:
        plan, stage = self.plan, self.stage
        await asyncio.sleep(plan.reaction_ms / 1000)
        first = next(iter(self.purchases.values()), None) or self._purchase(plan.qty)
        extra = [self._purchase(1) for _ in range(plan.extra_keys)]
        clicks = [first.click() for _ in range(plan.clicks_same_key)]
        await asyncio.gather(*clicks, *(purchase.click() for purchase in extra))
        mine = [purchase for purchase in (first, *extra) if purchase.is_held]
        if sum(purchase.qty for purchase in mine) > stage.per_buyer_limit:
            self.tally.over_limit += 1
        for purchase in (first, *extra):
            if not purchase.is_held:
                purchase.give_up()
        sold_out = first.outcome == "sold_out" and plan.waits
        jobs = [purchase.finish(plan.fate if purchase is first else Fate.PAY) for purchase in mine]
        if sold_out and not mine:
            jobs.append(self._purchase(plan.qty).wait_in_line())
        await asyncio.gather(*jobs)

    async def _chat(self) -> None:
        channel = wire_name(ChannelKind.CHAT, self.stage.show)
        self._said += 1  # each line once: the shop's chat refuses a repeat
        text = CHAT_LINES[(self._said + self._seed) % len(CHAT_LINES)]
        name = CHAT_NAMES[self._seed % len(CHAT_NAMES)]
        await self._aside("chat", self.client.publish(channel, {"text": text, "name": name}))
        self.tally.chat_lines += 1

    async def _react(self) -> None:
        kind = self._rng.choice(("heart", "fire", "clap"))
        call = self.client.rpc("react", {"show": self.stage.show, "kind": kind})
        await self._aside("react", call)
        self.tally.reactions += 1

    async def _aside(self, name: str, call: Coroutine[None, None, object]) -> None:
        """Chat and reactions are not worth a repeat: a failure is counted, nothing more."""
        try:
            await call
        except CallFailed as failure:
            self.tally.note_failure(f"{name} {failure.code}")
        except NoAnswer:
            self.tally.note_failure(f"{name} no answer")

    async def _drop(self) -> None:
        self.client.cut()
