"""Single calls of scripts: one pipelined connection a node, repeated with the same keys until a
deadline.

Owns: the connections for everything but batches of holds, where the shows are, and what this
process knows about the life (stock epoch) that each show is in.
Always: the epoch that we believe in only grows; a script runs only where the server's run and the
show's epoch are both the ones it was installed with. Every script may be repeated after a lost
reply: it answers what the first call did (each Lua header says how). A show that went to another
node finds another run there, so nothing of it is decided before a rebuild.
Not here: batches of holds (batcher.py).
"""

import asyncio
from collections.abc import Callable
from typing import Final

import hiredis
import structlog

from live.base.errors import Busy, EngineError, StockLost, reason_of
from live.base.redis_url import NodeUrl, place_of
from live.domain.ids import ShowId
from live.redis.connection import LOST, Address, Reply, Wire
from live.redis.memory import note_refusal
from live.redis.nodes import REDIRECTIONS, Nodes
from live.redis.scripts import Script, read_scripts
from live.stock.keys import show_keys
from live.stock.letters import StockAnswer

CALL_SECONDS: Final = 2.0  # then "repeat with the same key" is the better answer
ATTEMPT_SECONDS: Final = 1.0  # a server that is silent for so long gets a fresh connection
BACKOFF_SECONDS: Final = 0.02  # before another attempt to connect, or at a slot that moves
CALLS_MAX: Final = 4_096  # calls that wait for replies; a burst of checkouts is a tenth of it
REBUILDING: Final = StockAnswer.REBUILDING.encode()

OnLost = Callable[[ShowId, int], None]

log = structlog.get_logger()


def stock_scripts() -> dict[str, Script]:
    """The scripts of this package, by name."""
    return read_scripts("live.stock")


def stock_address(node: NodeUrl) -> Address:
    """Where a connection finds a node, which knows the scripts from then on."""
    return Address(node, tuple(stock_scripts().values()))


def ignore_loss(show: ShowId, stock_epoch: int) -> None:
    """For who only looks: the keeper notices a loss by itself."""


class StockCalls:
    def __init__(self, url: str, *, on_lost: OnLost = ignore_loss) -> None:
        self.nodes = Nodes(url)
        self._on_lost = on_lost
        self._wires: dict[NodeUrl, Wire] = {}
        self._connecting: dict[NodeUrl, asyncio.Task[Wire]] = {}
        self._faults: dict[NodeUrl, str] = {}  # why the last connection to a node failed
        self._epochs: dict[ShowId, int] = {}

    async def open(self) -> None:
        """Connect once, so that a wrong URL is found at the start. Raises EngineError."""
        try:
            await self.nodes.open()
            if not self.nodes.clustered:  # one dead node must not keep the others' shows waiting
                await self._connect(self.nodes.of(""))
        except (OSError, TimeoutError) as error:
            raise EngineError(f"Redis does not answer: {reason_of(error)}") from error

    async def close(self) -> None:
        await self.nodes.close()
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for wire in self._wires.values():
            wire.abort()
        await asyncio.sleep(0)  # let the transports tell their protocols

    async def must_answer(self) -> None:
        """Raise EngineError, with the reason, where no server takes our calls; in CALL_SECONDS."""
        try:
            await self.send(b"PING")
        except Busy as error:
            reasons = "; ".join(dict.fromkeys(self._faults.values()))
            raise EngineError(reasons or str(error)) from error

    def known_epoch(self, show: ShowId) -> int | None:
        return self._epochs.get(show)

    async def run(self, name: str, show: ShowId, keys: tuple[bytes, ...], *args: bytes) -> Reply:
        """Run a script of a show, with epoch and run id in front of `args`.

        Raises Busy when the show is being rebuilt or Redis does not answer in time, StockLost when
        Redis has lost a part of it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALL_SECONDS
        while True:
            wire = await self._wire_until(deadline, show)
            epoch = self._epochs.get(show)
            if epoch is None:
                epoch = await self.learn_epoch(show)
            reply = await self._eval(
                wire, deadline, name, keys, (b"%d" % epoch, wire.run_id, *args)
            )
            if reply is LOST:
                continue
            if reply == REBUILDING:
                await self.learn_other_epoch(show, epoch)
                continue
            return reply

    async def run_bare(
        self, name: str, show: ShowId, keys: tuple[bytes, ...], *args: bytes
    ) -> Reply:
        """Run a script that does not check the life of its show. {run} becomes the run id."""
        deadline = asyncio.get_running_loop().time() + CALL_SECONDS
        while True:
            wire = await self._wire_until(deadline, show)
            filled = tuple(wire.run_id if arg == RUN_ID else arg for arg in args)
            reply = await self._eval(wire, deadline, name, keys, filled)
            if reply is not LOST:
                return reply

    async def send(self, *parts: bytes, show: ShowId | None = None) -> Reply:
        """Send one plain command that may be repeated. Raises Busy.

        Without a show it goes to some server, so only a command about no key may do without.
        """
        deadline = asyncio.get_running_loop().time() + CALL_SECONDS
        while True:
            wire = await self._wire_until(deadline, show or ShowId(""))
            reply = await self._once(wire, deadline, parts)
            if reply is not LOST:
                return reply

    async def learn_epoch(self, show: ShowId) -> int:
        """Read which life of the show this server carries. Raises Busy while it carries none."""
        deadline = asyncio.get_running_loop().time() + CALL_SECONDS
        while True:
            wire = await self._wire_until(deadline, show)
            meta = (b"HMGET", show_keys(show).meta, b"stock_epoch", b"run_id")
            reply = await self._once(wire, deadline, meta)
            if reply is LOST:
                continue
            assert isinstance(reply, list)
            epoch, run_id = reply
            # A lower epoch than one we saw is an older file, whatever its run id says.
            if epoch is None or run_id != wire.run_id or int(epoch) < self._epochs.get(show, 0):
                raise Busy("the stock of this show is being rebuilt")
            self._epochs[show] = int(epoch)
            return int(epoch)

    async def learn_other_epoch(self, show: ShowId, refused: int | None) -> None:
        """After a script refused to decide for the life `refused`, if one did: which it is now.

        Raises Busy while there is none, StockLost where it is the same: a rebuild begins a new one,
        so nothing but a lost part makes a script refuse its own.
        """
        if await self.learn_epoch(show) == refused:
            self._on_lost(show, refused)
            raise StockLost("a part of this show's stock is lost: it is about to be rebuilt")

    async def _eval(
        self,
        wire: Wire,
        deadline: float,
        name: str,
        keys: tuple[bytes, ...],
        args: tuple[bytes, ...],
    ) -> Reply:
        parts = (b"EVALSHA", stock_scripts()[name].sha, b"%d" % len(keys), *keys, *args)
        return await self._once(wire, deadline, parts)

    async def _once(self, wire: Wire, deadline: float, parts: tuple[bytes, ...]) -> Reply:
        """One attempt. Returns LOST where a repeat may help; raises Busy for an error reply."""
        if wire.waiting >= CALLS_MAX:
            raise Busy("too many calls wait for Redis")
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(left, ATTEMPT_SECONDS)):
                reply = await wire.call(*parts)
        except TimeoutError:
            if left >= ATTEMPT_SECONDS:  # silent for a full attempt, not just late for this call
                wire.abort()
                await self._look_until(deadline)  # perhaps another node has the show by now
            return LOST
        if isinstance(reply, hiredis.ReplyError):
            if str(reply).startswith(REDIRECTIONS):  # it ran nothing
                self.nodes.redirected(str(reply), wire.node)
                await asyncio.sleep(BACKOFF_SECONDS)
                return LOST
            if str(reply).startswith(("NOSCRIPT", "READONLY")):
                wire.abort()  # another server, or one that lost its rank: look again who it is
                return LOST
            note_refusal(str(reply))
            raise Busy(f"Redis cannot decide now: {str(reply).partition(' ')[0]}")
        return reply

    async def _wire_until(self, deadline: float, show: ShowId) -> Wire:
        """The live connection to a show's node, made anew where it is gone.

        Raises Busy at the deadline.
        """
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= deadline:
                raise Busy("Redis does not answer")
            node = self.nodes.of(show)
            wire = self._wires.get(node)
            if wire is not None and wire.alive:
                return wire
            try:
                async with asyncio.timeout_at(deadline):
                    # Shielded: a connection that is slow to come is there for the next caller.
                    return await asyncio.shield(self._connect(node))
            except (OSError, TimeoutError, EngineError):
                self.nodes.look_soon()
                await asyncio.sleep(BACKOFF_SECONDS)

    async def _look_until(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.nodes.look()
        except TimeoutError:
            pass  # the caller's deadline, which they look at themselves

    def _connect(self, node: NodeUrl) -> asyncio.Task[Wire]:
        """One attempt to connect, which all who need that node share."""
        task = self._connecting.get(node)
        if task is None or task.done():
            task = self._connecting[node] = asyncio.create_task(self._open_wire(node))
            task.add_done_callback(_retrieved)  # whoever waited for it may have given up
        return task

    async def _open_wire(self, node: NodeUrl) -> Wire:
        try:
            wire = self._wires[node] = await stock_address(node).connect(lambda wire: None)
        except (OSError, TimeoutError, EngineError) as error:
            self.note_fault(node, error)
            raise
        self.note_link(node)
        return wire

    def note_fault(self, node: NodeUrl, error: Exception) -> None:
        """Remember why a node cannot be reached; said once, not at each of the many tries."""
        if node not in self._faults:
            log.warning("no connection to redis", node=place_of(node), reason=reason_of(error))
        self._faults[node] = f"{place_of(node)}: {reason_of(error)}"

    def note_link(self, node: NodeUrl) -> None:
        if self._faults.pop(node, None) is not None:
            log.info("connected to redis again", node=place_of(node))


RUN_ID: Final = b"{run}"
"""Stands for the server's run id in the arguments of `run_bare`."""


def _retrieved(task: asyncio.Task[Wire]) -> None:
    """Its fault was noted; asyncio need not tell it again."""
    if not task.cancelled():
        task.exception()
