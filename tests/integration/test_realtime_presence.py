"""Who is there is told in small rooms only: a crowd is counted, not listed."""

import pytest

from live.connection.application import Gateway
from live.domain.ids import ShowId
from live.showlog import presence
from tests.support.realtime_parts import Phone, dial, gateway

SIZE = 3


@pytest.fixture(autouse=True)
def small_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "SMALL_AUDIENCE_MAX", SIZE)


async def enter(made: Gateway) -> Phone:
    phone = dial(made)
    await phone.ask("connect")
    await phone.ask("subscribe", channel="room")
    return phone


def comings(phone: Phone, kind: str) -> int:
    """How many joins or leaves a phone was told of."""
    pushes = [message.get("push") for message in phone.messages]
    return sum(kind in push for push in pushes if isinstance(push, dict))


async def present(phone: Phone) -> object:
    """Ids of who is listed, or the code of the refusal."""
    reply = await phone.ask("presence", channel="room")
    if "error" in reply:
        return reply["error"]["code"]
    return set(reply["presence"]["presence"])


async def test_presence_ends_where_the_room_is_no_longer_small(
    redis_url: str, show: ShowId
) -> None:
    """At the bound everybody is listed and told; one more and presence is 108, joins are silent."""
    async with gateway(redis_url, show) as made:
        phones = [await enter(made) for _ in range(SIZE)]
        first = phones[0]
        await first.until(lambda phone: comings(phone, "join") == SIZE)
        ids = {phone.session.client for phone in phones if phone.session}
        assert await present(first) == ids

        last = await enter(made)
        assert await present(first) == 108
        stats = (await first.ask("presence_stats", channel="room"))["presence_stats"]
        assert stats == {"num_clients": SIZE + 1, "num_users": 1}
        await last.ask("unsubscribe", channel="room")
        await phones[1].ask("unsubscribe", channel="room")
        # What is told is told in order, so after this leave no earlier push is on its way.
        await first.until(lambda phone: comings(phone, "leave"))

        assert (comings(first, "join"), comings(first, "leave")) == (SIZE, 1)
        assert len(await present(first)) == SIZE - 1  # type: ignore[arg-type]
