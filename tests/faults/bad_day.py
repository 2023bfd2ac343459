"""Faults by dice: what a bad day does to the processes of a running service."""

import asyncio
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

FAULTS_S = 14.0  # how long the bad time lasts
PAUSE_S = (0.5, 1.5)  # between two faults
FREEZE_S = (0.5, 2.5)
KILLS_OF_A_CHILD_MAX = 6  # a service that fails more often in a minute gives up, rightly


@dataclass
class BadDay:
    """Harms the descendants of one process, and nothing else, as a seed decides."""

    root: psutil.Process
    dice: random.Random
    done: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)

    async def go_on(self) -> None:
        """One fault after the other, then everybody is let go on."""
        loop = asyncio.get_running_loop()
        end = loop.time() + FAULTS_S
        faults: list[tuple[str, Callable[[str], object]]] = [
            ("run-gateway", self.kill),
            ("run-settler", self.kill),
            ("run-settler", self.kill),
            ("run-sandbox", self.kill),
            ("valkey-server", self.kill),
            ("postgres", self.restart_postgres),
            ("postgres", self.kill_a_backend),
        ]
        frozen = ("run-gateway", "run-settler", "run-sandbox", "valkey-server")
        faults_of_a_day = [*faults, *((name, None) for name in frozen)]
        while loop.time() < end:
            name, fault = self.dice.choice(faults_of_a_day)
            if fault is None:
                await self.freeze(name)
            else:
                fault(name)
            await asyncio.sleep(self.dice.uniform(*PAUSE_S))

    def kill(self, name: str) -> None:
        """As the kernel does when memory ends."""
        victims = self._find(name)
        if victims and self.kills.get(name, 0) < KILLS_OF_A_CHILD_MAX:
            self.kills[name] = self.kills.get(name, 0) + 1
            self._send(self.dice.choice(victims), signal.SIGKILL, f"kill {name}")

    async def freeze(self, name: str) -> None:
        """A machine that swaps, a disk that hangs: alive, and silent for a while."""
        victims = self._find(name)
        if not victims:
            return
        victim = self.dice.choice(victims)
        self._send(victim, signal.SIGSTOP, f"freeze {name}")
        try:
            await asyncio.sleep(self.dice.uniform(*FREEZE_S))
        finally:
            self._send(victim, signal.SIGCONT, "")

    def restart_postgres(self, name: str) -> None:
        """At once, as after a power cut: it recovers from its log when it is started again."""
        for postmaster in self._find(name):
            self._send(postmaster, signal.SIGQUIT, "cut postgres off")

    def kill_a_backend(self, name: str) -> None:
        """Postgres then drops all sessions, because shared memory may be torn."""
        backends = [child for found in self._find(name) for child in found.children()]
        if backends:
            self._send(self.dice.choice(backends), signal.SIGKILL, "kill a postgres backend")

    def _find(self, name: str) -> list[psutil.Process]:
        """Children of the service that run this program or role."""
        found = []
        for process in self.root.children():
            try:
                words = process.cmdline()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if any(word.rpartition("/")[2] == name for word in words[:4]):
                found.append(process)
        return found

    def _send(self, victim: psutil.Process, number: int, what: str) -> None:
        try:
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            return  # it died of something else in the meantime
        if what:
            self.done.append(what)
