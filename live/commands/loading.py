"""What a process of a service waits for before it begins."""

from contextlib import suppress

from live.engines.postgres_check import check_postgres
from live.engines.redis_check import check_redis
from live.engines.waiting import once_loaded
from live.errors import EngineError
from live.settings import Settings


def wait_loaded(settings: Settings) -> None:
    """A process that is started again beside an engine that is, too, waits for its data.

    Else it would end at once, as often as the supervisor lets it. Any other fault is found by use.
    """
    redis_url, database_url = settings.redis_url or "", settings.database_url or ""
    with suppress(EngineError):
        once_loaded(lambda: check_redis(redis_url))
    with suppress(EngineError):
        once_loaded(lambda: check_postgres(database_url))
