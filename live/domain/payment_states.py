"""The states of a payment: their named sets, and which may follow which.

Every set of states that a rule or a statement speaks of is named here and typed nowhere else
(tests/unit/test_state_sets.py looks); what follows from them is in payment_flow.py.
"""

from collections.abc import Mapping

from live.domain.payment import PaymentState as S

UNFINISHED = frozenset({S.AUTHORISING, S.ACTION_REQUIRED})
"""The provider has the charge, and waits for a bank or for the buyer."""

AWAITING_PROVIDER = UNFINISHED | {S.UNKNOWN}
"""The provider was asked, and what it decided is not known."""

AWAITING_MONEY = AWAITING_PROVIDER | {S.CREATED}
"""No money is known to be set aside, and it may still come."""

UNDECIDED = AWAITING_MONEY | {S.AUTHORISED}
"""The payment worker looks after it, until it has an order or was given up."""

MAY_HOLD_MONEY = UNFINISHED | {S.AUTHORISED, S.UNKNOWN}
"""What a provider may say of a charge that has, or may come to have, money set aside."""

GIVEN_UP = frozenset({S.DECLINED, S.VOIDED})
"""It failed: money that comes after all goes back."""

FINAL = GIVEN_UP | {S.REFUNDED}
"""States that no step leaves: no money is held or owed any more, and the hold may be paid anew."""

NOTHING_HELD = FINAL | {S.CREATED}
"""What a provider may say of a charge that has no money to let go."""

REFUNDABLE = frozenset({S.CAPTURED, S.PARTIALLY_REFUNDED})
"""The money is here, all of it or a part."""

MONEY_MOVED = REFUNDABLE | {S.REFUNDED}
"""The money was taken, so there may be refunds."""

SECURED = REFUNDABLE | {S.AUTHORISED, S.CAPTURING}
"""The money is set aside or here; the settler may have taken it for an order already."""

OWNED = MONEY_MOVED | {S.CAPTURING}
"""States in which a payment can be the one of an order that stands."""

OVER = GIVEN_UP | MONEY_MOVED
"""Nothing is set aside any more: it was let go, or taken."""

MONEY_STEPS = frozenset({S.CAPTURED, S.REFUNDED})
"""Steps to these change a payment's sums and its order."""

_OPEN = MAY_HOLD_MONEY | GIVEN_UP | MONEY_STEPS

NEXT: Mapping[S, frozenset[S]] = {
    S.CREATED: _OPEN,
    S.AUTHORISING: _OPEN - {S.AUTHORISING},
    S.UNKNOWN: _OPEN - {S.UNKNOWN},
    S.ACTION_REQUIRED: _OPEN - {S.ACTION_REQUIRED},
    S.AUTHORISED: MONEY_STEPS | {S.CAPTURING, S.VOIDED},
    S.CAPTURING: MONEY_STEPS | {S.VOIDED},
    S.CAPTURED: frozenset({S.REFUNDED}),
    S.PARTIALLY_REFUNDED: frozenset({S.REFUNDED}),
    S.REFUNDED: frozenset(),
    S.DECLINED: frozenset(),
    S.VOIDED: frozenset(),
}
"""What may follow what. Steps may be skipped forward (a webhook overtakes our own call) and are
never taken back, so the last state depends on what happened and not on its order. What went back in
part is told refund by refund (ledger/money/refund_turns.py), never as a step of the payment."""


def states_before(state: S) -> frozenset[S]:
    """All states from which a payment may go to `state`."""
    return frozenset(before for before, after in NEXT.items() if state in after)
