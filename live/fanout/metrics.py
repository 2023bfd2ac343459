"""Figures of fan-out for /metrics."""

from http import HTTPStatus

from prometheus_client import Counter, Gauge, Histogram

# Sums over the processes that live: what a dead one had open is closed.
CONNECTIONS = Gauge(
    "live_realtime_connections", "Open connections of viewers", multiprocess_mode="livesum"
)
HTTP_CONNECTIONS = Gauge(
    "live_realtime_http_connections", "Open HTTP connections", multiprocess_mode="livesum"
)
REFUSED = Counter(
    "live_realtime_refused",
    "Connections and handshakes that were not taken, by what they were told",
    ["status"],
)
DESCRIPTORS = Gauge(
    "live_realtime_descriptors", "Open file descriptors", multiprocess_mode="livesum"
)
DESCRIPTORS_LIMIT = Gauge(
    "live_realtime_descriptors_limit",
    "Descriptors that the processes may have open",
    multiprocess_mode="livesum",
)
MEMORY_BYTES = Gauge("live_realtime_memory_bytes", "Resident memory", multiprocess_mode="livesum")
DELIVERIES = Counter("live_realtime_deliveries", "Messages handed to connections by passes")
PASS_SECONDS = Histogram(
    "live_realtime_pass_seconds",
    "Work of one pass over the connections, without the yields",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
)
FILLS = Counter("live_realtime_fills", "Times a show was read from its log for what was missed")
LOST_LOGS = Counter("live_realtime_lost_logs", "Logs whose position was lost for their listeners")
SLOW_CLOSES = Counter("live_realtime_slow_closes", "Connections closed because they did not read")

REFUSALS = (
    HTTPStatus.BAD_REQUEST,  # another Host, no HTTP, an upgrade with a body
    HTTPStatus.FORBIDDEN,  # another Origin
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
for _status in REFUSALS:  # there before it counts, so that the first refusal is a change
    REFUSED.labels(str(_status.value))


def refused(status: HTTPStatus) -> None:
    """Count a connection or handshake that was answered with this."""
    REFUSED.labels(str(status.value)).inc()
