"""A payment provider's own books, as an audit reads them."""

from dataclasses import dataclass, field

from live.domain.payment import ChargePage, ChargeRecord, PaymentId, PaymentState
from live.ledger.db.pool import Pool
from tests.support.ledger_kit import PRICE


@dataclass(slots=True)
class Books:
    """A provider's own list of charges, in pages of one; `since` is what was asked for last."""

    charges: list[ChargeRecord] = field(default_factory=list)
    name: str = "sandbox"
    since: list[int] = field(default_factory=list)

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        self.since.append(since_ms)
        at = int(cursor or 0)
        rest = len(self.charges) > at + 1
        return ChargePage(tuple(self.charges[at : at + 1]), str(at + 1) if rest else None)


class SilentBooks(Books):
    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        raise ConnectionRefusedError("nobody answers")


def charge(payment: str, amount_minor: int = PRICE) -> ChargeRecord:
    """All of a payment, or so much of one that costs PRICE, was captured."""
    return ChargeRecord(
        payment=PaymentId(payment),
        ref="",
        state=PaymentState.CAPTURED,
        amount_minor=PRICE,
        captured_minor=amount_minor,
        refunded_minor=0,
        currency="EUR",
    )


async def charges_of(pool: Pool) -> list[ChargeRecord]:
    """The books of a provider that agrees with every payment here."""
    rows = await pool.fetch(
        "SELECT id, state, captured_minor, refunded_minor, amount_minor, currency FROM payments"
    )
    return [
        ChargeRecord(
            payment=PaymentId(str(row["id"])),
            ref=f"ref-{row['id']}",
            state=PaymentState(row["state"]),
            amount_minor=row["amount_minor"],
            captured_minor=row["captured_minor"],
            refunded_minor=row["refunded_minor"],
            currency=row["currency"],
        )
        for row in rows
    ]
