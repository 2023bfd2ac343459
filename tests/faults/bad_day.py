"""Faults by dice: what a bad day does to a running service.

Always: the faults, their order and their pauses are drawn from the seed before the day begins;
which process or key is hit, where there are several, is drawn with them. A fault whose victim is
just being started again waits for it, so a day of one seed always has the same faults.
"""

import asyncio
import random
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil
import redis.asyncio
from redis.exceptions import RedisError

from tests.support.answers import decoded
from tests.support.raw import Raw, frame, text

FAULTS_SECONDS: Final = 20.0  # how long the bad time lasts, about
PAUSE_SECONDS: Final = (0.5, 1.5)  # between two faults
FREEZE_SECONDS: Final = (0.5, 2.5)
DEEP_FREEZE_SECONDS: Final = (4.0, 6.0)  # longer than a lease: another settler takes the work over
KILLS_OF_A_CHILD_MAX: Final = 6  # a service that fails more often in a minute gives up, rightly
BACK_SECONDS: Final = 60.0  # the supervisor starts a process again long before this

KILL, FREEZE, CUT_OFF, KILL_BACKEND = "kill", "freeze", "cut off", "kill a backend of"
DEEP_FREEZE, LOSE_A_KEY, FILL, FLOOD = "deeply freeze", "lose a key of", "fill", "flood"
FAULTS: Final = (
    (KILL, "run-gateway"),
    (KILL, "run-settler"),
    (KILL, "run-settler"),
    (KILL, "run-sandbox"),
    (KILL, "valkey-server"),
    (CUT_OFF, "postgres"),
    (KILL_BACKEND, "postgres"),
    (FREEZE, "run-gateway"),
    (FREEZE, "run-settler"),
    (FREEZE, "run-sandbox"),
    (FREEZE, "valkey-server"),
    (DEEP_FREEZE, "run-settler"),
    (LOSE_A_KEY, "valkey-server"),
    (LOSE_A_KEY, "valkey-server"),
    (FILL, "valkey-server"),
    (FLOOD, "run-gateway"),
)
_LENGTHS: Final = {
    FREEZE: FREEZE_SECONDS,
    DEEP_FREEZE: DEEP_FREEZE_SECONDS,
    FILL: FREEZE_SECONDS,
    FLOOD: FREEZE_SECONDS,
}

_CONNECT = text('{"id":1,"connect":{}}')
RUBBISH: Final = (
    (b"", frame(0x8A, b"")),  # pongs before anything was said
    (_CONNECT, frame(0x89, b"")),
    (_CONNECT + frame(0x01, b"{"), frame(0x00, b"")),  # a message without an end
    (_CONNECT, text('{"id":9,"rpc":{"method":"time.now","data":{}}}')),
)
"""What a flood sends first, and what it repeats."""
RUBBISH_BYTES: Final = 65_536
_ONE_OF_MANY: Final = re.compile(r":[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Fault:
    """`which`: a number that chooses among the victims there are; `lasts_seconds`: 0 where it does
    not last."""

    what: str
    victim: str
    which: int
    lasts_seconds: float
    pause_seconds: float

    def __str__(self) -> str:
        return f"{self.what} {self.victim}"


def plan_day(seed: int) -> list[Fault]:
    """The faults of a day, in order."""
    dice = random.Random(seed)
    faults: list[Fault] = []
    kills: Counter[str] = Counter()
    seconds = 0.0
    while seconds < FAULTS_SECONDS:
        what, victim = dice.choice(FAULTS)
        if what == KILL and kills[victim] == KILLS_OF_A_CHILD_MAX:
            continue
        kills[victim] += what == KILL
        lasts_seconds, pause_seconds = (
            dice.uniform(*_LENGTHS.get(what, (0, 0))),
            dice.uniform(*PAUSE_SECONDS),
        )
        faults.append(Fault(what, victim, dice.randrange(1 << 16), lasts_seconds, pause_seconds))
        seconds += pause_seconds + lasts_seconds
    return faults


@dataclass
class BadDay:
    """Harms the descendants of these processes, the keys of one show, and nothing else."""

    roots: Sequence[psutil.Process]
    redis_url: str
    show: str
    port: int  # that floods go to
    seed: int
    done: list[str] = field(default_factory=list)

    async def go_on(self) -> None:
        """One fault after the other; what lasts has ended when this returns."""
        acts: dict[str, Callable[[Fault], Awaitable[str | None]]] = {
            KILL: self._kill,  # as the kernel does when memory ends
            CUT_OFF: self._cut_off,
            KILL_BACKEND: self._kill_backend,
            FREEZE: self._freeze,
            DEEP_FREEZE: self._freeze,
            LOSE_A_KEY: self._lose_a_key,
            FILL: self._fill,
            FLOOD: self._flood,
        }
        for fault in plan_day(self.seed):
            detail = await acts[fault.what](fault)
            self.done.append(f"{fault}: {detail}" if detail else str(fault))
            await asyncio.sleep(fault.pause_seconds)

    # Processes

    async def _kill(self, fault: Fault) -> None:
        await self._hit(fault, signal.SIGKILL)

    async def _cut_off(self, fault: Fault) -> None:
        """As a power cut: it recovers from its log when it is started again."""
        await self._hit(fault, signal.SIGQUIT)

    async def _kill_backend(self, fault: Fault) -> None:
        """Postgres drops all sessions: shared memory may be torn."""
        await self._hit(fault, signal.SIGKILL, child=True)

    async def _freeze(self, fault: Fault) -> None:
        """A machine that swaps, a disk that hangs: alive, and silent."""
        victim = await self._hit(fault, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasts_seconds)
        finally:
            _send(victim, signal.SIGCONT)

    async def _hit(self, fault: Fault, number: int, *, child: bool = False) -> psutil.Process:
        """Send the signal to a victim, and to another one where that has just died."""
        async with asyncio.timeout(BACK_SECONDS):
            while True:
                victims = self._find(fault.victim)
                if child:
                    victims = [one for found in victims for one in _children(found)]
                if victims:
                    victim = victims[fault.which % len(victims)]
                    if _send(victim, number):
                        return victim
                await asyncio.sleep(0.02)

    def _find(self, name: str) -> list[psutil.Process]:
        """Children of the services that run this program or role."""
        return [child for root in self.roots for child in _children(root) if runs(child, name)]

    # Redis

    async def _lose_a_key(self, fault: Fault) -> str:
        """One of a kind that the show has: a part of the stock, a log, the state."""
        lost = ""

        async def lose(client: redis.asyncio.Redis) -> None:
            nonlocal lost
            kinds: dict[str, list[str]] = {}
            for key in sorted(await client.keys(f"live:{{{self.show}}}:*")):
                name = decoded(key).rpartition("}:")[2]
                # Of a kind that each viewer has there are thousands.
                kinds.setdefault(_ONE_OF_MANY.sub("", name), []).append(decoded(key))
            if kinds:
                names = kinds[sorted(kinds)[fault.which % len(kinds)]]
                lost = names[fault.which % len(names)]
                await client.delete(lost)

        await self._ask_redis(lose)
        return lost.rpartition("}:")[2] or "there is none"

    async def _fill(self, fault: Fault) -> None:
        """Not a byte is left for a while."""

        async def fill(client: redis.asyncio.Redis) -> None:
            await client.config_set("maxmemory", 1)

        async def empty(client: redis.asyncio.Redis) -> None:
            await client.config_set("maxmemory", 0)

        await self._ask_redis(fill)
        try:
            await asyncio.sleep(fault.lasts_seconds)
        finally:
            await self._ask_redis(empty)

    async def _ask_redis(self, call: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
        """Ask until it answers: it may be on its way back."""
        async with asyncio.timeout(BACK_SECONDS):
            while True:
                async with redis.asyncio.Redis.from_url(self.redis_url) as client:
                    with suppress(RedisError, OSError):
                        return await call(client)
                await asyncio.sleep(0.05)

    # Sockets

    async def _flood(self, fault: Fault) -> None:
        """Rubbish of one kind, from who dials again whenever they are cut off."""
        first, again = RUBBISH[fault.which % len(RUBBISH)]
        chunk = again * (RUBBISH_BYTES // len(again))
        with suppress(TimeoutError):
            async with asyncio.timeout(fault.lasts_seconds):
                while True:
                    with suppress(OSError, EOFError, AssertionError):  # cut off, or not served now
                        await self._pour(first, chunk)
                    await asyncio.sleep(0.05)

    async def _pour(self, first: bytes, chunk: bytes) -> None:
        raw = await Raw.upgraded(self.port)
        try:
            raw.writer.write(first)
            while not raw.writer.is_closing():
                raw.writer.write(chunk)
                await raw.writer.drain()
        finally:
            raw.writer.transport.abort()


def runs(process: psutil.Process, name: str) -> bool:
    """Whether this process runs the program or role; one that has just died does not."""
    try:
        # Valkey writes a title of its own over its arguments; a role is one of Python's arguments.
        return process.name() == name or name in process.cmdline()[:4]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def _send(victim: psutil.Process, number: int) -> bool:
    try:
        victim.send_signal(number)
    except psutil.NoSuchProcess:
        return False  # it died of something else in the meantime
    return True
