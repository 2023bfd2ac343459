"""The notice sender: every committed notice is told, in order per buyer, with one key each."""

import asyncio
from collections import Counter

import pytest
from prometheus_client import REGISTRY

from live.domain.channels import Channel, ChannelKind
from live.domain.events import Event, OrderEvent, PaymentFailed
from live.domain.order import OrderState
from live.domain.payment import PaymentState
from live.ledger.settle import notices
from live.ledger.settle.notices import NoticeSender
from tests.support.ledger_kit import Announced, Sale, new_buyer, new_payment


class Flaky(Announced):
    """Fails each key's first announcement."""

    async def __call__(self, channel: Channel, event: Event, *, key: str) -> None:
        first = (channel, event, key) not in self.events
        await Announced.__call__(self, channel, event, key=key)
        if first and len([one for one in self.events if one[2] == key]) == 1:
            raise ConnectionError("the log is away")


async def test_order_is_told_to_its_buyer_and_to_the_desk(sale: Sale) -> None:
    """order.confirmed goes to the personal channel and to the hosts; then its row is gone."""
    buyer, announced = new_buyer(), Announced()
    paid = await sale.buy(buyer)
    await sale.settle()

    sent = await NoticeSender(sale.pool, announced).send_due()

    assert sent == 1
    (personal, event, key), (desk, same, _) = announced.events
    assert personal == Channel(ChannelKind.PERSONAL, sale.show, buyer.id)
    assert desk == Channel(ChannelKind.DESK, sale.show)
    assert isinstance(event, OrderEvent) and event is same
    assert (event.type, event.order.order) == ("order.confirmed", paid.order)
    assert event.order.state is OrderState.CONFIRMED
    assert key.startswith("notice:")
    assert await sale.pool.fetchval("SELECT count(*) FROM notices") == 0


async def test_failed_payment_is_told_with_its_reason(sale: Sale) -> None:
    """payment.failed names the hold and goes to the buyer only."""
    buyer, announced = new_buyer(), Announced()
    new = new_payment(sale.show, buyer)
    await sale.rows.open_payment(new)
    await sale.rows.record(new.id, PaymentState.DECLINED, reason="no funds", notify=True)

    await NoticeSender(sale.pool, announced).send_due()

    ((channel, event, _),) = announced.events
    assert channel.kind is ChannelKind.PERSONAL
    assert isinstance(event, PaymentFailed)
    assert event.reason == "no funds"
    assert event.hold.replace("-", "") == buyer.key.hex()


async def test_unsent_notice_comes_back_with_the_same_key(sale: Sale) -> None:
    """A log that fails costs a repeat after the lease, under the same idempotency key."""
    flaky = Flaky()
    for _ in range(3):
        await sale.buy(new_buyer())
    await sale.settle()
    sender = NoticeSender(sale.pool, flaky, lease_seconds=0)

    for _ in range(3):
        await sender.send_due()

    assert await sale.pool.fetchval("SELECT count(*) FROM notices") == 0
    personal = Counter(
        key for channel, _, key in flaky.events if channel.kind is ChannelKind.PERSONAL
    )
    assert sorted(personal.values()) == [2, 2, 2]


class Deaf(Announced):
    """Nothing can be published to one buyer; with `everybody`, to no one."""

    def __init__(self, buyer: bytes, *, everybody: bool = False) -> None:
        super().__init__()
        self.buyer, self.everybody = buyer, everybody

    async def __call__(self, channel: Channel, event: Event, *, key: str) -> None:
        if self.everybody or channel.buyer == self.buyer:
            raise ConnectionError("the log is away")
        await Announced.__call__(self, channel, event, key=key)


def given_up() -> float:
    return REGISTRY.get_sample_value("live_ledger_notices_given_up_total") or 0.0


async def test_notice_is_not_given_up_while_nothing_can_be_published(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the log is away, its return brings every notice to its buyer."""
    monkeypatch.setattr(notices, "TRIES_MAX", 2)
    buyers, before = [new_buyer(), new_buyer()], given_up()
    for buyer in buyers:
        await sale.buy(buyer)
    await sale.settle()
    deaf = Deaf(b"", everybody=True)
    sender = NoticeSender(sale.pool, deaf, lease_seconds=0)

    for _ in range(5):
        assert await sender.send_due() == 2
    deaf.everybody = False
    await sender.send_due()

    told = [channel.buyer for channel, _, _ in deaf.events if channel.buyer]
    assert sorted(told) == sorted(buyer.id for buyer in buyers)
    assert given_up() == before


async def test_notice_that_alone_cannot_be_published_raises_an_alarm(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are told in the same rounds, so it is the notice: given up, once, and not silently."""
    monkeypatch.setattr(notices, "TRIES_MAX", 2)
    before, lost = given_up(), new_buyer()
    await sale.buy(lost)
    sender = NoticeSender(sale.pool, Deaf(lost.id), lease_seconds=0)
    for _ in range(3):
        await sale.buy(new_buyer())
        await sale.settle()
        await sender.send_due()

    assert given_up() == before + 1
    assert await sale.pool.fetchval("SELECT count(*) FROM notices") == 1


async def test_two_senders_share_the_work(sale: Sale) -> None:
    """Leases keep two senders from telling the same notice."""
    for _ in range(10):
        await sale.buy(new_buyer())
    await sale.settle()
    announced = Announced()

    await asyncio.gather(*(NoticeSender(sale.pool, announced).send_due() for _ in range(2)))

    keys = [key for channel, _, key in announced.events if channel.kind is ChannelKind.PERSONAL]
    assert len(keys) == len(set(keys)) == 10


async def test_woken_sender_tells_at_once(sale: Sale, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wake` after a commit ends the idle wait, however long; `stop` ends the task."""
    monkeypatch.setattr(notices, "IDLE_SECONDS", 3_600)
    told: asyncio.Queue[str] = asyncio.Queue()

    async def announce(channel: Channel, event: Event, *, key: str) -> None:
        if channel.kind is ChannelKind.PERSONAL:
            told.put_nowait(key)

    sender, stop = NoticeSender(sale.pool, announce), asyncio.Event()
    await sale.buy(new_buyer())
    await sale.settle()
    running = asyncio.create_task(sender.run(stop))
    first = await asyncio.wait_for(told.get(), 60)
    await sale.buy(new_buyer())
    await sale.settle()

    sender.wake()
    second = await asyncio.wait_for(told.get(), 60)

    assert first != second
    stop.set()
    await asyncio.wait_for(running, 60)
