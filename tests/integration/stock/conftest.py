"""Fixtures for one show's stock on each server that the engine must run on."""

from collections.abc import AsyncIterator

import pytest

from live.domain.ids import ShowId
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.servers import Valkey


@pytest.fixture
async def engine(stock_server: Valkey, show: ShowId) -> AsyncIterator[StockEngine]:
    """An engine on which `show` is installed, in its first life."""
    engine = StockEngine(stock_server.url)
    await engine.open()
    await engine.install_show(show, stock_epoch=1)
    yield engine
    await engine.close()


@pytest.fixture
async def outbox(stock_server: Valkey) -> AsyncIterator[Outbox]:
    outbox = Outbox(stock_server.url)
    await outbox.open()
    yield outbox
    await outbox.close()
