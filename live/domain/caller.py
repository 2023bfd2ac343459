"""Who is calling: the rights that a verified token gives."""

from dataclasses import dataclass
from enum import StrEnum

from live.domain.ids import BuyerId, ShowId

ALL_SHOWS = "*"


class Role(StrEnum):
    VIEWER = "viewer"
    MODERATOR = "moderator"
    HOST = "host"
    SERVICE = "service"


RANKS = {Role.VIEWER: 0, Role.MODERATOR: 1, Role.HOST: 2, Role.SERVICE: 3}
"""Who stands above whom: what somebody does to a person reaches those below them, nobody else."""
ABOVE_ALL = max(RANKS.values()) + 1
"""The rank of what everybody obeys, such as their own log-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A verified person or machine. `sub` is "" and `buyer` None for an anonymous viewer.

    `guest` marks a token that the server itself gave away; `expires_at` and `issued_at` are Unix
    seconds. `token` names the token, `parent` the one that a console's session was made from.
    `without`: shows that the token covered, and of which its owner was logged out.
    """

    sub: str
    buyer: BuyerId | None
    role: Role
    shows: frozenset[str]
    expires_at: int | None
    guest: bool = False
    issued_at: int = 0
    token: str = ""
    parent: str = ""
    without: frozenset[str] = frozenset()

    def may_see(self, show: ShowId) -> bool:
        """Whether the token covers this show at all."""
        return show not in self.without and (ALL_SHOWS in self.shows or show in self.shows)

    def rank_in(self, show: ShowId) -> int:
        """How high the caller stands in a show; a viewer where the token does not cover it."""
        return RANKS[self.role] if self.may_see(show) else RANKS[Role.VIEWER]

    def may_host(self, show: ShowId) -> bool:
        return self.role in (Role.HOST, Role.SERVICE) and self.may_see(show)

    def may_moderate(self, show: ShowId) -> bool:
        return self.role is not Role.VIEWER and self.may_see(show)

    @property
    def person(self) -> str:
        """How Redis and gateways know them; "" for somebody without a name."""
        return "" if self.buyer is None else self.buyer.hex()

    @property
    def everywhere(self) -> bool:
        """Whether the token covers every show, as writing to the catalogue demands."""
        return ALL_SHOWS in self.shows
