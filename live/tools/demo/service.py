"""What the demo needs of whoever started the service, and what it can be told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from live.domain.caller import Role
from live.domain.ids import Sku
from live.domain.offer import HOLD_SECONDS_MIN

SAMPLE_FEED = Path(__file__).with_name("feed.tsv")
VIEWERS_MAX = 20_000
SECONDS_MIN, SECONDS_MAX = 6, 3_600


class Service(Protocol):
    """A running service; `live/run/supervisor.py` has one."""

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:8000`, without a slash at the end."""

    def token(self, role: Role, sub: str, *, shows: Sequence[str], ttl_seconds: int) -> str:
        """Make a token that the service accepts."""

    async def audit(self) -> bytes:
        """Run the audit; the JSON that `live audit --json` prints."""


class FeedItem(Protocol):
    """A product of the sample feed, as `live/commerce/imports.py` reads it."""

    @property
    def sku(self) -> Sku: ...
    @property
    def title(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def image_url(self) -> str: ...
    @property
    def price_minor(self) -> int: ...
    @property
    def currency(self) -> str: ...
    @property
    def on_hand(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`json`: everything for people goes to standard error, one JSON line to standard output."""

    read_feed: Callable[[Path], Sequence[FeedItem]]
    feed: Path = SAMPLE_FEED
    show: str = "demo"
    viewers: int = 200
    seconds: int = 30  # from the start of the countdown to the closing of the offer
    seed: int = 1
    json: bool = False
    serves_on: bool = False  # after the sale: then the addresses are told once more

    def __post_init__(self) -> None:
        if not 1 <= self.viewers <= VIEWERS_MAX:
            raise ValueError(f"viewers must be from 1 to {VIEWERS_MAX}")
        if not SECONDS_MIN <= self.seconds <= SECONDS_MAX:
            raise ValueError(f"seconds must be from {SECONDS_MIN} to {SECONDS_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The phases of a run, all derived from `--seconds`."""

    countdown_seconds: int
    sale_seconds: int
    hold_seconds: int


def timing(seconds: int) -> Timing:
    """Fit the phases in: an abandoned hold must expire, and its units be sold, inside the sale."""
    countdown_seconds = max(1, min(5, seconds // 6))
    return Timing(
        countdown_seconds=countdown_seconds,
        sale_seconds=max(HOLD_SECONDS_MIN + 1, seconds - countdown_seconds),
        hold_seconds=max(HOLD_SECONDS_MIN, min(60, seconds // 3)),
    )
