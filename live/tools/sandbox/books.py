"""The sandbox provider's own books: charges, idempotency keys and events in one SQLite file.

Always: a charge, the key that asked for it and the event that reports it are written in one
transaction, so a provider killed at any moment remembers all three or none. A repeat with the same
key changes nothing.
Runs on: the sandbox's event loop. SQLite is called directly: a statement takes microseconds, and
a test provider may wait for its own disk.
"""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

import orjson

from live.domain.payment import PaymentState
from live.domain.payment_states import GIVEN_UP, MAY_HOLD_MONEY, REFUNDABLE, UNFINISHED

EVENT_TRIES_MAX = 8
PAGE_MAX = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS charges (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    payment TEXT NOT NULL UNIQUE, ref TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, token TEXT NOT NULL,
    request TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    captured INTEGER NOT NULL DEFAULT 0, refunded INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, request TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL,
    due_ms INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS refunds (
    key TEXT PRIMARY KEY, ref TEXT NOT NULL, amount INTEGER NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS later (
    payment TEXT PRIMARY KEY, due_ms INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    payment: str
    ref: str
    state: PaymentState
    amount_minor: int
    currency: str
    token: str
    reason: str
    captured_minor: int
    refunded_minor: int


class BookedRefundState(StrEnum):
    """pending -> succeeded or failed; succeeded -> failed, when the bank sends it back."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Refund:
    key: str
    ref: str
    amount_minor: int
    state: BookedRefundState
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    id: str
    body: bytes
    tries: int


class Refused(Exception):
    """The books do not allow it; `code` goes into the answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Books:
    """What the provider knows. `webhooks`: whether events are written at all."""

    def __init__(self, path: Path, *, webhooks: bool) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)
        self._webhooks = webhooks

    def close(self) -> None:
        self._db.close()

    def find(self, name: str) -> Charge | None:
        """A charge by the payment's id or by our ref."""
        rows = self._charges("payment = ? OR ref = ?", name, name)
        return rows[0] if rows else None

    def page(self, *, after: int, limit: int) -> tuple[list[Charge], int | None]:
        """Charges in the order they came, and the cursor of the next page."""
        found = self._db.execute(
            "SELECT number FROM charges WHERE number > ? ORDER BY number LIMIT ?",
            (after, min(limit, PAGE_MAX)),
        ).fetchall()
        if not found:
            return [], None
        last: int = found[-1][0]
        charges = self._charges("number > ? AND number <= ?", after, last)
        return charges, last if len(found) == min(limit, PAGE_MAX) else None

    def charge(
        self,
        payment: str,
        *,
        amount: int,
        currency: str,
        token: str,
        state: PaymentState,
        reason: str,
        now_ms: int,
        later_ms: int | None,
    ) -> tuple[Charge, bool]:
        """Make the one charge of a payment; `True` if this call made it.

        `later_ms`: the buyer's bank says yes by itself at that time (asynchronous methods).
        """
        request = f"{amount} {currency} {token}"
        with _Transaction(self._db):
            row = self._db.execute(
                "SELECT request FROM charges WHERE payment = ?", (payment,)
            ).fetchone()
            if row is not None:
                if row[0] != request:
                    raise Refused("idempotency.other_request")
                return self._must_find(payment), False
            self._db.execute(
                "INSERT INTO charges"
                " (payment, ref, state, amount, currency, token, request, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (payment, f"ch_{uuid4().hex}", state, amount, currency, token, request, reason),
            )
            if later_ms is not None:
                self._db.execute("INSERT INTO later VALUES (?, ?)", (payment, later_ms))
            charge = self._must_find(payment)
            self._event(charge, now_ms)
            return charge, True

    def decide(self, name: str, *, approve: bool, now_ms: int) -> Charge:
        """The buyer, or their bank, has decided; a second decision changes nothing."""
        with _Transaction(self._db):
            charge = self._must_find(name)
            if charge.state in UNFINISHED:
                state = PaymentState.AUTHORISED if approve else PaymentState.DECLINED
                charge = self._set(charge, state, now_ms=now_ms)
            return charge

    def decide_due(self, *, now_ms: int, limit: int) -> int:
        """Let the banks of asynchronous charges answer whose time has come."""
        due = self._db.execute(
            "SELECT payment FROM later WHERE due_ms <= ? LIMIT ?", (now_ms, limit)
        ).fetchall()
        for (payment,) in due:
            self.decide(payment, approve=True, now_ms=now_ms)
            self._db.execute("DELETE FROM later WHERE payment = ?", (payment,))
        return len(due)

    def capture(self, name: str, *, amount: int, key: str, now_ms: int) -> Charge:
        with _Transaction(self._db):
            charge = self._must_find(name)
            if self._seen(key, f"capture {charge.ref} {amount}"):
                return charge
            if (
                charge.state is not PaymentState.AUTHORISED
                or not 0 <= amount <= charge.amount_minor
            ):
                raise Refused(f"capture.{charge.state}")
            return self._set(charge, PaymentState.CAPTURED, captured=amount, now_ms=now_ms)

    def void(self, name: str, *, key: str, now_ms: int) -> Charge:
        with _Transaction(self._db):
            charge = self._must_find(name)
            if self._seen(key, f"void {charge.ref}") or charge.state in GIVEN_UP:
                return charge
            if charge.state not in MAY_HOLD_MONEY:
                raise Refused(f"void.{charge.state}")
            return self._set(charge, PaymentState.VOIDED, now_ms=now_ms)

    def refund(
        self, name: str, *, amount: int, key: str, state: BookedRefundState, now_ms: int
    ) -> Refund:
        """Make the one refund of a key, in this state; a repeat gets it as it is by now."""
        with _Transaction(self._db):
            charge = self._must_find(name)
            if self._seen(key, f"refund {charge.ref} {amount}"):
                found = self.find_refund(key)
                return found or Refund(key, charge.ref, amount, BookedRefundState.SUCCEEDED, "")
            gone = charge.refunded_minor + self._pending(charge.ref) + amount
            if amount < 1 or charge.state not in REFUNDABLE or gone > charge.captured_minor:
                raise Refused(f"refund.{charge.state}")
            self._db.execute(
                "INSERT INTO refunds (key, ref, amount, state) VALUES (?, ?, ?, ?)",
                (key, charge.ref, amount, BookedRefundState.PENDING),
            )
            if state is not BookedRefundState.PENDING:
                self._decide_refund(charge, key, amount, state, now_ms=now_ms)
            found = self.find_refund(key)
            assert found is not None, "it was written above"
            return found

    def find_refund(self, key: str) -> Refund | None:
        rows = self._refunds("key = ?", key)
        return rows[0] if rows else None

    def refunds_of(self, name: str) -> list[Refund]:
        """Every refund of a charge. Raises Refused for one that is not known."""
        return self._refunds("ref = ?", self._must_find(name).ref)

    def decide_refunds(self, name: str, state: BookedRefundState, *, now_ms: int) -> None:
        """The buyer's bank has decided on all refunds of a charge that may still change."""
        with _Transaction(self._db):
            charge = self._must_find(name)
            rows = self._db.execute(
                "SELECT key, amount FROM refunds WHERE ref = ? AND state IN (?, ?)",
                (charge.ref, BookedRefundState.PENDING, _UNDONE_BY[state]),
            ).fetchall()
            for key, amount in rows:
                self._decide_refund(self._must_find(name), key, amount, state, now_ms=now_ms)

    def due_events(self, *, now_ms: int, limit: int) -> list[Event]:
        rows = self._db.execute(
            "SELECT number, id, body, tries FROM events WHERE due_ms <= ? ORDER BY number LIMIT ?",
            (now_ms, limit),
        )
        return [Event(*row) for row in rows]

    def event_done(self, number: int) -> None:
        self._db.execute("DELETE FROM events WHERE number = ?", (number,))

    def event_again(self, event: Event, *, due_ms: int) -> None:
        """Try the event again later; after `EVENT_TRIES_MAX` it is given up."""
        if event.tries + 1 >= EVENT_TRIES_MAX:
            self.event_done(event.number)
            return
        self._db.execute(
            "UPDATE events SET due_ms = ?, tries = tries + 1 WHERE number = ?",
            (due_ms, event.number),
        )

    def _must_find(self, name: str) -> Charge:
        charge = self.find(name)
        if charge is None:
            raise Refused("charge.unknown")
        return charge

    def _charges(self, where: str, *values: object) -> list[Charge]:
        # `where` is one of this class' own literals; values are bound.
        query = (
            "SELECT payment, ref, state, amount, currency, token, reason, captured, refunded"
            f" FROM charges WHERE {where} ORDER BY number"
        )
        return [
            Charge(
                payment=row[0],
                ref=row[1],
                state=PaymentState(row[2]),
                amount_minor=row[3],
                currency=row[4],
                token=row[5],
                reason=row[6],
                captured_minor=row[7],
                refunded_minor=row[8],
            )
            for row in self._db.execute(query, values)
        ]

    def _refunds(self, where: str, value: str) -> list[Refund]:
        # `where` is one of this class' own literals; the value is bound.
        query = f"SELECT key, ref, amount, state, reason FROM refunds WHERE {where} ORDER BY rowid"
        return [
            Refund(row[0], row[1], row[2], BookedRefundState(row[3]), row[4])
            for row in self._db.execute(query, (value,))
        ]

    def _pending(self, ref: str) -> int:
        row = self._db.execute(
            "SELECT coalesce(sum(amount), 0) FROM refunds WHERE ref = ? AND state = ?",
            (ref, BookedRefundState.PENDING),
        ).fetchone()
        return int(row[0])

    def _decide_refund(
        self, charge: Charge, key: str, amount: int, state: BookedRefundState, *, now_ms: int
    ) -> None:
        before = self.find_refund(key)
        assert before is not None, "the caller has read it"
        reason = "the bank sent it back" if state is BookedRefundState.FAILED else ""
        self._db.execute(
            "UPDATE refunds SET state = ?, reason = ? WHERE key = ?", (state, reason, key)
        )
        refunded = charge.refunded_minor
        if state is BookedRefundState.SUCCEEDED:
            refunded += amount
        elif before.state is BookedRefundState.SUCCEEDED:
            refunded -= amount
        if refunded != charge.refunded_minor:
            self._set(charge, _state_of(charge, refunded), refunded=refunded, now_ms=now_ms)
        kind = "refund.failed" if state is BookedRefundState.FAILED else "refund.updated"
        self._tell(kind, charge, now_ms)

    def _seen(self, key: str, request: str) -> bool:
        """Remember what a key asked for. Raises Refused if it had asked for something else."""
        row = self._db.execute("SELECT request FROM keys WHERE key = ?", (key,)).fetchone()
        if row is None:
            self._db.execute("INSERT INTO keys VALUES (?, ?)", (key, request))
            return False
        if row[0] != request:
            raise Refused("idempotency.other_request")
        return True

    def _set(
        self,
        charge: Charge,
        state: PaymentState,
        *,
        now_ms: int,
        captured: int | None = None,
        refunded: int | None = None,
    ) -> Charge:
        self._db.execute(
            "UPDATE charges SET state = ?, captured = ?, refunded = ? WHERE ref = ?",
            (
                state,
                charge.captured_minor if captured is None else captured,
                charge.refunded_minor if refunded is None else refunded,
                charge.ref,
            ),
        )
        changed = self._must_find(charge.ref)
        self._event(changed, now_ms)
        return changed

    def _event(self, charge: Charge, now_ms: int) -> None:
        self._tell(f"charge.{charge.state}", charge, now_ms)

    def _tell(self, kind: str, charge: Charge, now_ms: int) -> None:
        if not self._webhooks:
            return
        body = {"type": kind, "payment": charge.payment, "ref": charge.ref}
        self._db.execute(
            "INSERT INTO events (id, body, due_ms) VALUES (?, ?, ?)",
            (f"evt_{uuid4().hex}", orjson.dumps(body), now_ms),
        )


# A bank that sends money back undoes what was paid; nothing undoes a failure.
_UNDONE_BY = {
    BookedRefundState.FAILED: BookedRefundState.SUCCEEDED,
    BookedRefundState.SUCCEEDED: BookedRefundState.PENDING,
    BookedRefundState.PENDING: BookedRefundState.PENDING,
}


def _state_of(charge: Charge, refunded: int) -> PaymentState:
    """Of a captured charge of which so much has gone back."""
    if refunded == 0:
        return PaymentState.CAPTURED
    whole = refunded == charge.captured_minor
    return PaymentState.REFUNDED if whole else PaymentState.PARTIALLY_REFUNDED


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when the body raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._db.execute("COMMIT" if error is None else "ROLLBACK")
