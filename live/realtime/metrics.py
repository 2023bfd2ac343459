"""Figures of this room for /metrics."""

from prometheus_client import Counter, Gauge, Histogram

CONNECTIONS = Gauge("live_realtime_connections", "Open connections of viewers on this process")
DELIVERIES = Counter("live_realtime_deliveries", "Messages handed to connections by passes")
PASS_SECONDS = Histogram(
    "live_realtime_pass_seconds",
    "Work of one pass over the connections, without the yields",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
)
FILLS = Counter("live_realtime_fills", "Times a room looked at the log for what it missed")
LOST_LOGS = Counter("live_realtime_lost_logs", "Logs whose position was lost for their listeners")
SLOW_CLOSES = Counter("live_realtime_slow_closes", "Connections closed because they did not read")
