"""What shows need from the stock engine, named so that tests can see the seam."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from redis.exceptions import RedisError

from live.base.errors import CallError, EngineError
from live.domain.ids import ShowId
from live.domain.offer import OfferTerms, Stock

UNREACHABLE = (CallError, EngineError, RedisError, OSError, TimeoutError)
"""What a call to Redis may end in after Postgres has committed: none of these undoes a command."""


class Figures(Protocol):
    """A show's stock at one instant: `at` Unix ms, `last_entry` of the outbox, units by slot."""

    @property
    def at(self) -> int: ...
    @property
    def last_entry(self) -> str: ...
    @property
    def offers(self) -> Mapping[int, Stock]: ...


class StockPort(Protocol):
    async def install_show(self, show: ShowId, *, stock_epoch: int) -> None: ...
    async def apply_offer(self, terms: OfferTerms) -> Stock: ...
    async def figures(self, show: ShowId) -> Figures: ...
    async def reap(self, show: ShowId) -> int: ...
    async def close_offers(self, show: ShowId) -> int: ...
    async def missing(self, show: ShowId) -> Sequence[str]: ...
    async def retire_show(self, show: ShowId, *, stock_epoch: int, seconds: int) -> bool | None: ...


class Backlog(Protocol):
    @property
    def oldest_ms(self) -> int: ...


class BacklogPort(Protocol):
    """The outbox, asked how far the settler is behind."""

    async def backlog(self, show: ShowId) -> Backlog: ...
