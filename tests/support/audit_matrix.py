"""The matrix: every column and every field of a show, and which check notices its change.

A new column, table, key or field without an entry fails `test_audit_matrix.py`. An entry is
`Seen` - how to change it on the stage of `audit_stage.py` and the code of the finding - or a text:
why a change cannot be noticed, or does no harm. A check that a text names is another's `Seen`.
"""

from dataclasses import dataclass

from tests.support.ledger_kit import PRICE


@dataclass(frozen=True, slots=True)
class Seen:
    """`to`: SQL of the new value; without it one is made by the column's type. The first row for
    which `where` holds is changed."""

    code: str
    to: str = ""
    where: str = "true"


FREE_TEXT = "free text for people; nothing is decided by it"
ORDER_ONLY = "numbers rows in the order they came; nothing refers to it"
WHEN = "tells people when; nothing is decided by it"
MEMORY = "remembers calls and deliveries for a bounded time; a repeat ends in the rows checked here"
TOLD = "tells the shop of rows checked here; sold, paid and sent is what these say, not it"
OWN = "the tools' own memory: `--full` believes none of it, `migrate` checks its own"

_PAID = "state = 'paid'"
_UNSENT = "fulfilment = 'unfulfilled'"
_HELD = "state = 'held'"
_BY_CARD = f"state = 'captured' AND amount_minor = {2 * PRICE}"
_DUE = "state = 'due' AND kind = 'capture'"
_SALE = "kind = 'sold'"
_LOGGED = "show <> '*'"
_OFFER_A = "slot = 0"

TABLES: dict[str, str | dict[str, Seen | str]] = {
    "products": {
        "*": Seen("offer_of_another"),
        "sku": Seen("product_shelf"),
        "title": FREE_TEXT,
        "description": FREE_TEXT,
        "image_url": FREE_TEXT,
        "price_minor": "what a new offer is proposed at; each offer has its own, which is checked",
        "currency": Seen("offer_of_another", to="'USD'"),
        "on_hand": Seen("product_shelf"),
        "allotted": Seen("product_shelf"),
        "created_at": WHEN,
    },
    "shows": {
        "*": Seen("row_unowned"),
        "id": Seen("row_unowned"),
        "title": Seen("show_told"),
        "status": Seen("show_told", to="'paused'"),
        "language": Seen("show_told"),
        "currency": Seen("offer_of_another", to="'USD'"),
        "playback_url": Seen("show_told"),
        "paid_partnership": Seen("show_told"),
        "pins": Seen("show_told", to="ARRAY['lamp']"),
        "run_order": Seen("show_told", to="ARRAY['lamp']"),
        "announcement": Seen("show_told"),
        "announcement_until": Seen("show_told", to="now() + interval '1 hour'"),
        "frozen": Seen("show_told"),
        "slow_mode_seconds": Seen("show_told"),
        "rehearsal_passcode": Seen("show_told"),
        "starts_at": Seen("show_told", to="now()"),
        "stock_epoch": Seen("stock_life"),
        "version": Seen("show_told"),
        "created_at": WHEN,
        "carried_version": "lower: an end is carried once more; higher: no more than "
        "`version` is skipped, and `show_told` notices what viewers lack",
        "rehearsed": Seen("show_rehearsed"),
        "providers": Seen("show_told", to="ARRAY['invoice']"),
        "retired_at": "NULL: an ended show's keys are given their end once more; set: its keys go "
        "later, or a rebuild clears it",
    },
    "offers": {
        "*": Seen("row_unowned", where=_OFFER_A),
        "id": Seen("offer_counter", where=_OFFER_A),
        "show": Seen("offer_unknown", to="'elsewhere'", where=_OFFER_A),
        "slot": Seen("offer_unknown", to="700", where=_OFFER_A),
        "sku": Seen("offer_of_another", where=_OFFER_A),
        "title": Seen("show_told", where=_OFFER_A),
        "image_url": Seen("show_told", where=_OFFER_A),
        "price_minor": Seen("offer_logged", where=_OFFER_A),
        "currency": Seen("offer_of_another", to="'USD'", where=_OFFER_A),
        "mode": Seen("offer_logged", to="'first_paid'", where=_OFFER_A),
        "phase": Seen("offer_terms", to="'paused'", where=_OFFER_A),
        "quantity": Seen("offer_allotment", where=_OFFER_A),
        "allotted": Seen("offer_allotment", where=_OFFER_A),
        "sold": Seen("offer_counter", where=_OFFER_A),
        "per_buyer_limit": Seen("offer_logged", where=_OFFER_A),
        "hold_seconds": Seen("offer_logged", where=_OFFER_A),
        "waitlist": Seen("offer_terms", where=_OFFER_A),
        "guests": Seen("show_told", where=_OFFER_A),
        "countdown_seconds": "read once, when the offer opens: `opens_at` says what came of it",
        "duration_seconds": "read once, when the offer opens: `closes_at` says what came of it",
        "opens_at": Seen("offer_terms", where=_OFFER_A),
        "closes_at": Seen("offer_terms", where=_OFFER_A),
        "version": Seen("offer_terms", where=_OFFER_A),
        "created_at": WHEN,
        "sold_out": Seen("show_told", where="phase = 'paused'"),
        "providers": Seen("show_told", to="ARRAY['invoice']", where=_OFFER_A),
    },
    "holds": {
        "*": Seen("stock_records", where=_HELD),
        "show": Seen("stock_records", to="'elsewhere'", where=_HELD),
        "buyer": Seen("stock_records", where=_HELD),
        "key": Seen("stock_records", where=_HELD),
        "state": Seen("stock_records", to="'released'", where=_HELD),
        "slots": Seen("stock_records", to="ARRAY[2]", where=_HELD),
        "quantities": Seen("stock_records", to="ARRAY[2]", where=_HELD),
        "expires_at": Seen("stock_records", where=_HELD),
        "seq": Seen("stock_life", to="seq + 1000000", where=_HELD),
    },
    "waitlist": {
        "*": Seen("stock_line"),
        "show": Seen("stock_line", to="'elsewhere'"),
        "offer": Seen("stock_line", to="replace(offer, '-b', '-a')"),
        "buyer": Seen("stock_line"),
        "sub": "the name beside a buyer's digest; `buyer_names` notices it where they bought, too",
        "key": Seen("stock_line"),
        "qty": Seen("stock_line"),
        "state": Seen("stock_line", to="'left'"),
        "seq": Seen("stock_life", to="seq + 1000000"),
        "created_at": WHEN,
    },
    "payments": {
        "*": Seen("order_unpaid", where=_BY_CARD),
        "id": Seen("order_unpaid", where=_BY_CARD),
        "order_id": Seen("order_payment", where=_BY_CARD),
        "show": Seen("order_payment", to="'elsewhere'", where=_BY_CARD),
        "buyer": Seen("order_payment", where=_BY_CARD),
        "sub": Seen("order_payment", where=_BY_CARD),
        "hold": Seen("order_payment", where=_BY_CARD),
        "attempt": "the key of the checkout call: a repeat of it gets the hold's active payment",
        "mode": Seen("payment_lines", to="'first_paid'", where=_BY_CARD),
        "slots": Seen("payment_lines", to="ARRAY[7]", where=_BY_CARD),
        "quantities": Seen("payment_lines", to="ARRAY[1]", where=_BY_CARD),
        "prices_minor": Seen("payment_lines", to="ARRAY[1]", where=_BY_CARD),
        "amount_minor": Seen("payment_lines", where=_BY_CARD),
        "currency": Seen("payment_lines", to="'USD'", where=_BY_CARD),
        "provider": Seen("books_differ", to="'stripe'", where=_BY_CARD),
        "token": "asked once, when the payment is authorised; the books tell what came of it",
        "provider_ref": Seen("books_differ", where=_BY_CARD),
        "state": Seen("payment_state", to="'refunded'", where=_BY_CARD),
        "reason": FREE_TEXT,
        "action": "what the buyer was sent to; the provider tells it again to the payment worker",
        "captured_minor": Seen("payment_sums", to="captured_minor - 1", where=_BY_CARD),
        "refunded_minor": Seen("payment_sums", where=_BY_CARD),
        "contact": "only here, by intent: no second copy could notice a change, and no money moves",
        "lease_until": Seen(
            "payment_unattended", to="now() + interval '1 day'", where="state = 'action_required'"
        ),
        "tries": "the pause before the next look, which is bounded",
        "created_at": "an undecided payment is given up sooner or later, in its window",
        "updated_at": "later: `payment_hangs` sees it a minute later; earlier: at once",
        "held_until": "the stock engine never lengthens a hold by it beyond the deadline it had",
        "refunds_turn": "another turn: who works at refunds writes nothing and asks again",
        "refunds_until": "until when a worker has its turn at the refunds, which is seconds",
        "refunds_news_at": Seen(
            "job_overdue", to="now() - interval '1 day'", where="state = 'captured'"
        ),
        "totals": Seen(
            "payment_totals",
            to="""'[{"type": "subtotal", "label": "", "amount_minor": 1, "inclusive": false},
                  {"type": "total", "label": "", "amount_minor": 1, "inclusive": false}]'""",
            where=_BY_CARD,
        ),
        "quote": "tells a repeat from another purchase; what it came to is in `totals`",
        "voiding": "says earlier what the void's job says: a sale for it is refused and undone",
    },
    "orders": {
        "*": Seen("order_movement", where=_PAID),
        "id": Seen("order_payment", where=_PAID),
        "show": Seen("row_unowned", to="'elsewhere'", where=_PAID),
        "buyer": Seen("order_payment", where=_PAID),
        "sub": Seen("order_payment", where=_PAID),
        "key": Seen("order_payment", where=_PAID),
        "payment": Seen("order_unpaid", where=_PAID),
        "state": Seen("order_refunds", to="'refunded'", where=_PAID),
        "total_minor": Seen("order_total", where=_PAID),
        "refunded_minor": Seen("order_refunds", where=_PAID),
        "currency": Seen("order_payment", to="'USD'", where=_PAID),
        "seq": Seen("stock_life", to="seq + 1000000", where=_PAID),
        "created_at": Seen("order_movement", where=_PAID),
        "reason": FREE_TEXT,
        "paid_reference": FREE_TEXT,
        "position": "where a reader of the list goes on; each order is read by its id as well",
        "fulfilment": Seen("order_fulfilment", to="'partial'", where=_PAID),
        "to_ship": Seen("order_fulfilment", to="false", where=_UNSENT),
        "reference": FREE_TEXT,
        "shop_cancelled": Seen("order_units", to="true", where="state = 'cancelled'"),
        "updated_at": WHEN,
        "changed": "as `position`: where a reader of changes goes on",
    },
    "shipments": {
        "*": Seen("order_fulfilment"),
        "id": Seen("shipment_units"),
        "order_id": Seen("shipment_units"),
        "carrier": FREE_TEXT,
        "tracking_number": FREE_TEXT,
        "tracking_url": FREE_TEXT,
        "status": Seen("order_fulfilment", to="'shipped'"),
        "created_at": WHEN,
        "updated_at": "of a delivery: until when a buyer may withdraw, days sooner or later",
    },
    "shipment_items": {
        "*": Seen("shipment_units"),
        "shipment": Seen("shipment_units"),
        "line": Seen("shipment_units"),
        "qty": Seen("shipment_units"),
    },
    "returns": {
        "*": Seen("order_withdrawn"),
        "id": Seen("return_units"),
        "order_id": Seen("order_withdrawn"),
        "reason": FREE_TEXT,
        "state": Seen("return_decided", to="'approved'"),
        "refund_minor": Seen("return_decided"),
        "restocked": Seen("return_decided"),
        "created_at": WHEN,
        "updated_at": WHEN,
    },
    "return_items": {
        "*": Seen("return_units"),
        "return": Seen("return_units"),
        "line": Seen("return_units"),
        "qty": Seen("order_fulfilment"),
    },
    "withdrawals": {
        "*": "what a buyer declared: the order is cancelled, or its goods are on their way, and "
        "`order_withdrawn` holds those against it",
        "order_id": "of another order: `order_withdrawn` says that its return is not of it",
        "statement": FREE_TEXT,
        "return": Seen("order_withdrawn"),
        "created_at": WHEN,
    },
    "order_items": {
        "*": Seen("order_units"),
        "order_id": Seen("order_units"),
        "offer": Seen("order_units", to="replace(offer, '-a', '-c')", where="offer LIKE '%-a'"),
        "qty": Seen("order_units"),
        "price_minor": Seen("order_payment"),
    },
    "stock_movements": {
        "*": Seen("order_units", where=_SALE),
        "id": ORDER_ONLY,
        "sku": Seen("offer_of_another", where=_SALE),
        "offer": Seen("order_units", to="replace(offer, '-a', '-c')", where=_SALE),
        "order_id": Seen("order_units", where=_SALE),
        "kind": Seen("order_units", to="'returned'", where=_SALE),
        "qty": Seen("order_units", where=_SALE),
        "reason": FREE_TEXT,
        "key": "an adjustment's key: a repeat of that call would adjust again, in the open",
        "created_at": Seen("order_movement", where=_SALE),
    },
    "payment_entries": {
        "*": Seen("payment_sums", where="kind = 'captured'"),
        "id": ORDER_ONLY,
        "payment": Seen("payment_sums", where="kind = 'captured'"),
        "kind": Seen("payment_sums", to="'unknown'", where="kind = 'captured'"),
        "amount_minor": Seen("payment_sums", where="kind = 'captured'"),
        "detail": FREE_TEXT,
        "created_at": "younger: a refused capture has five minutes more before it is told",
    },
    "money_jobs": {
        "*": Seen("order_uncaptured", where=_DUE),
        "id": ORDER_ONLY,
        "payment": Seen("order_uncaptured", where=_DUE),
        "kind": Seen("order_uncaptured", to="'void'", where=_DUE),
        "amount_minor": Seen("job_amount", where=_DUE),
        "reason": FREE_TEXT,
        "asked_why": FREE_TEXT,
        "request": Seen("job_gone", to="'lost'", where="request LIKE 'host:%'"),
        "state": Seen("order_uncaptured", to="'failed'", where=_DUE),
        "tries": "the pause before the next try, which is bounded",
        "due_at": Seen("job_overdue", to="now() + interval '1 day'", where=_DUE),
        "created_at": "earlier: `job_overdue` tells it sooner; later: so much later",
        "doubted": "of older versions that may run beside this one; nothing here reads it",
        "pending_at": "since when a provider is at work: `job_overdue` tells it so much later",
    },
    "notices": {
        "*": "deleted once it is told, so one that is gone looks like one that was told; "
        "the buyer reads the same from `order.get` and when they connect",
        "id": ORDER_ONLY,
        "show": Seen("notice_wrong", to="'elsewhere'"),
        "buyer": Seen("notice_wrong"),
        "kind": "one that nobody knows is given up with an alarm (`live_ledger_notices_given_up`)",
        "order_id": Seen("notice_wrong"),
        "body": "what no order says: a failed payment's hold and reason, read by the buyer alone",
        "due_at": Seen("notice_unsent", to="now() + interval '1 day'"),
        "tries": "the pause before the next try, which is bounded",
        "created_at": "earlier: `notice_unsent` tells it sooner; later: so much later",
    },
    "host_actions": {
        "*": Seen("log_broken", where=_LOGGED),
        "id": Seen("log_broken", to="DEFAULT", where=_LOGGED),
        "show": Seen("log_broken", to="'elsewhere'", where=_LOGGED),
        "caller": Seen("log_broken", where=_LOGGED),
        "role": Seen("log_broken", where=_LOGGED),
        "action": Seen("log_broken", where=_LOGGED),
        "detail": Seen("log_broken", to="'{}'", where=_LOGGED),
        "address": Seen("log_broken", where=_LOGGED),
        "created_at": Seen("log_broken", where=_LOGGED),
        "previous": Seen("log_broken", to="'\\x00'", where=_LOGGED),
        "hash": Seen("log_broken", where=_LOGGED),
    },
    "bans": {
        "*": Seen("bans_logged"),
        "show": Seen("bans_logged", to="'elsewhere'"),
        "sub": Seen("bans_logged"),
        "kind": Seen("bans_logged", to="'ban'"),
        "until": Seen("bans_logged"),
        "rank": "whom a restriction reaches, and who may lift it; the hosts' log has who made it",
        "created_at": WHEN,
    },
    "poison": "what was put aside, for people; each movement in it is missed by the checks of "
    "orders, payments and stock, and `entry_aside` tells it until it is decided",
    "stock_doubts": "one too many: the stock is made again; one too few: what was doubted is "
    "found by the checks of the stock",
    "sales_to_undo": "one too many gives no unit back twice, since the record is looked at; of one "
    "too few Redis keeps the units, and the checks of the stock tell it",
    "leases": "who is at work until when, by a fence that only grows; a second one does no harm",
    "revocations": "who is logged out; tokens end by themselves, and no money moves",
    "webhook_events": MEMORY,
    "events": TOLD,
    "event_sequence": TOLD,
    "event_replays": TOLD,
    "deliveries": TOLD,
    "webhooks": "where the shop wants its events; its own choice, and told in the log of actions",
    "shop_references": "the shop's own word; a wrong one refuses a payment, and the shop sees why",
    "webhook_secrets": "made at random; a wrong one is refused by the shop's own server",
    "idempotency": MEMORY,
    "audit_results": OWN,
    "audit_proofs": OWN,
    "audit_marks": OWN,
    "migrations": OWN,
}

# Redis, by field of what the stock engine reads back; how each is changed: test_audit_matrix.py.
META: dict[str, str] = {
    "stock_epoch": "stock_life",
    "run_id": "stock_unread",
    "seq": "stock_life",
    "offers": "stock_life",
    "ttl_max": "stock_life",
    "fence": "",  # of the last rebuild, which made one: it only keeps older ones from going on
}
OFFER: dict[str, str] = {
    "phase": "offer_terms",
    "mode": "offer_terms",
    "waitlist": "offer_terms",
    "version": "offer_terms",
    "per_buyer_limit": "offer_terms",
    "hold_seconds": "offer_terms",
    "opens_at": "offer_terms",
    "closes_at": "offer_terms",
    "reserved": "stock_line",
    "left": "offer_figures",
    "held": "offer_figures",
    "sold": "offer_figures",
}
RECORD: dict[str, str | None] = {
    "buyer": "stock_records",
    "key": "stock_records",
    "state": "stock_records",
    "lines": "stock_records",
    "time": "stock_records",
    "held_until": None,  # bounds what a failed payment's hold gets back; the row has it, too
}
KEYS: dict[str, str] = {
    "meta": "stock_unread",
    "offers": "stock_unread",
    "buyers": "stock_unread",
    "outbox": "stock_unread",
    "deadlines": "stock_unread",
    "wait": "stock_unread",
    "guests": "stock_unread",
    "refused": "stock_unread",
}
"""What is told when a whole key is gone."""
TOLD_KEYS: dict[str, str] = {
    "state": "show_told notices it",
    "log": "what was said, for those who come back; lost, they take a snapshot",
    "logs": "places in the logs; lost, a new log epoch begins and everybody takes a snapshot",
    "viewers": "heartbeats, written again every second",
    "reactions": "a counter for the eyes",
    "presence": "heartbeats of moderators and hosts, written again",
}
"""Keys of delivery: nobody is sold anything by them."""
