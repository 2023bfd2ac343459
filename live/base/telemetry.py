"""Logs and metrics of a process: set up once, at its start.

Always: logs are one JSON object a line on standard error (readable lines on a terminal), with ids
as fields; no token, secret or contact is ever a field. What the libraries beneath us say is
bounded, because strangers can make them say it. Metrics of several processes of one service are
added up through prometheus_client's multiprocess directory where the supervisor made one.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

TOLD_MAX = 10  # lines of one kind in each period
TOLD_SECONDS = 60.0
KINDS_MAX = 100  # told apart; later ones count as one kind

QUIET_ENV = "LIVE_QUIET"  # set by the demo for its children: the terminal belongs to the sale
MULTIPROCESS_ENV = "PROMETHEUS_MULTIPROC_DIR"


def set_up_logs(*, role: str, quiet: bool = False) -> None:
    """Send structlog and the standard library's logs the same way, marked with this role.

    `quiet`: warnings and worse only, for commands that talk to a person.
    """
    level = logging.WARNING if quiet or os.environ.get(QUIET_ENV) else logging.INFO
    readable = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for chatty in ("httpx", "uvicorn.error"):  # a line per provider call, per connection
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for provoked in ("uvicorn.error", "websockets.server", "asyncio"):
        logging.getLogger(provoked).addFilter(Sparse())
    structlog.contextvars.bind_contextvars(role=role)


class Sparse(logging.Filter):
    """Lets `TOLD_MAX` lines of a kind through in each period; the next one tells how many more.

    A bad request, a peer who goes in the middle of an answer: each is a line or a traceback, and
    whoever wants to can make a thousand of them a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[str, _Told] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = f"{record.levelno} {record.msg}", self._clock()
        if kind not in self._kinds and len(self._kinds) >= KINDS_MAX:
            kind = ""
        told = self._kinds.setdefault(kind, _Told(now))
        if now >= told.since + TOLD_SECONDS:
            untold = told.lines - TOLD_MAX
            told.since, told.lines = now, 0
            if untold > 0:
                record.msg = f"{record.msg} (and {untold} more before)"
        told.lines += 1
        return told.lines <= TOLD_MAX


@dataclass(slots=True)
class _Told:
    """Lines of one kind since the period began."""

    since: float
    lines: int = 0


def render_metrics() -> tuple[bytes, str]:
    """Return the exposition and its content type; all processes' figures where they share."""
    if os.environ.get(MULTIPROCESS_ENV):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types
        return generate_latest(registry), CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
