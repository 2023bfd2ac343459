"""What failed is not tried without end: declined cards, and wishes that are refused.

Method: real checkouts and calls; then what the ledger keeps of them, and the provider heard.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.api.limits import AddressLimit
from live.api.rpc.methods import DECLINES_BURST
from live.base.errors import BadField, Conflict, Denied, TooManyTries
from live.base.settings import Guests
from live.buying.purchase import CheckoutAnswer
from live.buying.ways import WaysToPay
from live.domain.caller import Caller
from live.domain.ids import HoldKey, ShowId, key_text
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.ledger.db.pool import Pool
from live.ledger.money.payment_sql import DECLINES_PER_BUYER_MAX, DECLINES_PER_HOLD_MAX
from tests.integration.test_sale_rpc import make_client, uuid
from tests.support.sale_kit import CONTACT, INVOICE, Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer

HOLD_SPENT = "too many payments for this hold were declined"
ATTACKER, NEIGHBOUR, STRANGER = "192.0.2.1", "192.0.2.200", "198.51.100.1"


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(90, 2)) as sale:
        yield sale


@pytest.fixture
async def rush(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """In `first_paid` mode."""
    async with open_sale(pool, redis_url, server, show, mode=Mode.FIRST_PAID) as sale:
        yield sale


async def payments(sale: Sale) -> int:
    found = await sale.pool.fetchval("SELECT count(*) FROM payments WHERE show = $1", sale.show)
    assert isinstance(found, int)
    return found


async def decline(sale: Sale, who: Caller, hold: HoldKey, times: int) -> list[HoldKey]:
    keys = [new_key() for _ in range(times)]
    for key in keys:
        answer = await sale.pay(who, hold, "tok_decline", key=key)
        assert answer.outcome is Outcome.DECLINED
    return keys


async def test_cards_of_one_hold_are_declined_so_often_and_no_more(sale: Sale) -> None:
    """The hold itself stays, and a repeat of what was tried is told the same as before."""
    ada = viewer()
    hold = await sale.hold(ada)
    keys = await decline(sale, ada, hold, DECLINES_PER_HOLD_MAX)

    for token in ("tok_decline", "tok_approve"):
        with pytest.raises(TooManyTries, match=HOLD_SPENT) as refused:
            await sale.pay(ada, hold, token)
        assert not refused.value.temporary
    again = await sale.pay(ada, hold, "tok_decline", key=keys[0])

    assert again.outcome is Outcome.DECLINED
    assert await payments(sale) == DECLINES_PER_HOLD_MAX
    assert await sale.desk.release(ada, sale.show, hold) is Outcome.RELEASED
    assert await sale.figures() == Stock(left=90, held=0, sold=0)


async def test_buyer_who_mistypes_and_takes_another_card_notices_nothing(sale: Sale) -> None:
    ada = viewer()
    hold = await sale.hold(ada)
    await decline(sale, ada, hold, DECLINES_PER_HOLD_MAX - 1)

    assert (await sale.pay(ada, hold)).outcome is Outcome.CONFIRMED


async def test_new_holds_give_a_buyer_no_new_tries(sale: Sale) -> None:
    """On any gateway: the ledger counts. Other buyers pay, and an hour later they do again."""
    ada = viewer()
    for _ in range(0, DECLINES_PER_BUYER_MAX, 2):
        await decline(sale, ada, await sale.hold(ada), 2)
    hold = await sale.hold(ada)

    with pytest.raises(TooManyTries, match="try again in an hour"):
        await sale.pay(ada, hold)
    assert await payments(sale) == DECLINES_PER_BUYER_MAX
    bob = viewer()
    assert (await sale.pay(bob, await sale.hold(bob))).outcome is Outcome.CONFIRMED
    await sale.pool.execute("UPDATE payments SET created_at = created_at - interval '1 hour'")
    assert (await sale.pay(ada, hold)).outcome is Outcome.CONFIRMED


async def test_direct_purchases_are_tried_so_often_and_no_more(rush: Sale) -> None:
    """There each try is a purchase of its own."""
    ada = viewer()
    for _ in range(DECLINES_PER_BUYER_MAX):
        answer = await rush.buy(ada, "tok_decline", key=new_key())
        assert answer.outcome is Outcome.DECLINED
    with pytest.raises(TooManyTries):
        await rush.buy(ada, key=new_key())
    assert await payments(rush) == DECLINES_PER_BUYER_MAX


async def test_tries_at_once_are_answered_each_for_itself(
    pool: Pool, show: ShowId, sale: Sale
) -> None:
    """Payments that are opened together share a statement; what one is refused harms no other."""
    ada, bob = viewer(), viewer()
    spent = await sale.hold(ada)
    await decline(sale, ada, spent, DECLINES_PER_HOLD_MAX)
    free = [await sale.hold(bob) for _ in range(3)]

    answers = await asyncio.gather(
        sale.pay(ada, spent), *(sale.pay(bob, hold) for hold in free), return_exceptions=True
    )

    refused, *bought = answers
    assert isinstance(refused, TooManyTries)
    confirmed = [one for one in bought if isinstance(one, CheckoutAnswer)]
    assert [one.outcome for one in confirmed] == [Outcome.CONFIRMED] * len(free)


async def test_crowd_of_guests_of_one_network_shares_its_declines(sale: Sale) -> None:
    """Each guest has tries of their own, their network has not; nobody else is concerned."""
    client = make_client(sale)

    async def pay(address: str, token: str) -> str:
        guest = viewer()
        hold = await sale.hold(guest)
        request = {"hold": key_text(hold), "provider": "sandbox", "token": token, "key": uuid()}
        answer = await client.call(guest, "hold.checkout", request, address=address)
        return str(answer["outcome"])

    for _ in range(DECLINES_BURST):
        assert await pay(ATTACKER, "tok_decline") == "declined"
    for address in (ATTACKER, NEIGHBOUR):
        with pytest.raises(TooManyTries, match="network"):
            await pay(address, "tok_approve")
    assert await payments(sale) == DECLINES_BURST
    assert await pay(STRANGER, "tok_approve") == "confirmed"


async def test_only_declines_count_and_none_of_this_machine(sale: Sale) -> None:
    """A crowd that buys shares no bound; nor does a load test, or a proxy that was not named."""
    client = make_client(sale)
    client.rpc._declines = AddressLimit(burst=1, per_second=0.001)

    async def pay(address: str, token: str) -> str:
        ada = viewer()
        hold = key_text(await sale.hold(ada))
        request = {"hold": hold, "provider": "sandbox", "token": token, "key": uuid()}
        answer = await client.call(ada, "hold.checkout", request, address=address)
        return str(answer["outcome"])

    assert [await pay(ATTACKER, "tok_approve") for _ in range(3)] == ["confirmed"] * 3
    assert [await pay("127.0.0.1", "tok_decline") for _ in range(3)] == ["declined"] * 3
    assert await pay(ATTACKER, "tok_decline") == "declined"
    with pytest.raises(TooManyTries):
        await pay(ATTACKER, "tok_approve")


async def test_key_that_paid_for_another_hold_pays_for_none(sale: Sale) -> None:
    """A conflict before the provider hears of it; a key of its own pays for the second hold."""
    ada, key = viewer(), new_key()
    first, second = await sale.hold(ada), await sale.hold(ada)
    assert (await sale.pay(ada, first, "tok_decline", key=key)).outcome is Outcome.DECLINED

    with pytest.raises(Conflict):
        await sale.pay(ada, second, key=key)

    assert await payments(sale) == 1
    assert (await sale.pay(ada, second)).outcome is Outcome.CONFIRMED


async def test_guest_cannot_pay_by_invoice(sale: Sale) -> None:
    """They could order everything and pay nothing. Whoever is signed in can."""
    guest = viewer(guest=True)
    hold = await sale.hold(guest)
    for contact in (CONTACT, None):
        with pytest.raises(BadField, match=r"^provider: guests cannot pay by invoice"):
            await sale.pay(guest, hold, None, provider="invoice", contact=contact)
    assert await payments(sale) == 0
    assert await sale.figures() == Stock(left=89, held=1, sold=0)
    assert (await sale.pay(guest, hold)).outcome is Outcome.CONFIRMED
    ada = viewer()
    assert (await sale.pay(ada, await sale.hold(ada), **INVOICE)).outcome is Outcome.CONFIRMED


async def test_guest_buys_nothing_directly_by_invoice(rush: Sale) -> None:
    """Nor where units go to whoever paid first; the desk lets this guest buy as such."""
    offers = rush.book.of(rush.show)
    rush.desk._guests = Guests.BUY
    guest = viewer(guest=True)
    with pytest.raises(BadField, match=r"^provider: guests cannot pay by invoice"):
        await rush.buy(guest, key=new_key(), **INVOICE)
    assert WaysToPay(("invoice", "sandbox")).of(offers, (), guest=True) == ("sandbox",)
    assert await payments(rush) == 0


async def test_refused_wish_leaves_no_row(sale: Sale) -> None:
    """Too many units, or none for guests: whoever asks with ever new keys fills no ledger."""
    client = make_client(sale, guests=Guests.BUY)
    offers = sale.book.of(sale.show)
    terms = offers.named(sale.offers[1])
    offers.by_id[terms.id] = replace(terms, guests=True)
    request = {"offer": terms.id, "qty": terms.per_buyer_limit + 1}
    ada = viewer()
    for _ in range(3):
        answer = await client.call(ada, "waitlist.join", request | {"key": uuid()})
        assert answer == {"outcome": "limit_reached", "position": 0}
    closed = replace(terms, closes_at=1, version=terms.version + 1)
    await sale.stock.apply_offer(closed)
    answer = await client.call(ada, "waitlist.join", request | {"qty": 1, "key": uuid()})
    assert answer["outcome"] in ("closed", "not_open")
    with pytest.raises(Denied):
        nobody = replace(ada, sub="", buyer=None)
        await client.call(nobody, "waitlist.join", request | {"key": uuid()})

    assert await sale.pool.fetchval("SELECT count(*) FROM waitlist") == 0


async def test_look_at_a_line_says_what_joining_does(sale: Sale) -> None:
    """A place where units are gone, units where they are not, and its own place for a known key."""
    client, offer = make_client(sale), sale.offers[1]
    holder, late, key = viewer(), viewer(), uuid()
    await client.call(holder, "offer.hold", {"offer": offer, "qty": 2, "key": uuid()})
    request = {"offer": offer, "qty": 1, "key": key}
    for _ in range(2):
        answer = await client.call(late, "waitlist.join", request)
        assert answer == {"outcome": "waitlisted", "position": 1}
    assert await sale.pool.fetchval("SELECT count(*) FROM waitlist") == 1
