"""Reactions gathered in a process and added up in Redis."""

from live.chat.reactions import ReactionTally
from live.domain.ids import ShowId
from live.showlog.store import Store


class CountingStore(Store):
    """The real store; remembers how often it was called."""

    calls = 0

    async def add_reaction(self, show: ShowId, kind: str, count: int = 1) -> None:
        self.calls += 1
        await super().add_reaction(show, kind, count)


async def test_many_taps_are_few_calls(redis_url: str, show: ShowId) -> None:
    """Two gateways' taps add up; each calls Redis once a kind, and nothing is left at the end."""
    stores = [CountingStore(redis_url), CountingStore(redis_url)]
    for store in stores:
        await store.open()
        tally = ReactionTally(store)
        for _ in range(100):
            tally.add(show, "heart")
        tally.add(show, "fire")
        await tally.close()
        assert store.calls == 2

    assert await stores[0].reactions(show) == {"heart": 200, "fire": 2}
    for store in stores:
        await store.close()


async def test_taps_are_lost_with_redis_and_do_no_harm(show: ShowId) -> None:
    """A store that cannot be reached costs the taps of that moment, not the process."""
    gone = Store("redis://127.0.0.1:1/0")
    tally = ReactionTally(gone)
    tally.add(show, "heart")
    await tally.close()
    tally.add(show, "heart")
    await tally.close()
    await gone.close()
