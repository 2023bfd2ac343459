"""A repair gives back the money of a few payments without an order, not of a shop that lost them.

Method: real sales whose order rows go, as in half a restore; what is asked of the provider is in
the money jobs.
"""

import pytest

from live.domain.money import amount_text
from live.domain.payment import PaymentState
from live.ledger.audit.repair import GIVE_BACK_MAX, repair
from tests.integration.test_ledger_repair import findings, working
from tests.support.ledger_kit import PRICE, Sale, new_buyer, pay


async def paid_for_nothing(sale: Sale, count: int) -> None:
    for _ in range(count):
        payment = await pay(sale.rows, sale.show, new_buyer())
        await sale.rows.record(payment.id, PaymentState.CAPTURED)


async def mend(sale: Sale, give_back_max: int = GIVE_BACK_MAX) -> list[str]:
    return await repair(
        sale.pool,
        stock=sale.engine,
        outbox=sale.outbox,
        settler=sale.settler,
        work=working(sale),
        grace_seconds=0,
        give_back_max=give_back_max,
    )


async def given_back(sale: Sale) -> int:
    return int(
        await sale.pool.fetchval("SELECT count(*) FROM money_jobs WHERE kind IN ('refund', 'void')")
    )


async def test_few_payments_are_given_back(sale: Sale) -> None:
    """As many as the bound: a crash leaves so many at most."""
    await paid_for_nothing(sale, GIVE_BACK_MAX)

    await mend(sale)

    assert (await given_back(sale), await findings(sale)) == (GIVE_BACK_MAX, ())


async def test_too_many_payments_are_left_until_a_person_says_yes(sale: Sale) -> None:
    """None of them goes back, how many and how much is said, and the rest is mended."""
    await paid_for_nothing(sale, GIVE_BACK_MAX + 1)
    await sale.buy(new_buyer())  # what a settler has not settled yet

    done = await mend(sale)

    assert await given_back(sale) == 0
    (line,) = [one for one in done if "NOT given back" in one]
    count = GIVE_BACK_MAX + 1
    assert f"{count} payments" in line and amount_text(count * PRICE, "EUR") in line
    assert f"--refund-up-to {count}" in line
    assert any("settled what its outbox held" in one for one in done)
    assert len(await findings(sale)) == count

    await mend(sale, give_back_max=count)
    assert (await given_back(sale), await findings(sale)) == (count, ())


@pytest.mark.parametrize("state", ["capturing", "captured"])
async def test_orders_that_were_lost_refund_nobody(sale: Sale, state: str) -> None:
    """Money that was captured and money that is kept count together."""
    for _ in range(3):
        await pay(sale.rows, sale.show, new_buyer())
    captured = PRICE if state == "captured" else 0
    await sale.pool.execute("UPDATE payments SET state = $1, captured_minor = $2", state, captured)
    await paid_for_nothing(sale, 2)

    done = await mend(sale, give_back_max=4)

    assert await given_back(sale) == 0
    assert any("NOT given back: 5 payments" in one for one in done)


async def test_nothing_is_given_back_up_to_none(sale: Sale) -> None:
    """The way to look first: what would go back is said."""
    await paid_for_nothing(sale, 1)

    done = await mend(sale, give_back_max=0)

    assert await given_back(sale) == 0
    assert any(f"1 payments that own no order, {amount_text(PRICE, 'EUR')}" in one for one in done)
