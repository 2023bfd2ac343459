"""The example of a quote hook, run as its readme says: what it answers is taken."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from live.base.errors import BadField
from live.buying.quoting.hook import Quoted, QuoteHook, QuoteItem, QuoteQuestion
from live.domain.orders.quote import Destination
from tests.support.quote_hook import SECRET

EXAMPLE = Path(__file__).parents[2] / "examples" / "quote" / "quote.py"
STARTED_SECONDS = 10.0


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Where the example says that it listens."""
    hook = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), "0"),
        env=os.environ | {"LIVE_QUOTE_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert hook.stdout is not None
    async with asyncio.timeout(STARTED_SECONDS):
        line = await hook.stdout.readline()
    yield line.decode().strip()
    hook.kill()
    await hook.wait()


async def ask(url: str, country: str, secret: str = SECRET) -> Quoted | None:
    hook = QuoteHook(url, secrets=[secret])
    item = QuoteItem(offer="o", sku="s", title="Lamp", qty=2, price_minor=5_950)
    to = Destination.of(country=country, region="", postcode="1")
    question = QuoteQuestion(show="evening", currency="EUR", items=(item,), contact=to)
    try:
        return await hook.ask(question)
    finally:
        await hook.close()


async def test_example_quotes_by_country(url: str) -> None:
    """Tax is in the price near home; elsewhere duty is added; not everywhere is delivered."""
    home, abroad = await ask(url, "DE"), await ask(url, "US")
    assert home is not None and abroad is not None
    assert [one.id for one in home.terms.shipping] == ["standard", "express"]
    assert home.terms.totals(11_900, home.terms.choice("express"))[1] == 11_900 + 990
    assert [(one.amount_minor, one.inclusive) for one in home.terms.tax] == [(1_900, True)]
    assert abroad.terms.totals(11_900, abroad.terms.choice("standard"))[1] == 11_900 + 1_990 + 1_190
    with pytest.raises(BadField, match="Antarctica"):
        await ask(url, "AQ")


async def test_example_answers_nobody_else(url: str) -> None:
    """A call that another key signed gets nothing."""
    assert await ask(url, "DE", "whsec_" + "A" * 32) is None
