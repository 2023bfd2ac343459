"""What the stock engine tells Prometheus; per process, never per show (names are unbounded)."""

from typing import Final

from prometheus_client import Counter, Histogram

BATCH_HOLDS: Final = Histogram(
    "live_stock_batch_holds",
    "Requests decided in one call",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BATCH_SECONDS: Final = Histogram(
    "live_stock_batch_seconds",
    "From sending a batch to its answers",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2),
)
REPEATED: Final = Counter("live_stock_batches_repeated", "Batches sent again after a lost reply")
BUSY: Final = Counter("live_stock_busy", "Requests told to repeat later", ["reason"])
RECONNECTS: Final = Counter("live_stock_reconnects", "Connections made anew")
