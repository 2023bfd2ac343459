"""What both recipes need: amounts as other shops write them, and a note of what was handed over."""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

Order = dict[str, Any]  # as the API gives it
HandOver = Callable[[Order], str]

# ISO 4217: digits behind the point, other than two.
DIGITS = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def amount(minor: int, currency: str) -> str:
    """Minor units as a decimal number in a string, exactly: 1250 is "12.50" EUR and "1.250" KWD."""
    return f"{Decimal(minor).scaleb(-DIGITS.get(currency, 2)):f}"


def extras(order: Order) -> list[tuple[str, str, int]]:
    """What the buyer paid beside the goods: (type, label, minor units)."""
    kinds = ("shipping", "tax", "duty")
    found = [one for one in order["totals"] if one["type"] in kinds and not one["inclusive"]]
    return [(one["type"], one["label"], one["amount_minor"]) for one in found]


def filled(**fields: str) -> dict[str, str]:
    """Without the empty ones: an empty e-mail is refused where none would be taken."""
    return {name: value for name, value in fields.items() if value}


class Notes:
    """Which order is which in the other shop; `begun` before it is made there, so that after a lost
    answer we look before we make it again."""

    def __init__(self, path: str) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE IF NOT EXISTS handed (ours PRIMARY KEY, theirs)")

    def once(self, order: str, *, find: Callable[[], str | None], make: Callable[[], str]) -> str:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            found = db.execute("SELECT theirs FROM handed WHERE ours = ?", (order,)).fetchone()
            if found is not None and found[0] is not None:
                return str(found[0])
            if found is None:
                db.execute("INSERT INTO handed (ours) VALUES (?)", (order,))
            theirs = (find() if found else None) or make()
            db.execute("UPDATE handed SET theirs = ? WHERE ours = ?", (theirs, order))
        return theirs


def run(hand_over: HandOver) -> None:
    """Receive webhooks (examples/webhooks) and hand each order over once it is paid."""
    sys.path.append(str(Path(__file__).parents[1] / "webhooks"))
    import receiver

    def on_event(id: str, event: dict[str, Any]) -> None:
        if event["type"] == "order.paid":
            print(event["data"]["order"], "is", hand_over(event["data"]), flush=True)

    receiver.run(on_event)
