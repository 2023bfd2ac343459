"""Which shows have money that is not where it will stay, and may need their stock for it.

A payment that is not decided may still take units or give up; a capture that is due may be refused,
and one that was refused gives its order's units back. So a show is looked after until there is
none of these, also long after its end: stock that Redis forgot is rebuilt, its outbox is read.
Voids and refunds need no stock and keep no show.
"""

from live.ledger.db.states import UNDECIDED

# One row a show, or several; each part reads a partial index of what is open, never the history.
OPEN_MONEY = f"""
SELECT show FROM payments
WHERE state IN {UNDECIDED}
UNION ALL
SELECT p.show FROM money_jobs j JOIN payments p ON p.id = j.payment
WHERE j.kind = 'capture' AND j.state = 'due'
UNION ALL
SELECT o.show FROM money_jobs j
    JOIN payments p ON p.id = j.payment JOIN orders o ON o.id = p.order_id
WHERE j.kind = 'capture' AND j.state = 'failed' AND o.state = 'confirmed'"""
