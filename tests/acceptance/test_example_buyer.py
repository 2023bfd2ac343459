"""The examples do what they say, against a real service, as whoever copies them runs them."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, until

BUYER = Path(__file__).parents[2] / "examples" / "buyer.py"


@pytest.mark.parametrize("guest", [False, True])
async def test_buyer_waits_buys_and_prints_the_order(
    service: Service, stage: Stage, guest: bool
) -> None:
    """They are there before the offer opens; the order that they print is the ledger's."""
    offer = await stage.offer(10, opened=False, guests=True)
    token = [] if guest else [service.token(Role.VIEWER, "buyer", stage.show)]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    buyer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(BUYER), service.url, stage.show, *token),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        await until(lambda: viewers(stage), seconds=40)
        async with asyncio.timeout(60):
            await stage.post(f"/v1/offers/{offer}/open")
            out, _ = await buyer.communicate()
    finally:
        if buyer.returncode is None:
            buyer.kill()

    said, _, printed = out.decode().partition("\n")
    order = json.loads(printed)
    assert (buyer.returncode, said) == (0, "hold: held")
    kept = (await stage.http.get(f"/v1/orders/{order['order']}")).json()
    assert kept["total_minor"] == order["total_minor"] == 900
    assert kept["hold"] == order["hold"]


async def viewers(stage: Stage) -> int:
    """How many are in the show."""
    report = (await stage.http.get(f"/v1/shows/{stage.show}/report")).json()
    found: int = report["viewers"]
    return found
