"""`live bench`."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.run.commands.engines import engines_of


def bench(settings: Settings, name: str) -> dict[str, object]:
    """Run a measurement on fresh engines, so that no service is disturbed and none disturbs it.

    Raises EngineError where it cannot be measured.
    """
    set_up_logs(role="bench", quiet=True)
    measure = import_module(f"live.tools.bench.{name}").run
    with TemporaryDirectory(prefix="live-bench-") as directory:
        own = replace(settings, redis_url=None, database_url=None, data_dir=Path(directory))
        with engines_of(own) as (_, ready):
            assert ready.redis_url and ready.database_url, "engines_of names both"
            report: dict[str, object] = uvloop.run(measure(ready.redis_url, ready.database_url))
            return report
