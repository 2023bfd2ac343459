"""The crowd of `live bench fanout` and `purchase`: thousands of light WebSocket clients.

A process of its own: `python -m live.tools.bench.crowd SECRET SHOW KIND`. Works on frames:
what is sent was built before anything is measured (with a mask of zeros, which the server must
still apply), and one connection in `EAR_EVERY` is an ear (phone.py).
"""

import asyncio
import gc
import random
import sys
import time
from collections.abc import Iterator
from typing import Final
from uuid import uuid4

import uvloop

from live.api.auth import Authenticator
from live.base.errors import EngineError
from live.base.settings import Guests
from live.client.frames import encode_command
from live.domain.caller import ALL_SHOWS, Role
from live.run.process import follow_parent
from live.tools.bench.link import Figures, Order, obey
from live.tools.bench.offer import OFFER
from live.tools.bench.phone import (
    FIRST_CLICK,
    REFUSED_SECONDS,
    PackedPhone,
    Phone,
    Unpacker,
    text_frame,
)

AT_ONCE: Final = 256  # handshakes and joins in flight
EAR_EVERY: Final = 20
PHASE_SECONDS: Final = 60.0
BACK_SECONDS: Final = 0.5  # until who was sent away dials again: the least that the SDKs wait
ROUNDS_MAX: Final = 30
TOKEN_SECONDS: Final = 3_600


class Crowd:
    """All clients, and what they are asked to do together."""

    def __init__(self, secret: str, show: str, *, packed: bool) -> None:
        self._auth = Authenticator(secret, guests=Guests.OFF)
        self._show = show
        self._packed = packed
        self._unpacker = Unpacker()
        self.received = 0
        self.clients: list[Phone] = []
        self.latencies: list[float] = []
        self._deliveries = 0
        self._missing = 0  # of what the present order waits for
        self._away: list[Phone] = []  # who were told to come back later
        self._leaving: set[Phone] = set()  # whose connections are meant to end
        self._done: asyncio.Future[None] | None = None
        self._next: Iterator[None] = iter(())

    # Called by clients

    def arrived(self) -> None:
        """One client has done its part; the next one may begin."""
        next(self._next, None)
        self._count_down(1)

    def heard(self, publications: int) -> None:
        self._deliveries += publications
        self._count_down(publications)

    def fail(self, reason: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(EngineError(reason))

    def sent_away(self, client: Phone) -> None:
        """They were told to come back later."""
        self._leaving.add(client)
        self._away.append(client)
        self.arrived()

    def lost(self, client: Phone) -> None:
        if client not in self._leaving:
            self.fail("the server closed a connection")

    def _count_down(self, number: int) -> None:
        self._missing -= number
        if self._missing <= 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _until(self, number: int) -> None:
        """Wait for so many arrivals or deliveries."""
        self._missing += number
        self._done = asyncio.get_running_loop().create_future()
        self._count_down(0)
        try:
            async with asyncio.timeout(PHASE_SECONDS):
                await self._done
        except TimeoutError as fault:
            raise EngineError(f"{self._missing} answers are missing") from fault
        finally:
            self._done = None

    # Orders

    async def connect(self, order: Order) -> Figures:
        """Open `number` connections to `port`, `at_once` (or AT_ONCE) handshakes in flight."""
        self._leaving.clear()
        self._unpacker = Unpacker()  # with the first of them a new stream begins
        self.clients = [self._make(ear=n % EAR_EVERY == 0) for n in range(order.number)]
        return {"seconds": await self._dial(self.clients, order)}

    async def join(self, order: Order) -> Figures:
        """Send `connect` with a token of its own on each connection, wait for all answers.

        Who is told to come back counts as answered, and as `sent_away`.
        """
        self._away.clear()
        cpu = time.process_time()
        return {
            "seconds": await self._enter(self.clients, order),
            "own_cpu_seconds": time.process_time() - cpu,
            "sent_away": float(len(self._away)),
        }

    async def come_back(self, order: Order) -> Figures:
        """Who was sent away dials and joins again after a while, until all are in."""
        rounds = 0
        while self._away and rounds < ROUNDS_MAX:
            rounds += 1
            await asyncio.sleep(BACK_SECONDS)
            gone, self._away = set(self._away), []
            again = [self._make(ear=False) for _ in gone]
            self.clients = [client for client in self.clients if client not in gone] + again
            await self._dial(again, order)
            await self._enter(again, order)
        return {"rounds": float(rounds), "sent_away": float(len(self._away))}

    def _make(self, *, ear: bool) -> Phone:
        return PackedPhone(self, self._unpacker, ear=ear) if self._packed else Phone(self, ear=ear)

    async def _dial(self, clients: list[Phone], order: Order) -> float:
        """Open these connections; how long it took."""
        loop = asyncio.get_running_loop()
        started: list[asyncio.Task[object]] = []

        def start() -> Iterator[None]:
            for client in clients:
                dial = loop.create_connection(lambda c=client: c, "127.0.0.1", order.port)  # type: ignore[misc]  # the default carries it
                started.append(loop.create_task(dial))
                yield

        took = await self._flow(start(), len(clients), order.at_once)
        await asyncio.gather(*started)
        return took

    async def _enter(self, clients: list[Phone], order: Order) -> float:
        frames = [self._connect_frame() for _ in clients]

        def start() -> Iterator[None]:
            for client, frame in zip(clients, frames, strict=True):
                client.join(frame)
                yield

        return await self._flow(start(), len(clients), order.at_once)

    async def _flow(self, steps: Iterator[None], number: int, at_once: int) -> float:
        """Keep so many of these going until each has arrived; how long it took."""
        began = time.perf_counter()
        self._next = steps
        self._missing = 0
        for _ in range(at_once or AT_ONCE):
            next(steps, None)
        await self._until(number)
        self._next = iter(())
        return time.perf_counter() - began

    async def reset(self, order: Order) -> Figures:
        """Forget what was heard."""
        self.latencies.clear()
        self._deliveries = self._missing = self.received = 0
        return {}

    async def wait(self, order: Order) -> Figures:
        """Wait until `number` more deliveries than at the last wait have been heard."""
        await self._until(order.number)
        figures = {"deliveries": float(self._deliveries), "bytes": float(self.received)}
        return figures | _spread(self.latencies)

    async def load(self, order: Order) -> Figures:
        """Put `number` clicks into the hand of each client."""
        for client in self.clients:
            client.clicks = iter([_click_frame(FIRST_CLICK + n) for n in range(order.number)])
        return {}

    async def press(self, order: Order) -> Figures:
        """All clients press at once, and again when answered, until their clicks are used up."""
        self.latencies.clear()
        self._missing, self._next = 0, iter(())
        cpu, began = time.process_time(), time.perf_counter()
        for client in self.clients:
            client.press()
            client.pressed_at = began  # they pressed when all did, not when their turn came
        await self._until(len(self.clients))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        figures = {"seconds": took, "own_cpu_seconds": cpu, "holds": float(len(self.latencies))}
        return figures | _spread(self.latencies)

    async def press_at_random(self, order: Order) -> Figures:
        """Each client presses `number` times, at instants of its own: `rate` a second in all.

        Nobody waits for an answer before they press. A click is timed from when it is handed to
        the socket; `late` is how long after its instant that was, which is the generator's fault.
        """
        self.latencies.clear()
        self._missing, self._next = 0, iter(())
        presses, number = self.clients * order.number, len(self.clients) * order.number
        random.shuffle(presses)
        gc.collect()
        gc.freeze()  # the clients in waiting are not garbage; looking for it would stop the clock
        cpu, began = time.process_time(), time.perf_counter()
        lates = await self._press_on(presses, order.rate)
        offered = time.perf_counter() - began
        await self._until(number)
        gc.unfreeze()
        refused = self.latencies.count(REFUSED_SECONDS)
        return {
            "holds": float(len(self.latencies) - refused),
            "refused": float(refused),
            "seconds": time.perf_counter() - began,
            "offered_per_second": number / offered,
            "own_cpu_seconds": time.process_time() - cpu,
            "late_p99_ms": _spread(lates)["p99_ms"],
        } | _spread(self.latencies)

    async def _press_on(self, presses: list[Phone], rate: int) -> list[float]:
        """Press in this order, with gaps as chance makes them; how late each press was."""
        lates: list[float] = []
        due = time.perf_counter() + random.expovariate(rate)
        while True:
            now = time.perf_counter()
            while due <= now:
                presses.pop().press_at_random()
                lates.append(time.perf_counter() - due)
                if not presses:
                    return lates
                due += random.expovariate(rate)
            await asyncio.sleep(max(0.0, due - now))  # answers are read meanwhile

    async def leave(self, order: Order) -> Figures:
        """Cut all connections."""
        self._leaving.update(self.clients)
        for client in self.clients:
            if client.transport is not None:
                client.transport.abort()
        self.clients = []
        return {}

    def _connect_frame(self) -> bytes:
        token = self._auth.mint(
            role=Role.VIEWER, sub=uuid4().hex, shows=(ALL_SHOWS,), ttl=TOKEN_SECONDS
        )
        fields = {"token": token, "data": {"show": self._show}}
        return text_frame(encode_command(1, "connect", fields))


def _click_frame(number: int) -> bytes:
    hold = {"offer": OFFER, "qty": 1, "key": str(uuid4())}
    return text_frame(encode_command(number, "rpc", {"method": "offer.hold", "data": hold}))


def _spread(latencies: list[float]) -> Figures:
    if not latencies:
        return {"p50_ms": 0.0, "p99_ms": 0.0}
    latencies.sort()
    number = len(latencies)
    return {
        "p50_ms": 1000 * latencies[number // 2],
        "p99_ms": 1000 * latencies[number * 99 // 100],
    }


async def main(secret: str, show: str, kind: str) -> None:
    crowd = Crowd(secret, show, packed=kind == "packed")
    orders = (crowd.connect, crowd.join, crowd.come_back, crowd.reset, crowd.wait)
    more = (crowd.load, crowd.press, crowd.press_at_random, crowd.leave)
    await obey({order.__name__: order for order in orders + more})


if __name__ == "__main__":
    follow_parent()
    uvloop.run(main(*sys.argv[1:]))
