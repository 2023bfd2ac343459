"""A stock engine far from its Redis: it connects, sells, is cut off and comes back by itself.

Method: a link to a real server that makes each round trip 80 or 300 ms long, and may be cut.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from live.base.errors import Busy
from live.base.redis_url import NodeUrl
from live.domain.ids import ShowId
from live.domain.outcomes import Outcome
from live.domain.stock import OutboxBatch
from live.stock.calls import stock_address
from live.stock.engine import StockEngine
from live.stock.outbox import Outbox
from tests.support.servers import Valkey
from tests.support.slow_link import SlowLink
from tests.support.stock_kit import buyer, key, one, terms

BACK_SECONDS = 30  # a bound, not an expectation


@pytest.fixture(params=[0.04, 0.15], ids=["80ms", "300ms"])
def link(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[SlowLink]:
    with SlowLink(valkey.socket, one_way_seconds=request.param) as found:
        yield found


@pytest.fixture
async def engine(link: SlowLink, show: ShowId) -> AsyncIterator[StockEngine]:
    found = StockEngine(url_of(link))
    await found.open()
    await found.install_show(show, stock_epoch=1)
    await found.apply_offer(terms(show))
    yield found
    await found.close()


def url_of(link: SlowLink) -> str:
    return f"redis://127.0.0.1:{link.port}"


async def sold_again(engine: StockEngine, show: ShowId, who: int) -> None:
    """Click until a click is decided."""
    mine = key()
    async with asyncio.timeout(BACK_SECONDS):
        while True:
            try:
                answer = await engine.hold(show, buyer(who), mine, one())
            except Busy:
                continue
            assert answer.outcome is Outcome.HELD
            return


async def test_engine_far_away_sells_is_cut_off_and_comes_back(
    engine: StockEngine, link: SlowLink, show: ShowId
) -> None:
    """Clicks and single calls alike, on the connections that were there and on new ones."""
    answer = await engine.hold(show, buyer(1), key(), one())
    assert answer.outcome is Outcome.HELD

    link.cut()
    with pytest.raises(Busy):
        await engine.hold(show, buyer(2), key(), one())
    with pytest.raises(Busy):
        await engine.figures(show)
    link.heal()

    await sold_again(engine, show, 3)
    assert (await engine.figures(show)).offers[0].held >= 2


async def test_reader_of_the_outbox_far_away_comes_back(
    engine: StockEngine, link: SlowLink, show: ShowId
) -> None:
    """What was decided reaches the settler after the link was cut, too."""
    outbox = Outbox(url_of(link))
    await outbox.open()
    link.cut()
    with pytest.raises(Busy):
        await outbox.read([show], consumer="c", entries_max=10, block_ms=0)
    link.heal()
    await sold_again(engine, show, 1)

    found: list[OutboxBatch] = []
    async with asyncio.timeout(BACK_SECONDS):
        while not found:
            try:
                found = await outbox.read([show], consumer="c", entries_max=10, block_ms=0)
            except Busy:
                continue
    await outbox.close()

    assert found[0].show == show


async def test_connecting_asks_once_where_the_scripts_are_known(link: SlowLink) -> None:
    """However many scripts there are: a crowd of gateways that comes back is as quick as one."""
    address = stock_address(NodeUrl(url_of(link)))
    first = await address.connect(lambda wire: None)
    before = link.questions

    second = await address.connect(lambda wire: None)
    asked = link.questions - before
    first.abort()
    second.abort()

    assert asked == 1
