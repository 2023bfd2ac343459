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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A verified person or machine. `sub` is "" and `buyer` None for an anonymous viewer.

    `guest` marks a token that the server itself gave away; `expires_at` is Unix seconds.
    """

    sub: str
    buyer: BuyerId | None
    role: Role
    shows: frozenset[str]
    expires_at: int | None
    guest: bool = False

    def may_see(self, show: ShowId) -> bool:
        """Whether the token covers this show at all."""
        return ALL_SHOWS in self.shows or show in self.shows

    def may_host(self, show: ShowId) -> bool:
        return self.role in (Role.HOST, Role.SERVICE) and self.may_see(show)

    def may_moderate(self, show: ShowId) -> bool:
        return self.role is not Role.VIEWER and self.may_see(show)

    @property
    def everywhere(self) -> bool:
        """Whether the token covers every show, as writing to the catalogue demands."""
        return ALL_SHOWS in self.shows
