"""Figures of this package for Prometheus; names are `live_webhooks_<what>_<unit>`."""

from typing import Final

from prometheus_client import Counter, Gauge

from live.domain.outgoing.webhooks import ENDPOINTS_MAX

# Gauges speak of the service, not of a process: what a dead settler said last must not stay.
LAST: Final = "mostrecent"
OTHERS: Final = "others"

ATTEMPTS = Counter(
    "live_webhooks_attempts_total",
    "Tries to deliver an event, by endpoint and result",
    ["webhook", "result"],
)
DEAD = Counter("live_webhooks_dead_total", "ALARM: deliveries given up after their last try")
DISABLED = Gauge(
    "live_webhooks_disabled_endpoints",
    "Endpoints that failed for days or want no more",
    multiprocess_mode=LAST,
)
EVENTS = Gauge(
    "live_webhooks_unplaced_events",
    "Events that have no position yet",
    multiprocess_mode=LAST,
)
DUE = Gauge("live_webhooks_due_deliveries", "Deliveries that are not done", multiprocess_mode=LAST)
OLDEST = Gauge(
    "live_webhooks_oldest_seconds",
    "Age of the oldest delivery to an active endpoint that is not done",
    multiprocess_mode=LAST,
)

_named: set[str] = set()


def name_of(webhook: str) -> str:
    """The endpoint's label. After ENDPOINTS_MAX different ones in a process's life all others
    share one: each is a series for good."""
    if webhook not in _named and len(_named) >= ENDPOINTS_MAX:
        return OTHERS
    _named.add(webhook)
    return webhook
