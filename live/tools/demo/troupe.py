"""The parent's side of the audience: starts the processes, reads their lines, ends them.

Always: no process outlives `Troupe`: they end by `stop`, by the end of their input, by the kernel's
parent-death signal, or are killed on the way out.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from live.base.errors import LiveError
from live.tools.children import Child
from live.tools.demo.report import Progress, add_progress, read_line
from live.tools.demo.tally import Tally, Told, merge

VIEWERS_PER_PROCESS = 500  # one Python process keeps up with as many without blurring latencies
PROCESSES_PER_CORE = 2  # more would only take turns; then each plays more viewers
STOP_SECONDS = 15.0  # from `stop` to the summary: calls under way, then the lines


class AudienceError(LiveError):
    """An audience process ended before it had told everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What all processes are told alike."""

    url: str
    show: str
    offer: str
    seed: int
    per_buyer_limit: int
    sale_seconds: int


@dataclass(slots=True, eq=False)
class _Player:
    child: Child
    reading: asyncio.Task[None] | None = None
    progress: Progress = field(default_factory=Progress)
    told: list[Told] = field(default_factory=list)
    summary: Tally | None = None


class Troupe:
    """Use as an async context manager: leaving it kills what still runs."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._players: list[_Player] = []

    async def __aenter__(self) -> "Troupe":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*(player.child.kill() for player in self._players))
        readings = [player.reading for player in self._players if player.reading is not None]
        await asyncio.gather(*readings, return_exceptions=True)

    async def start(self, viewers: Sequence[tuple[str, str]]) -> None:
        """Start the processes; `viewers` are (sub, token)."""
        most = PROCESSES_PER_CORE * (os.cpu_count() or 1)
        count = min(most, -(-len(viewers) // VIEWERS_PER_PROCESS))
        size = -(-len(viewers) // count)
        for first in range(0, len(viewers), size):
            await self._start_one(first, viewers[first : first + size])

    async def _start_one(self, first: int, viewers: Sequence[tuple[str, str]]) -> None:
        part = self._part
        child = await Child.start(
            "live.tools.demo.audience",
            *("--tokens-from", "stdin", "--controlled"),
            *("--url", part.url, "--show", part.show, "--offer", part.offer),
            *("--seed", str(part.seed), "--first-index", str(first)),
            *("--limit", str(part.per_buyer_limit), "--sale-seconds", str(part.sale_seconds)),
        )
        player = _Player(child)
        self._players.append(player)
        player.reading = asyncio.create_task(self._read(player))
        # Tokens go through the pipe: an argument would show them to everyone on the machine.
        await child.tell(*(f"{sub} {token}".encode() for sub, token in viewers), b"")

    async def _read(self, player: _Player) -> None:
        while line := await player.child.hear():
            said = read_line(line)
            if said.progress is not None:
                player.progress = said.progress
            if said.told is not None:
                player.told += said.told
            if said.summary is not None:
                player.summary = said.summary

    @property
    def progress(self) -> Progress:
        return add_progress([player.progress for player in self._players])

    def check(self) -> None:
        """Raises AudienceError where a process ended on its own."""
        for player in self._players:
            if player.child.exit_code is not None:
                raise AudienceError(f"an audience process ended with {player.child.exit_code}")
            if player.reading is not None and player.reading.done():
                raise AudienceError(f"an audience process fell silent: {player.reading}")

    async def stop(self) -> tuple[Tally, list[Told]]:
        """Ask for the summaries and add them up. Raises AudienceError where one is missing."""
        for player in self._players:
            with suppress(ConnectionError):  # its summary is missing, which is told below
                await player.child.tell(b"stop")
        readings = [player.reading for player in self._players if player.reading is not None]
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*readings)
        except TimeoutError:
            raise AudienceError(f"no summary within {STOP_SECONDS:.0f} s") from None
        except (msgspec.DecodeError, ValueError) as fault:
            raise AudienceError(f"an audience process wrote nonsense: {fault}") from fault
        summaries = [player.summary for player in self._players if player.summary is not None]
        if len(summaries) < len(self._players):
            raise AudienceError("an audience process ended without a summary")
        return merge(summaries), [one for player in self._players for one in player.told]
