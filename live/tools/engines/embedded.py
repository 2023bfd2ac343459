"""The engines of this command: configured ones, ones that another command runs, or our own.

Order per engine: a configured URL is used as it stands, and one that does not answer is an error,
never a fallback. Where another command owns the data directory, its engines are adopted and left
alone. Else we start them ourselves; they die with us, whatever ends us.

Called from the main thread, outside any event loop.
"""

import time
from collections.abc import Callable
from typing import Self

from live.base.errors import EngineError
from live.base.settings import Settings
from live.run.checks.postgres import check_postgres
from live.run.checks.redis import check_redis
from live.run.checks.waiting import LOADING_SECONDS_MAX, once_loaded
from live.tools.engines import postgres, valkey
from live.tools.engines.home import Home, Running
from live.tools.engines.process import Server, forget_libpq

ADOPT_SECONDS = 60  # for an owner that says nothing of itself
POLL_SECONDS = 0.05

_START: dict[str, Callable[[Home, Settings], tuple[Server, str]]] = {
    "valkey": valkey.start,
    "postgres": postgres.start,
}


class Engines:
    """`started` names the engines that this process runs; both URLs answered when it was made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home: Home | None = None
        self._servers: dict[str, Server] = {}
        self._urls: dict[str, str] = {}
        if settings.redis_url is not None:
            self._urls["valkey"] = settings.redis_url
        if settings.database_url is not None:
            self._urls["postgres"] = settings.database_url
        self._embedded = tuple(name for name in _START if name not in self._urls)

    @classmethod
    def start(cls, settings: Settings) -> Self:
        """Raises EngineError that names what is wrong and what would mend it."""
        engines = cls(settings)
        if "postgres" in engines._embedded:
            forget_libpq()
        engines._check_configured()
        if engines._embedded:
            try:
                engines._home = Home(settings.data_dir, runtime_dir=settings.runtime_dir)
                engines._claim_or_adopt(engines._home)
            except OSError as error:  # a full disk, a read-only file system, a closed directory
                raise EngineError(
                    f"the engines of {settings.data_dir} cannot be started: {error}"
                ) from error
        return engines

    @property
    def redis_url(self) -> str:
        return self._urls["valkey"]

    @property
    def database_url(self) -> str:
        return self._urls["postgres"]

    @property
    def started(self) -> tuple[str, ...]:
        return tuple(self._servers)

    def mend(self) -> tuple[str, ...]:
        """Start again what has died; returns the names. Cheap while all is well.

        Adopted engines end with their owner; then we become the owner and start them on the same
        data. URLs stay the same, so clients reconnect by themselves.
        """
        if self._home is None:
            return ()
        if not self._servers and not self._home.claim():
            return ()
        dead = [n for n in self._embedded if n not in self._servers or not self._servers[n].running]
        for name in dead:
            if name in self._servers:
                self._servers[name].stop()  # nothing runs any more; lets go of what it held
            self._start_one(self._home, name)
        if dead:
            self._tell(self._home)
        return tuple(dead)

    def stop(self) -> None:
        """Shut down what this process started, and nothing else. May be called twice."""
        for server in self._servers.values():
            server.ask_to_stop()
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
        if self._home is not None:
            self._home.release()
            self._home = None

    def _check_configured(self) -> None:
        redis_url, database_url = self._settings.redis_url, self._settings.database_url
        if redis_url is not None:
            once_loaded(lambda: check_redis(redis_url))
        if database_url is not None:
            once_loaded(lambda: check_postgres(database_url))

    def _claim_or_adopt(self, home: Home) -> None:
        longest = time.monotonic() + LOADING_SECONDS_MAX
        deadline = time.monotonic() + ADOPT_SECONDS
        adopted = False
        while not home.claim():
            if adopted:  # and it still has its owner: an owner that is ending would answer, too
                return
            owner = home.owner()
            if owner is not None and owner.starting:  # it may read much data back, and says so
                deadline = min(time.monotonic() + ADOPT_SECONDS, longest)
            adopted = owner is not None and self._adopt(owner)
            if not adopted:
                if time.monotonic() > deadline:
                    raise EngineError(_in_use(home, owner, self._embedded))
                time.sleep(POLL_SECONDS)
        self._start_all(home)

    def _start_all(self, home: Home) -> None:
        try:
            for name in self._embedded:
                self._start_one(home, name)
            self._tell(home)
        except BaseException:  # whatever it was, Ctrl-C included: leave no server behind
            self.stop()
            raise

    def _start_one(self, home: Home, name: str) -> None:
        self._servers[name], self._urls[name] = _START[name](home, self._settings)

    def _tell(self, home: Home) -> None:
        home.tell(
            redis_url=self._urls["valkey"] if "valkey" in self._servers else None,
            database_url=self._urls["postgres"] if "postgres" in self._servers else None,
        )

    def _adopt(self, owner: Running) -> bool:
        """Take over the URLs of a running owner; False while it is not ready."""
        urls = {"valkey": owner.redis_url, "postgres": owner.database_url}
        wanted = {name: url for name in self._embedded if (url := urls[name]) is not None}
        if len(wanted) < len(self._embedded):
            return False
        try:
            if "valkey" in wanted:
                check_redis(wanted["valkey"])
            if "postgres" in wanted:
                check_postgres(wanted["postgres"])
        except EngineError:  # it is ending just now; asked again until the deadline
            return False
        self._urls.update(wanted)
        return True


def _in_use(home: Home, owner: Running | None, wanted: tuple[str, ...]) -> str:
    who = f"process {owner.pid}" if owner else "another process"
    return (
        f"the data directory {home.root} is in use by {who}, which runs no {' and '.join(wanted)} "
        f"that answers; end that process, or set LIVE_DATA_DIR to another directory"
    )
