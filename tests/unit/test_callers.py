"""The rights that a verified token gives, by table."""

import pytest

from live.domain.caller import ALL_SHOWS, RANKS, Caller, Role
from live.domain.ids import ShowId

SHOW = ShowId("demo")


def caller(role: Role, *shows: str, without: frozenset[str] = frozenset()) -> Caller:
    return Caller(
        sub="ada", buyer=None, role=role, shows=frozenset(shows), expires_at=None, without=without
    )


@pytest.mark.parametrize(
    ("shows", "without", "sees"),
    [
        (("demo",), (), True),
        (("other", "demo"), (), True),
        ((ALL_SHOWS,), (), True),
        ((), (), False),
        (("other",), (), False),
        (("demo",), ("demo",), False),
        ((ALL_SHOWS,), ("demo",), False),
        ((ALL_SHOWS,), ("other",), True),
    ],
)
def test_token_covers_what_it_names(
    shows: tuple[str, ...], without: tuple[str, ...], sees: bool
) -> None:
    """A show by its name or all of them, but none that its owner was logged out of."""
    host = caller(Role.HOST, *shows, without=frozenset(without))
    assert host.may_see(SHOW) is sees
    assert (host.may_host(SHOW), host.may_moderate(SHOW)) == (sees, sees)
    assert host.rank_in(SHOW) == RANKS[Role.HOST if sees else Role.VIEWER]


@pytest.mark.parametrize(
    ("role", "hosts", "moderates"),
    [
        (Role.VIEWER, False, False),
        (Role.MODERATOR, False, True),
        (Role.HOST, True, True),
        (Role.SERVICE, True, True),
    ],
)
def test_role_says_what_somebody_may_do(role: Role, hosts: bool, moderates: bool) -> None:
    """In a show that their token covers."""
    one = caller(role, SHOW)
    assert (one.may_host(SHOW), one.may_moderate(SHOW)) == (hosts, moderates)
    assert one.rank_in(SHOW) == RANKS[role]
