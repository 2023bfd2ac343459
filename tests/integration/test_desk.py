"""The desk: hosts read of money, moderators of everything else, on one channel name."""

import orjson

from live.domain.channels import Channel, ChannelKind
from live.domain.events import OrderEvent
from live.domain.ids import OfferId, OrderId, ShowId, Sku
from live.domain.order import OrderItem, OrderState, OrderView
from live.hosting.desk import publish
from tests.integration.test_realtime_join import Shop
from tests.support.realtime_parts import Phone


def paid(show: ShowId) -> OrderEvent:
    order = OrderView(
        order=OrderId("5ed1cb12-0000-4000-8000-000000000000"),
        hold="5ed1cb12-0000-4000-8000-000000000001",
        show=show,
        state=OrderState.CONFIRMED,
        sub="ada",
        items=(
            OrderItem(
                line=1, offer=OfferId("o1"), sku=Sku("s1"), title="Cup", qty=2, price_minor=4711
            ),
        ),
        totals=(),
        total_minor=9422,
        refunded_minor=0,
        currency="EUR",
        created_at=5,
        updated_at=5,
    )
    return OrderEvent(type="order.confirmed", at=6, order=order)


def last_of(phone: Phone, channel: str) -> object:
    pushes = [message["push"] for message in phone.messages if "push" in message]
    return [push["pub"]["data"] for push in pushes if push["channel"] == channel][-1]


async def test_moderator_hears_of_orders_without_amounts(redis_url: str, show: ShowId) -> None:
    """Host and moderator hear of the same order on `desk:`; no amount is in the moderator's."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        host, _ = await shop.connect("host:ho")
        moderator, _ = await shop.connect("moderator:mo")
        desk = f"desk:{show}"
        event = paid(show)

        for _ in range(2):  # the sender repeats what it is not sure of
            await publish(shop.gateway.log, Channel(ChannelKind.DESK, show), event, key="notice:1")
        for phone in (host, moderator):
            await phone.until(lambda phone: phone.offsets(desk) == [1])

        assert last_of(host, desk) == orjson.loads(orjson.dumps(event))
        seen = last_of(moderator, desk)
        assert seen == {
            "type": "order.confirmed",
            "at": 6,
            "order": {
                "order": event.order.order,
                "show": show,
                "state": "confirmed",
                "items": [{"offer": "o1", "qty": 2}],
                "created_at": 5,
            },
        }


async def test_moderator_cannot_ask_for_the_hosts_log(redis_url: str, show: ShowId) -> None:
    """However they subscribe, `desk:` is the log without money; the log's own name is no
    channel."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        moderator, _ = await shop.connect("moderator:mo")
        desk = f"desk:{show}"
        await publish(shop.gateway.log, Channel(ChannelKind.DESK, show), paid(show))
        await moderator.until(lambda phone: phone.offsets(desk) == [1])

        await moderator.ask("unsubscribe", channel=desk)
        again = await moderator.ask("subscribe", channel=desk, recover=True, offset=0, epoch="")
        other = await moderator.ask("subscribe", channel=f"staff:{show}")

        assert "amount" not in str(again) and "total_minor" not in str(again)
        assert len(again["subscribe"]["publications"]) == 1
        assert other["error"]["code"] == 102


async def test_publishing_on_the_desk_is_nobodys(redis_url: str, show: ShowId) -> None:
    """Hosts and moderators read it; the server alone writes."""
    async with Shop(redis_url, show) as shop:
        await shop.open_show()
        for token in ("host:ho", "moderator:mo"):
            phone, _ = await shop.connect(token)
            reply = await phone.ask("publish", channel=f"desk:{show}", data={"text": "hi"})
            assert reply["error"]["code"] == 103
