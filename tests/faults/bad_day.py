"""Faults by dice: what a bad day does to the processes of a running service.

Always: the faults, their order and their pauses are drawn from the seed before the day begins;
which process is hit, where there are several, is drawn with them. A fault whose victim is just
being started again waits for it, so a day of one seed always has the same faults.
"""

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import psutil

FAULTS_S: Final = 14.0  # how long the bad time lasts, about
PAUSE_S: Final = (0.5, 1.5)  # between two faults
FREEZE_S: Final = (0.5, 2.5)
KILLS_OF_A_CHILD_MAX: Final = 6  # a service that fails more often in a minute gives up, rightly
BACK_S: Final = 60.0  # the supervisor starts a process again long before this

KILL, FREEZE, CUT_OFF, KILL_BACKEND = "kill", "freeze", "cut off", "kill a backend of"
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
)


@dataclass(frozen=True, slots=True)
class Fault:
    """`which`: a number that chooses among the victims there are; `lasts_s` of a freeze."""

    what: str
    victim: str
    which: int
    lasts_s: float
    pause_s: float

    def __str__(self) -> str:
        return f"{self.what} {self.victim}"


def plan_day(seed: int) -> list[Fault]:
    """The faults of a day, in order."""
    dice = random.Random(seed)
    faults: list[Fault] = []
    kills: Counter[str] = Counter()
    seconds = 0.0
    while seconds < FAULTS_S:
        what, victim = dice.choice(FAULTS)
        which = dice.randrange(1 << 16)
        lasts_s, pause_s = dice.uniform(*FREEZE_S), dice.uniform(*PAUSE_S)
        if what == KILL and kills[victim] == KILLS_OF_A_CHILD_MAX:
            continue
        kills[victim] += what == KILL
        faults.append(Fault(what, victim, which, lasts_s, pause_s))
        seconds += pause_s + (lasts_s if what == FREEZE else 0.0)
    return faults


@dataclass
class BadDay:
    """Harms the descendants of one process, and nothing else, as a seed decides."""

    root: psutil.Process
    seed: int
    done: list[str] = field(default_factory=list)

    async def go_on(self) -> None:
        """One fault after the other; whoever was frozen has been let go on in the end."""
        for fault in plan_day(self.seed):
            await self._do(fault)
            self.done.append(str(fault))
            await asyncio.sleep(fault.pause_s)

    async def _do(self, fault: Fault) -> None:
        match fault.what:
            case "kill":  # as the kernel does when memory ends
                await self._hit(fault, signal.SIGKILL)
            case "cut off":  # as a power cut: it recovers from its log when it is started again
                await self._hit(fault, signal.SIGQUIT)
            case "kill a backend of":  # Postgres drops all sessions: shared memory may be torn
                await self._hit(fault, signal.SIGKILL, child=True)
            case "freeze":  # a machine that swaps, a disk that hangs: alive, and silent
                victim = await self._hit(fault, signal.SIGSTOP)
                try:
                    await asyncio.sleep(fault.lasts_s)
                finally:
                    _send(victim, signal.SIGCONT)
            case other:
                raise AssertionError(f"unknown fault {other}")

    async def _hit(self, fault: Fault, number: int, *, child: bool = False) -> psutil.Process:
        """Send the signal to a victim, and to another one where that has just died."""
        async with asyncio.timeout(BACK_S):
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
        """Children of the service that run this program or role."""
        return [child for child in _children(self.root) if runs(child, name)]


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
