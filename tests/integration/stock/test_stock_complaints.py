"""What users of other shops complain of, each as a test: here, or where the table says.

| Complaint | What went wrong there | Test |
|---|---|---|
| Medusa #16569 | parallel reservations take more than there is | holds: racing_buyers_never_over_reserve |
| Medusa #16502 | two cart lines of one item oversell | holds: cart_with_one_offer_twice_is_summed |
| Medusa #12401 | reserved below zero, and no way to repair | payments: released_units_never_make_held_negative; life: rebuilt_show_goes_on |
| Vendure #1738 | what waits in a cart is bought after it is gone | here: basket_of_sold_units_cannot_be_paid |
| Vendure #3508, Saleor #543 | two checkouts of the last unit both succeed | here: two_checkouts_of_the_last_unit |
| Vendure #4152 | each way of changing stock guards itself, or forgets to | here: every_way_of_taking_units_passes_one_gate |
| Vendure #3065 | charged, then out of stock, then stuck | payments: late_payment_with_nothing_left_is_told_so |
| Saleor #8313, PR #7589 | nothing is kept for who is checking out | here: units_are_kept_while_their_buyer_checks_out |
| Saleor PR #11069 | rows stay locked during the call for the payment | here: payment_under_way_keeps_nobody_waiting |
| Magento inventory PR #3036 | reserved after the order is placed; errors compensated twice or never | payments: every_ending_happens_exactly_once |
| Spree PR #13978 | the time of a hold is a property of the warehouse | holds: cart_lives_as_long_as_its_shortest_offer |
| dianping #1 | stock is taken, and the process dies before it says so | holds: hold_and_outbox_entry_are_one |
| miaosha #11, spikeSystem #14 | `>=` for `>` at the last unit | holds: hold_of_exactly_what_is_left_is_given |
| Shopify forum | absolute levels overwrite sales; no idempotency | holds: restock_during_a_burst, repeat_gets_the_first_answer |
| LiveMeUp | stock is reserved at payment only | here: units_are_kept_while_their_buyer_checks_out |

Not the engine's: ShipHero's advice to turn stock sync off during a flash sale. Nothing is synced
into the engine; a shop's own count meets ours in the ledger, by deltas (tests of the catalogue).
The automatic refund that Vendure #3065 asks for is the payment worker's (test_payment_worker.py).
"""  # noqa: E501  # a table's rows do not break

import asyncio
import re
from pathlib import Path

from live.domain.hold import Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, make_due, now_ms, one, terms


def test_each_complaint_names_a_test_that_exists() -> None:
    """The table above is read here, so it cannot rot."""
    here = Path(__file__)
    named = re.findall(r"(here|holds|payments|life): ([a-z0-9_, ]+)", __doc__ or "")
    assert len(named) >= 15
    for where, names in named:
        text = (here if where == "here" else here.with_name(f"test_stock_{where}.py")).read_text()
        for name in names.split(", "):
            assert f"def test_{name.strip()}" in text


async def test_basket_of_sold_units_cannot_be_paid(engine: StockEngine, show: ShowId) -> None:
    """Vendure #1738: what a buyer once held and others bought meanwhile is not theirs to buy."""
    await engine.apply_offer(terms(show, allotted=20, per_buyer_limit=20))
    basket = key()
    await engine.hold(show, buyer(1), basket, one(qty=5))
    await make_due(engine, show, 1, basket)

    bought = key()
    assert (await engine.hold(show, buyer(2), bought, one(qty=20))).outcome is Outcome.HELD
    await engine.begin(show, buyer(2), bought, window_ms=1_000)
    await engine.confirm(show, buyer(2), bought, one(qty=20))

    begun = await engine.begin(show, buyer(1), basket, window_ms=1_000)
    assert begun.outcome is Outcome.EXPIRED
    for take in (engine.confirm, engine.retake):
        assert not (await take(show, buyer(1), basket, one(qty=5))).done
    assert (await engine.figures(show)).offers[0] == Stock(0, 0, 20)


async def test_two_checkouts_of_the_last_unit_end_in_one_sale(
    engine: StockEngine, show: ShowId
) -> None:
    """Vendure #3508, Saleor #543: whole checkouts race for one unit, and one of them succeeds."""
    await engine.apply_offer(terms(show, allotted=1))

    async def check_out(number: int) -> bool:
        mine = key()
        held = await engine.hold(show, buyer(number), mine, one())
        if held.outcome is not Outcome.HELD:
            return False
        await engine.begin(show, buyer(number), mine, window_ms=60_000)
        return (await engine.confirm(show, buyer(number), mine, one())).done

    sold = await asyncio.gather(*(check_out(n) for n in range(50)))

    assert sold.count(True) == 1
    assert (await engine.figures(show)).offers[0] == Stock(0, 0, 1)


async def test_every_way_of_taking_units_passes_one_gate(
    engine: StockEngine, show: ShowId, stock_server: Valkey
) -> None:
    """Vendure #4152: holds, carts, waitlists and late money of two processes share one count."""
    other = StockEngine(stock_server.url)
    await other.open()
    await engine.apply_offer(terms(show, 0, allotted=40))
    await engine.apply_offer(terms(show, 1, allotted=1_000))
    await engine.apply_offer(terms(show, 2, allotted=40, mode=Mode.FIRST_PAID))

    async def take(number: int) -> None:
        who, each = buyer(number), (engine, other)[number % 2]
        ways = (
            lambda: each.hold(show, who, key(), one()),
            lambda: each.hold(show, who, key(), [Line(1, 1), Line(0, 1)]),
            lambda: each.join_waitlist(show, who, key(), Line(0, 1)),
            lambda: each.retake(show, who, key(), one()),
            lambda: each.sell(show, who, key(), one(2)),
        )
        await ways[number // 2 % len(ways)]()

    await asyncio.gather(*(take(n) for n in range(500)))

    offers = (await engine.figures(show)).offers
    assert (offers[0].left, offers[0].allotted) == (0, 40)
    assert offers[1].allotted == 1_000 and offers[1].held <= 40
    assert offers[2] == Stock(0, 0, 40)
    await other.close()


async def test_units_are_kept_while_their_buyer_checks_out(
    engine: StockEngine, show: ShowId
) -> None:
    """Saleor #8313 and PR #7589, LiveMeUp: from the click on they are nobody else's, for a time
    that the buyer is told; then they are."""
    await engine.apply_offer(terms(show, allotted=1))
    mine = key()
    held = await engine.hold(show, buyer(1), mine, one())

    while_held = await engine.hold(show, buyer(2), key(), one())
    await engine.begin(show, buyer(1), mine, window_ms=60_000)
    while_paying = await engine.hold(show, buyer(2), key(), one())
    await engine.revert(show, buyer(1), mine, held_until=1)
    afterwards = await engine.hold(show, buyer(2), key(), one())

    assert held.expires_at > 0
    assert while_held.outcome is while_paying.outcome is Outcome.SOLD_OUT
    assert afterwards.outcome is Outcome.HELD


async def test_payment_under_way_keeps_nobody_waiting(engine: StockEngine, show: ShowId) -> None:
    """Saleor PR #11069: nothing is locked during a payment, however many there are."""
    await engine.apply_offer(terms(show, allotted=1_000))
    paying = {n: key() for n in range(100)}

    async def begin(number: int, mine: HoldKey) -> None:
        await engine.hold(show, buyer(number), mine, one())
        await engine.begin(show, buyer(number), mine, window_ms=600_000)

    await asyncio.gather(*(begin(n, mine) for n, mine in paying.items()))
    others = await asyncio.gather(
        *(engine.hold(show, buyer(n), key(), one()) for n in range(100, 1_000))
    )

    assert {answer.outcome for answer in others} == {Outcome.HELD}
    for n, mine in paying.items():
        if n % 2:
            assert (await engine.confirm(show, buyer(n), mine, one())).done
        else:
            await engine.revert(show, buyer(n), mine, held_until=now_ms() + 60_000)
            assert (await engine.release(show, buyer(n), mine)).done
    assert (await engine.figures(show)).offers[0] == Stock(50, 900, 50)
