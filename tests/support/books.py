"""A payment provider's own books, as an audit reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from live.domain.payment import PaymentState
from live.ledger.db.pool import Pool
from tests.support.ledger_kit import PRICE


@dataclass(frozen=True, slots=True)
class Charge:
    payment: str
    state: PaymentState
    captured_minor: int
    refunded_minor: int
    ref: str = ""
    amount_minor: int = PRICE
    currency: str = "EUR"


@dataclass(frozen=True, slots=True)
class Page:
    charges: Sequence[Charge]
    cursor: str | None


@dataclass(slots=True)
class Books:
    """A provider's own list of charges, in pages of one; `since` is what was asked for last."""

    charges: list[Charge] = field(default_factory=list)
    name: str = "sandbox"
    since: list[int] = field(default_factory=list)

    async def list_charges(self, *, cursor: str | None, limit: int, since_ms: int = 0) -> Page:
        self.since.append(since_ms)
        at = int(cursor or 0)
        rest = len(self.charges) > at + 1
        return Page(self.charges[at : at + 1], str(at + 1) if rest else None)


class SilentBooks(Books):
    async def list_charges(self, *, cursor: str | None, limit: int, since_ms: int = 0) -> Page:
        raise ConnectionRefusedError("nobody answers")


async def charges_of(pool: Pool) -> list[Charge]:
    """The books of a provider that agrees with every payment here."""
    rows = await pool.fetch(
        "SELECT id, state, captured_minor, refunded_minor, amount_minor, currency FROM payments"
    )
    return [
        Charge(
            str(row["id"]),
            PaymentState(row["state"]),
            row["captured_minor"],
            row["refunded_minor"],
            f"ref-{row['id']}",
            row["amount_minor"],
            row["currency"],
        )
        for row in rows
    ]
