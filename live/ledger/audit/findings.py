"""What the audit can find: a stable code each, and who can mend it how.

Always: every code that a check uses has its sentence here (a test holds the two together). Codes
are for machines and alarms and are never renamed; texts may change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Promise = Literal["P1", "P2", "P5", "log"]
Who = Literal["service", "repair", "person"]
"""service: mends itself within minutes; repair: `live audit --repair`; person: nobody else can."""


@dataclass(frozen=True, slots=True)
class Check:
    """`query` returns `name` and `text` of what it found, at most $2 rows, of the show $1; also a
    `code` where it looks for several things at once.

    Checks of the whole shop take the number of rows as $1 and no show.
    """

    code: str
    promise: Promise
    query: str
    in_flight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken promise; `line` is what people read."""

    code: str
    line: str
    who: Who
    how: str


def finding(code: str, promise: str, name: str, text: str) -> Finding:
    """Raises KeyError for a code that nobody explains."""
    who, how = MENDS[code]
    return Finding(code=code, line=f"{promise} {name}: {text}", who=who, how=how)


_REBUILD = (
    "--repair makes the show's stock in Redis again from the ledger; where the ledger contradicts "
    "itself, mend that first"
)
_PROJECT = "--repair tells Redis and viewers again what the ledger says"
_BACKUP = (
    "compare the row with a backup and with the provider; nothing here can tell which side is right"
)
_WORKER = "--repair lets the payment worker decide it now, and asks for its void if it cannot"
_REFUNDS = (
    "--repair has each refund looked up at the provider and sets the sums to those that are done; "
    "of captures, and of what still differs, a person compares the rows with the provider's books"
)
_PROVIDER = "look at the charge in the provider's dashboard; refund or void there what is not owed"

_FEW = (
    "; where there are more than 20 such payments orders may have been lost: compare with a backup "
    "first, then say how many to give back with --refund-up-to"
)
_UNOWNED = "--repair sends back what was captured for no order" + _FEW

MENDS: Mapping[str, tuple[Who, str]] = {
    "ledger_unread": ("service", "Postgres failed; if it stays, run `live doctor`"),
    "stock_unread": ("repair", _REBUILD),
    "outbox_behind": ("repair", "--repair settles it; if it comes back, look why no settler runs"),
    "oversold": ("person", "pause the offer, then cancel orders or restock it"),
    "stock_doubted": ("repair", _REBUILD),
    "entry_aside": (
        "repair",
        "--repair tries it once more and makes the stock again; if it then says that it cannot be "
        "settled, a person looks at the reason (UniqueViolationError: rows of a lost order are "
        "still there, so the ledger lacks a part; restore it whole), no further repair helps",
    ),
    "offer_unknown": ("repair", _REBUILD),
    "offer_figures": ("repair", _REBUILD),
    "offer_terms": ("repair", _PROJECT),
    "stock_life": ("repair", _REBUILD),
    "stock_records": ("repair", _REBUILD),
    "stock_alarms": ("repair", _REBUILD),
    "stock_line": ("repair", _REBUILD),
    "show_told": ("repair", _PROJECT),
    "show_rehearsed": (
        "person",
        "it is on air and takes no money: set shows.rehearsed to false, or end the show",
    ),
    "offer_counter": (
        "repair",
        "--repair sets it to the sum of its movements if orders agree; else a person compares "
        "them with a backup",
    ),
    "offer_allotment": ("person", _BACKUP),
    "offer_of_another": ("person", _BACKUP),
    "offer_logged": ("person", "ask the host which is meant; pause the offer meanwhile"),
    "buyer_limit": (
        "person",
        "cancel what the buyer has too much of, or let them have it; nothing else depends on it",
    ),
    "product_shelf": (
        "repair",
        "--repair sets it to the sums if they fit on the shelf; else a person counts the units",
    ),
    "order_units": ("person", _BACKUP),
    "order_movement": ("person", _BACKUP),
    "order_total": ("person", _BACKUP),
    "order_unpaid": ("person", _BACKUP),
    "order_fulfilment": ("repair", "--repair sets it to what its parcels and returns say"),
    "order_withdrawn": (
        "person",
        "cancel the order, or take its goods back and pay (by a refund where the return is decided "
        "already): the buyer has a right to it by law",
    ),
    "shipment_units": (
        "person",
        "look in the warehouse what was sent; of a cancelled order, ask for the goods or the money",
    ),
    "return_units": ("person", _BACKUP),
    "return_decided": (
        "person",
        "compare it with the order's refunds and with the shelf; pay what is owed by a refund, put "
        "units there by a stock adjustment",
    ),
    "order_uncaptured": (
        "repair",
        "--repair asks for its capture again; where its job says otherwise, a person compares it "
        "with the provider's books",
    ),
    "order_refunds": ("repair", _REFUNDS),
    "order_payment": ("person", _BACKUP),
    "order_hold": ("person", "the order stands; compare it with what the buyer was told"),
    "hold_without_order": ("person", _BACKUP),
    "buyer_names": ("person", _BACKUP),
    "payment_lines": ("person", _BACKUP),
    "payment_totals": ("person", _BACKUP),
    "payment_sums": ("repair", _REFUNDS),
    "payment_state": ("person", _BACKUP + "; the provider's books tell what moved"),
    "payment_unowned": ("repair", _UNOWNED),
    "payment_kept": ("repair", "--repair voids it" + _FEW),
    "payment_hangs": ("repair", _WORKER),
    "payment_unattended": ("repair", _WORKER),
    "payment_undecided": ("repair", _WORKER),
    "job_refused": (
        "person",
        "ask for the refund again with a new key, or do it at the provider; a void is tried again",
    ),
    "job_overdue": ("service", "it is tried again; look whether the provider answers"),
    "job_amount": ("repair", _REFUNDS),
    "job_gone": ("person", "ask the host for the refund again; nobody else knows its amount"),
    "job_unowned": ("person", _BACKUP),
    "notice_unsent": ("service", "it is sent again; look whether Redis answers the settlers"),
    "notice_wrong": ("person", "the buyer reads another order; compare the row with a backup"),
    "row_unowned": ("person", _BACKUP),
    "books_differ": (
        "person",
        "where refunds differ, --repair looks up each one and takes over what became of it; else "
        + _PROVIDER,
    ),
    "books_unread": ("person", "give this audit the provider's settings, or look at it there"),
    "log_broken": ("person", "somebody changed the hosts' log; a backup has the right rows"),
    "bans_logged": ("person", "restrict the person again, or lift it; the hosts' log tells which"),
}
