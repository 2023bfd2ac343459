"""Figures of this package for Prometheus; names are `live_ledger_<what>_<unit>`.

An alarm has no label: what may only be said of a show or a provider is a series that nobody knows
before it is too late to see it grow. Which show it was stands in the log.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# Gauges speak of the service, not of a process: what a dead settler said last must not stay.
LAST: Final = "mostrecent"

SETTLED = Counter(
    "live_ledger_settled_orders_total", "Orders written, by the state they got", ["state"]
)
MOVEMENTS = Counter("live_ledger_movements_total", "Outbox records settled, by kind", ["kind"])
REJECTED = Counter("live_ledger_rejected_orders_total", "ALARM: Redis sold what the ledger refused")
POISON = Counter("live_ledger_poison_entries_total", "ALARM: records put aside unsettled")
LAG = Gauge(
    "live_ledger_settlement_lag_seconds",
    "Age of the oldest record that is not settled, of all shows",
    multiprocess_mode=LAST,
)
BEAT = Gauge(
    "live_ledger_settler_beat_seconds",
    "Unix time at which a settler last looked for work, of all settlers the latest",
    multiprocess_mode=LAST,
)
BATCH = Histogram(
    "live_ledger_settle_seconds",
    "One settlement transaction",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
_PLACES: Final = (
    "settler",
    "absent outbox",
    "on_mismatch",
    "announce",
    "lag",
    "notices",
    "events",
    "audit",
    "housekeeping",
)
FAILURES = Counter("live_ledger_failures_total", "Failed passes that are repeated", ["where"])
OUTBOX_LENGTH = Gauge(
    "live_ledger_outbox_length_entries",
    "Not settled, delivered to a settler or not",
    ["show"],
    multiprocess_mode=LAST,
)
OUTBOX_PENDING = Gauge(
    "live_ledger_outbox_pending_entries",
    "Delivered, not settled",
    ["show"],
    multiprocess_mode=LAST,
)
OUTBOX_OLDEST = Gauge(
    "live_ledger_outbox_oldest_seconds",
    "Age of the oldest entry that is not settled",
    ["show"],
    multiprocess_mode=LAST,
)
NOTICES = Counter("live_ledger_notices_total", "Notices, by what became of them", ["result"])
NOTICES_GIVEN_UP = Counter(
    "live_ledger_notices_given_up_total", "ALARM: notices that their buyers will never get"
)
OPENED = Histogram(
    "live_ledger_payments_per_flush_rows",
    "Payments opened by one group commit",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
AUDIT_FINDINGS = Gauge(
    "live_ledger_audit_findings", "Findings of the last audit", multiprocess_mode=LAST
)
REBUILDS = Counter("live_ledger_rebuilds_total", "Shows made again in Redis")
OVERCOMMITTED = Counter(
    "live_ledger_overcommitted_offers_total", "ALARM: offers paused by a rebuild"
)

# There before they count: a series that begins at 1 has no increase, so no alarm would go off.
SETTLED.labels("confirmed")
SETTLED.labels("cancelled")
for _result in ("sent", "failed"):
    NOTICES.labels(_result)
for _where in _PLACES:
    FAILURES.labels(_where)
