"""What a process of a service waits for before it begins."""

from contextlib import suppress

from live.base.errors import EngineError
from live.base.settings import Settings
from live.run.checks.postgres import check_postgres
from live.run.checks.redis import check_redis
from live.run.checks.waiting import once_loaded


def wait_loaded(settings: Settings) -> None:
    """A process that is started again beside an engine that is, too, waits for its data.

    Else it would end at once, as often as the supervisor lets it. Any other fault is found by use.
    """
    redis_url, database_url = settings.redis_url or "", settings.database_url or ""
    with suppress(EngineError):
        once_loaded(lambda: check_redis(redis_url))
    with suppress(EngineError):
        once_loaded(lambda: check_postgres(database_url))
