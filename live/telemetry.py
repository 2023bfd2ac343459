"""Logs and metrics of a process: set up once, at its start.

Always: logs are one JSON object a line on standard error (readable lines on a terminal), with ids
as fields; no token, secret or contact is ever a field. Metrics of several processes of one service
are added up through prometheus_client's multiprocess directory where the supervisor made one.
"""

import logging
import os
import sys

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

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
    structlog.contextvars.bind_contextvars(role=role)


def render_metrics() -> tuple[bytes, str]:
    """Return the exposition and its content type; all processes' figures where they share."""
    if os.environ.get(MULTIPROCESS_ENV):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types
        return generate_latest(registry), CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
