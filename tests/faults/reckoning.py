"""The reckoning after a bad day: the ledger held against what each buyer was told."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Final

from live.domain.outcomes import Outcome
from live.tools.demo.host import LedgerOrder
from live.tools.demo.tally import KeyVerdict, Told

NEVER_SOLD: Final = frozenset(
    {
        Outcome.SOLD_OUT,
        Outcome.LIMIT_REACHED,
        Outcome.NOT_OPEN,
        Outcome.PAUSED,
        Outcome.CLOSED,
        Outcome.DECLINED,
        Outcome.EXPIRED,
        Outcome.RELEASED,
        Outcome.ALREADY_RELEASED,
    }
)
"""Last words after which no order may stand: the key never had units, or lost them."""


def faults_of(
    told: Sequence[Told],
    orders: Sequence[LedgerOrder],
    units: Mapping[str, int],
    hostile: Sequence[Set[str]] = (),
    limit: int = 0,
) -> list[str]:
    """Where the ledger does not keep what the buyers were told.

    `units`: by offer, how many there were. `hostile`: the keys of each person who believes nothing
    that they are told; they have `limit` units of an offer at most.
    """
    kept = [order for order in orders if order.state not in ("rejected", "cancelled")]
    by_hold = Counter(order.hold for order in kept)
    standing = {order.order: order.hold for order in kept}
    faults = [f"{hold} has {count} orders" for hold, count in by_hold.items() if count > 1]
    for one in told:
        if one.verdict is KeyVerdict.OK and standing.get(one.order) != one.key:
            faults.append(f"{one.key} was confirmed as {one.order}, which is not in the ledger")
        if one.verdict is KeyVerdict.REFUSED and one.outcome in NEVER_SOLD and by_hold[one.key]:
            faults.append(f"{one.key} was told {one.outcome} and has an order")
    keys = {one.key for one in told}.union(*hostile)
    faults += [f"an order for {hold}, which nobody asked for" for hold in by_hold.keys() - keys]
    for offer, there in units.items():
        if (sold := _sold(kept, offer)) > there:
            faults.append(f"{sold} units of {offer} sold of {there}")
        for mine in hostile:
            if (bought := _sold([one for one in kept if one.hold in mine], offer)) > limit:
                faults.append(f"one buyer has {bought} units of {offer}, {limit} are allowed")
    return faults


def _sold(orders: Sequence[LedgerOrder], offer: str) -> int:
    return sum(item.qty for order in orders for item in order.items if item.offer == offer)
