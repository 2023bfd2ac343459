"""Figures of payments."""

from prometheus_client import Counter

PROVIDER_CALLS = Counter(
    "live_payments_provider_calls",
    "Calls to payment providers by how they ended",
    ["provider", "call", "result"],
)
DECISIONS = Counter(
    "live_payments_decisions",
    "What the payment worker decided about payments that nobody else finished",
    ["decision"],
)
JOBS = Counter(
    "live_payments_jobs", "Captures, voids and refunds by how the try ended", ["kind", "result"]
)
EVENTS = Counter(
    "live_payments_webhooks", "Webhooks by what became of them", ["provider", "result"]
)
REFUSED_VOIDS = Counter(
    "live_payments_refused_voids",
    "ALARM: money stays set aside, because the provider refuses to let it go",
)
