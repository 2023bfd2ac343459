"""Figures of this package for Prometheus; names are `live_shows_<what>_<unit>`."""

from typing import Final

from prometheus_client import Counter

WHOLE_RUN: Final = "run"
"""Nothing of the stock is missing, but the server is another one, or has restarted."""

PARTS: Final = (
    "meta",
    "offers",
    "buyers",
    "outbox",
    "deadlines",
    "wait",
    "guests",
    "refused",
    "state",
    WHOLE_RUN,
)

LOST_PARTS = Counter(
    "live_shows_lost_parts_total",
    "ALARM: parts of shows that Redis had lost and that were made again",
    ["part"],
)
for part in PARTS:  # a counter that begins with its first event hides it from `increase`
    LOST_PARTS.labels(part)
