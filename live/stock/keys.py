"""Redis keys of the stock engine. One hash tag per show, so all keys of a show share a slot."""

from dataclasses import dataclass
from secrets import token_hex

from live.domain.ids import ShowId

GROUP = "settlers"  # the consumer group that copies the outbox to the ledger


@dataclass(frozen=True, slots=True)
class ShowKeys:
    meta: bytes
    offers: bytes
    buyers: bytes
    outbox: bytes
    deadlines: bytes
    wait: bytes
    guests: bytes
    refused: bytes


def show_keys(show: ShowId) -> ShowKeys:
    return ShowKeys(*(_key(show, name) for name in ShowKeys.__slots__))


def staging_keys(show: ShowId, stock_epoch: int) -> ShowKeys:
    """Where one rebuild gathers the life `stock_epoch` of a show, apart from any other rebuild."""
    place = f"staging:{stock_epoch}:{token_hex(8)}"
    return ShowKeys(*(_key(show, f"{place}:{name}") for name in ShowKeys.__slots__))


def _key(show: ShowId, name: str) -> bytes:
    return f"live:{{{show}}}:{name}".encode()
