"""What a simulated crowd does: shares of behaviours, and one seeded plan per viewer.

Pure. Always: the same crowd, seed and index give the same plan, whichever process plays it.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

CLICKS_MAX = 8  # per plan; below the engine's 16 records per buyer and offer


class Fate(StrEnum):
    """What a buyer does once units are set aside for them."""

    PAY = "pay"
    DECLINE_THEN_PAY = "decline_then_pay"  # the first card is refused, the second one works
    DECLINE = "decline"  # the card is refused; they give the units back
    ABANDON = "abandon"  # closes the page in their mind: the hold must expire


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdShares:
    """Shares are of all viewers for `buyers`, `chatters`, `reactors`, `dropping`; else of buyers.

    Where the figures come from: nowhere in particular. They are set so that a small run meets every
    path often enough to be seen, not to imitate one shop.
    """

    buyers: float = 0.6
    double_click: float = 0.3  # the same key twice, back to back: a nervous thumb
    greedy: float = 0.1  # fresh keys beyond the limit, back to back: a script
    eager: float = 0.1  # clicks when the countdown ends by their own clock, then again when told
    waits: float = 0.6  # joins the waitlist when sold out
    abandon: float = 0.15
    decline: float = 0.05
    decline_then_pay: float = 0.05
    chatters: float = 0.1
    reactors: float = 0.2
    dropping: float = 0.05  # loses the network in the middle of the sale
    chat_lines: int = 2
    reactions: int = 3
    reaction_ms_max: int = 250  # between hearing "open" and pressing Buy
    think_ms_max: int = 1_500  # between the hold and the payment
    qty_max: int = 2

    def __post_init__(self) -> None:
        if self.abandon + self.decline + self.decline_then_pay > 1:
            raise ValueError("the fates of buyers add up to more than one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One viewer's evening. `at` values are fractions of the sale's length, 0..1."""

    buys: bool
    qty: int
    clicks_same_key: int
    extra_keys: int
    eager: bool
    waits: bool
    fate: Fate
    reaction_ms: int
    think_ms: int
    chat_at: tuple[float, ...]
    react_at: tuple[float, ...]
    drop_at: float | None


def plan_viewer(crowd: CrowdShares, *, seed: int, index: int, per_buyer_limit: int) -> Plan:
    """Draw one viewer's plan."""
    rng = random.Random(f"{seed}:{index}")

    def chance(share: float) -> bool:
        return rng.random() < share

    buys = chance(crowd.buyers)
    greedy = chance(crowd.greedy)
    return Plan(
        buys=buys,
        qty=rng.randint(1, max(1, min(crowd.qty_max, per_buyer_limit))),
        clicks_same_key=2 if chance(crowd.double_click) else 1,
        extra_keys=min(per_buyer_limit + 1, CLICKS_MAX - 2) if greedy else 0,
        eager=chance(crowd.eager),
        waits=chance(crowd.waits),
        fate=_fate(crowd, rng.random()),
        reaction_ms=rng.randint(0, crowd.reaction_ms_max),
        think_ms=rng.randint(0, crowd.think_ms_max),
        chat_at=_moments(rng, crowd.chat_lines if chance(crowd.chatters) else 0),
        react_at=_moments(rng, crowd.reactions if chance(crowd.reactors) else 0),
        drop_at=rng.random() if chance(crowd.dropping) else None,
    )


def _fate(crowd: CrowdShares, roll: float) -> Fate:
    for fate, share in (
        (Fate.ABANDON, crowd.abandon),
        (Fate.DECLINE, crowd.decline),
        (Fate.DECLINE_THEN_PAY, crowd.decline_then_pay),
    ):
        if roll < share:
            return fate
        roll -= share
    return Fate.PAY


def _moments(rng: random.Random, count: int) -> tuple[float, ...]:
    return tuple(sorted(rng.random() for _ in range(count)))


def units_on_sale(crowd: CrowdShares, viewers: int) -> int:
    """How many units make the sale tight: well below what the buyers among `viewers` want."""
    return max(3, round(viewers * crowd.buyers * SCARCITY))


SCARCITY = 0.4  # units per buyer; each wants 1.5 on average, so about a quarter of the wishes fit
