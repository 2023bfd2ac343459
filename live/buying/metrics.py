"""Figures of buying."""

from prometheus_client import Counter, Histogram

QUOTE_CALLS = Counter(
    "live_quote_calls",
    "Calls to the shop's quote hook by how they ended",
    ["result"],
)
QUOTE_SECONDS = Histogram(
    "live_quote_seconds",
    "How long the shop's quote hook took, whether it answered or not",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
)
