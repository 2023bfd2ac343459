"""Carries a show from Postgres to Redis: stock first, then what viewers see.

Always: Redis never gets ahead of Postgres; carrying a state twice, late, or from two processes at
once ends in the same place, because stock and log ignore older versions and known keys. So the
gateway that ran a command and the keeper use the same few lines.
"""

from dataclasses import dataclass

from redis.exceptions import RedisError

from live.base.errors import CallError, EngineError
from live.base.failpoint import failpoint
from live.domain.channels import ChannelKind
from live.domain.show import ShowState
from live.hosting.changes import changes_between, new_offers
from live.hosting.desk import publish
from live.hosting.views import Stocks
from live.showlog.log import ShowLog
from live.stock.engine import StockEngine

UNREACHABLE = (CallError, EngineError, RedisError, OSError, TimeoutError)
"""What a call to Redis may end in after Postgres has committed: none of these undoes a command."""


@dataclass(frozen=True, slots=True)
class Projector:
    stock: StockEngine
    log: ShowLog

    async def project(self, state: ShowState, *, fresh: bool = False) -> Stocks:
        """Bring Redis up to `state`; the stock after it. Raises UNREACHABLE errors.

        `fresh`: the show has never been in Redis, so it may be installed there.
        """
        if fresh:
            await self.stock.install_show(state.id, stock_epoch=state.stock_epoch)
        seen = await self.log.read_state(state.id)
        for terms in new_offers(seen, state):
            await self.stock.apply_offer(terms)
        failpoint("carry.applied")
        figures = await self.stock.figures(state.id)
        changes = changes_between(seen, state, figures.offers, at=figures.at)
        # The state goes with the last event: a crash before it leaves the difference to be found.
        last = None
        if changes and changes[-1].channel.kind is ChannelKind.SHOW:
            last = changes.pop()
        for change in changes:
            await publish(self.log, change.channel, change.event, key=change.key)
        stored = state.bounded()
        if last is None:
            await self.log.publish_state(stored, None)
        else:
            await self.log.publish_state(stored, last.event, key=last.key)
        return figures.offers
