"""What an audience process counted and what its viewers were told; adds up across processes.

Pure. Always: `merge(a, b)` loses nothing, and percentiles of the sum are those of all samples
(within a histogram's 1.6 % steps).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeVar

STEP_BITS = 6  # 64 steps per doubling: each sample is kept within 1/64 of its value


@dataclass(slots=True)
class Histogram:
    """Durations in ms, by microsecond bucket: bounded however many samples there are."""

    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, ms: float) -> None:
        micros = max(0, round(ms * 1000))
        shift = max(0, micros.bit_length() - STEP_BITS - 1)
        bucket = micros >> shift << shift
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    def percentile_ms(self, percent: float) -> float | None:
        """The nearest-rank percentile; None where nothing was measured."""
        if not 0 < percent <= 100:
            raise ValueError(f"{percent} is no percentile")
        rank = math.ceil(self.count * percent / 100)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return bucket / 1000
        return None

    def merged(self, other: "Histogram") -> "Histogram":
        return Histogram(add_counts(self.buckets, other.buckets))


K = TypeVar("K")


def add_counts(one: Mapping[K, int], other: Mapping[K, int]) -> dict[K, int]:
    total = dict(one)
    for key, count in other.items():
        total[key] = total.get(key, 0) + count
    return total


class KeyVerdict(StrEnum):
    """What a viewer knows about one of their keys at the end."""

    OK = "ok"  # an order was confirmed to them
    REFUSED = "refused"  # they were told no, or gave the units up, or let them expire
    UNKNOWN = "unknown"  # nobody told them, however often they repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a viewer was told about one key, in the end."""

    sub: str
    key: str
    qty: int
    verdict: KeyVerdict
    outcome: str  # the last word: an outcome, or the reason of the failure
    order: str = ""  # set where `verdict` is OK


@dataclass(slots=True)
class Tally:
    """Running counts of one audience process; every field adds up."""

    viewers: int = 0
    connected: int = 0  # right now
    connects: int = 0
    closes: int = 0
    recovered: int = 0  # came back and got every missed publication
    restarted: int = 0  # came back and had to take the snapshot
    clicks: int = 0
    repeats: int = 0  # the same key again: a double click, or after no answer
    keys: int = 0
    held: int = 0
    refused: int = 0
    checkouts: int = 0
    declined: int = 0
    expired: int = 0
    waitlisted: int = 0
    granted: int = 0
    confirmed: int = 0
    confirmed_units: int = 0
    unknown: int = 0
    over_limit: int = 0  # viewers who were told that they hold more than the limit: must stay 0
    chat_lines: int = 0
    reactions: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    fanout: Histogram = field(default_factory=Histogram)
    hold: Histogram = field(default_factory=Histogram)
    checkout: Histogram = field(default_factory=Histogram)

    def note_outcome(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def note_failure(self, name: str) -> None:
        self.failures[name] = self.failures.get(name, 0) + 1


def merge(tallies: Iterable[Tally]) -> Tally:
    """Add up the tallies of several processes."""
    total = Tally()
    for tally in tallies:
        for one in fields(Tally):
            mine, other = getattr(total, one.name), getattr(tally, one.name)
            if isinstance(mine, Histogram):
                setattr(total, one.name, mine.merged(other))
            elif isinstance(mine, dict):
                setattr(total, one.name, add_counts(mine, other))
            else:
                setattr(total, one.name, mine + other)
    return total


def lost_orders(told: Iterable[Told], in_ledger: Mapping[str, str]) -> list[Told]:
    """Acknowledged orders that the ledger does not have, by order id -> hold key of the ledger.

    An order under another key counts as lost, too: that buyer's promise is not there.
    """
    return [
        one for one in told if one.verdict is KeyVerdict.OK and in_ledger.get(one.order) != one.key
    ]
