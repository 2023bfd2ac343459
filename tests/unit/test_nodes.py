"""The slot table: URLs that name a cluster, and what redirections teach."""

import pytest

from live.base.errors import SettingsError
from live.base.redis_url import NodeUrl, read_hash_slots, seeds_of
from live.base.settings import Settings
from live.redis.nodes import Nodes


@pytest.mark.parametrize(
    ("url", "seeds"),
    [
        ("redis://one:1/0", ["redis://one:1/0"]),
        ("redis+cluster://one:1", ["redis://one:1"]),
        ("redis+cluster://one,two:2", ["redis://one:6379", "redis://two:2"]),
        ("rediss+cluster://ann:pw@one:1,[::1]:2/0", ["rediss://ann:pw@one:1", "rediss://ann:pw@[::1]:2"]),
        ("redis+cluster://one:1?ssl_cert_reqs=none", ["redis://one:1?ssl_cert_reqs=none"]),
    ],
)  # fmt: skip
def test_seeds_carry_what_the_url_says(url: str, seeds: list[str]) -> None:
    """Scheme, log-in and options hold for every node."""
    assert seeds_of(url) == seeds


@pytest.mark.parametrize(
    "url", ["redis+cluster://", "redis+cluster://one,,two", "redis+cluster://one/3", "http://one"]
)
def test_impossible_urls_are_settings_errors(url: str) -> None:
    """A cluster without nodes, or with a database."""
    with pytest.raises(SettingsError, match="LIVE_REDIS_URL"):
        Settings.from_env({"LIVE_REDIS_URL": url})


def test_plain_url_is_the_node_of_every_show() -> None:
    """Nothing is looked up, nothing is learned."""
    nodes = Nodes("redis://one:1")

    nodes.moved(5, "two", 2, nodes.of("a"))

    assert nodes.of("a") == nodes.of("b") == "redis://one:1"
    assert nodes.all() == {"redis://one:1"}


async def test_moved_changes_one_slot_and_tells() -> None:
    """Only shows in that slot go elsewhere; a repeat of the news is no news."""
    nodes = Nodes("redis+cluster://:pw@one:1")
    changes: list[None] = []
    nodes.on_change.append(lambda: changes.append(None))
    home = nodes.of("show")

    for _ in range(2):
        nodes.redirected("MOVED 15879 two:2", home)  # 15879: the slot of "show"

    assert (nodes.of("show"), nodes.of("live:{show}:meta")) == ("redis://:pw@two:2",) * 2
    assert nodes.of("other") == home
    assert nodes.all() == {home, "redis://:pw@two:2"}
    assert len(changes) == 1


def test_slot_moves_where_all_who_were_asked_agree() -> None:
    """A primary that comes back from a freeze tells what was true before it."""
    nodes = Nodes("redis+cluster://one:1")
    old = nodes._table_of([(0, 16_383, [NodeUrl("redis://one:1")])])
    new = nodes._table_of([(0, 9, [NodeUrl("redis://one:1")]), (10, 16_383, [NodeUrl("b")])])

    nodes._take([new, new])
    nodes._take([])
    nodes._take([old, new])
    assert (nodes._table[9], nodes._table[10]) == ("redis://one:1", "b")

    nodes._take([old])  # nobody else answers
    assert nodes._table[10] == "redis://one:1"


def test_node_that_names_no_host_is_where_we_asked() -> None:
    """A server that does not know its own address tells its port only."""
    home = seeds_of("redis+cluster://u:pw@one:1")[0]

    found = list(read_hash_slots([[0, 9, [b"", 7, b"id"], [None, 8, b"id"]]], home))

    assert found == [(0, 9, ["redis://u:pw@one:7", "redis://u:pw@one:8"])]
