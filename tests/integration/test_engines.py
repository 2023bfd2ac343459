"""Embedded engines: they start, keep data, are shared, and die with their command.

Method: real servers on unix sockets. Commands that are to be killed are processes of their own
(tests/support/engine_host.py); a server's process id is read from the lock file that it holds.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
import redis

from live.base.settings import Settings
from live.tools.engines.embedded import Engines
from tests.support.engine_tools import (
    GONE_SECONDS,
    Host,
    as_root,
    left_of,
    query,
    recall,
    remember,
    server_of,
)
from tests.support.servers import Postgres, Valkey


@pytest.fixture
def data_dir(scratch: Path) -> Path:
    """A directory that does not exist yet, below one that anybody may enter."""
    return scratch / f"d {uuid4().hex[:8]}"  # with a space: nothing may split it


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(redis_url=None, database_url=None, secret=None, data_dir=data_dir)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    started: list[Host] = []
    yield started
    for host in started:
        host.close()
        host.tidy()


def test_engines_answer_on_private_sockets_only(settings: Settings, data_dir: Path) -> None:
    """Both answer; neither listens on TCP; nobody else may enter their directories."""
    engines = Engines.start(settings)
    try:
        servers = [server_of(data_dir, name) for name in ("valkey", "postgres")]
        tcp = [kind for server in servers for kind in server.net_connections("tcp")]
        sockets = [Path(engines.redis_url.removeprefix("unix://"))]
        sockets.append(
            Path(parse_qs(urlsplit(engines.database_url).query)["host"][0], ".s.PGSQL.5432")
        )
        assert query(engines.database_url, "SELECT current_database()::text") == "live"
    finally:
        modes = [stat.S_IMODE(socket.parent.stat().st_mode) for socket in sockets]
        engines.stop()

    assert engines.started == ()
    assert tcp == []
    assert modes == [0o700, 0o700]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert not any(server.is_running() for server in servers)


def test_engines_promise_durability(settings: Settings) -> None:
    """What the ledger and an answered hold rely on is on, whatever the defaults are."""
    engines = Engines.start(settings)
    try:
        with redis.Redis.from_url(engines.redis_url) as client:
            options = client.config_get("append*", "maxmemory-policy")
        shown = {
            name: query(engines.database_url, f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "server_encoding")
        }
    finally:
        engines.stop()

    assert (options["appendonly"], options["appendfsync"]) == ("yes", "always")
    assert options["maxmemory-policy"] == "noeviction"
    assert list(shown.values()) == ["on", "on", "on", "UTF8"]


def test_data_survives_a_restart(settings: Settings, data_dir: Path) -> None:
    """A second start finds what the first one wrote, with the programs that wrote it."""
    first = Engines.start(settings)
    remember(first.redis_url, first.database_url)
    first.stop()
    record = (data_dir / "engine.json").read_bytes()

    second = Engines.start(settings)
    found = recall(second.redis_url, second.database_url)
    second.stop()

    assert found == (b"yes", "yes")
    assert (data_dir / "engine.json").read_bytes() == record


def test_second_command_adopts_and_leaves_alone(
    settings: Settings, data_dir: Path, hosts: list[Host]
) -> None:
    """It uses the servers of the first, starts none, and its end ends none."""
    hosts.append(Host(data_dir))
    servers = [server_of(data_dir, name) for name in ("valkey", "postgres")]

    adopted = Engines.start(settings)
    urls = (adopted.redis_url, adopted.database_url)
    adopted.stop()

    assert hosts[0].hello["started"] == ["valkey", "postgres"]
    assert adopted.started == ()
    assert urls == (hosts[0].hello["redis_url"], hosts[0].hello["database_url"])
    assert all(server.is_running() for server in servers)
    assert hosts[0].order("stop") == {"stopped": True}


def test_commands_at_once_share_one_pair(data_dir: Path, hosts: list[Host]) -> None:
    """Of commands that start in the same instant one runs the engines and the others adopt them."""
    with ThreadPoolExecutor(3) as pool:
        hosts += pool.map(Host, [data_dir] * 3)

    started = sorted(len(host.hello["started"]) for host in hosts)

    assert started == [0, 0, 2]
    assert len({(host.hello["redis_url"], host.hello["database_url"]) for host in hosts}) == 1


def test_killed_command_leaves_no_orphan(data_dir: Path, hosts: list[Host]) -> None:
    """After kill -9 of the command every process of both servers ends by itself."""
    hosts.append(Host(data_dir))
    servers = [server_of(data_dir, name) for name in ("valkey", "postgres")]
    family = [*servers, *(child for server in servers for child in server.children(True))]

    hosts[0].process.kill()

    assert len(family) > 3
    assert left_of(family) == []


def test_start_after_a_kill_keeps_data(
    settings: Settings, data_dir: Path, hosts: list[Host]
) -> None:
    """A start at once after kill -9 waits for the old servers and finds their data."""
    hosts.append(Host(data_dir))
    remember(str(hosts[0].hello["redis_url"]), str(hosts[0].hello["database_url"]))
    hosts[0].process.kill()
    hosts[0].process.wait(GONE_SECONDS)

    engines = Engines.start(settings)
    found = recall(engines.redis_url, engines.database_url)
    engines.stop()

    assert found == (b"yes", "yes")


@pytest.mark.parametrize("engine", ["valkey", "postgres"])
def test_killed_server_is_mended_in_place(settings: Settings, data_dir: Path, engine: str) -> None:
    """A server that was killed comes back with its data, under the same URL."""
    engines = Engines.start(settings)
    try:
        urls = (engines.redis_url, engines.database_url)
        remember(*urls)
        assert engines.mend() == ()
        victim = server_of(data_dir, engine)

        victim.kill()
        victim.wait(GONE_SECONDS)

        assert engines.mend() == (engine,)
        assert (engines.redis_url, engines.database_url) == urls
        assert recall(*urls) == (b"yes", "yes")
    finally:
        engines.stop()


def test_adopter_takes_over_when_the_owner_ends(
    settings: Settings, data_dir: Path, hosts: list[Host]
) -> None:
    """A service that adopted a short command's engines goes on with its own afterwards."""
    hosts.append(Host(data_dir))
    adopter = Engines.start(settings)
    try:
        remember(adopter.redis_url, adopter.database_url)
        assert adopter.mend() == ()

        hosts[0].order("stop")

        assert adopter.mend() == ("valkey", "postgres")
        assert recall(adopter.redis_url, adopter.database_url) == (b"yes", "yes")
    finally:
        adopter.stop()


def test_interrupt_of_the_terminal_does_not_reach_servers(
    settings: Settings, data_dir: Path
) -> None:
    """Each server leads a session of its own, so Ctrl-C drains the service before it stops them."""
    engines = Engines.start(settings)
    pids = [server_of(data_dir, name).pid for name in ("valkey", "postgres")]
    sessions = [os.getsid(pid) for pid in pids]
    engines.stop()

    assert sessions == pids


def test_configured_urls_start_nothing(
    settings: Settings, data_dir: Path, valkey: Valkey, postgres: Postgres
) -> None:
    """With both URLs set they are used as they stand and no data directory is made."""
    engines = Engines.start(
        Settings(redis_url=valkey.url, database_url=postgres.url(), secret=None, data_dir=data_dir)
    )

    assert (engines.redis_url, engines.database_url) == (valkey.url, postgres.url())
    assert engines.started == engines.mend() == ()
    assert not data_dir.exists()
    engines.stop()


def test_long_runtime_directory_is_passed_over(data_dir: Path, scratch: Path) -> None:
    """A socket's path must fit; where the user's directory is too deep, the next place is used."""
    deep = scratch / ("x" * 100)
    deep.mkdir()
    engines = Engines.start(
        Settings(
            redis_url=None, database_url=None, secret=None, data_dir=data_dir, runtime_dir=deep
        )
    )
    url = engines.redis_url
    engines.stop()

    assert "xxx" not in url


def test_servers_of_the_machine_serve_as_well(data_dir: Path) -> None:
    """Where the system has servers of its own they keep the same promises as the wheels'."""
    redis_server = shutil.which("redis-server") or shutil.which("valkey-server")
    postgres_bins = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if redis_server is None and not postgres_bins:
        pytest.skip("this machine has no servers of its own")
    engines = Engines.start(
        Settings(
            redis_url=None,
            database_url=None,
            secret=None,
            data_dir=data_dir,
            valkey_binary=Path(redis_server) if redis_server else None,
            postgres_bin_dir=postgres_bins[-1].parent if postgres_bins else None,
        )
    )
    try:
        remember(engines.redis_url, engines.database_url)
    finally:
        engines.stop()

    # Without the setting, too: the record says what wrote the data, and that comes first.
    again = Engines.start(
        Settings(redis_url=None, database_url=None, secret=None, data_dir=data_dir)
    )
    found = recall(again.redis_url, again.database_url)
    again.stop()

    assert found == (b"yes", "yes")


@as_root
def test_root_runs_postgres_as_nobody_below_closed_directories(scratch: Path) -> None:
    """The cluster lies in the data directory though nobody may not go there, and modes stay."""
    closed = scratch / uuid4().hex
    closed.mkdir(mode=0o700)
    engines = Engines.start(
        Settings(redis_url=None, database_url=None, secret=None, data_dir=closed / "data")
    )
    try:
        owner = server_of(closed / "data", "postgres").username()
        remember(engines.redis_url, engines.database_url)
    finally:
        engines.stop()

    assert owner == "nobody"
    assert (closed / "data" / "postgres" / "data" / "PG_VERSION").exists()
    assert [
        stat.S_IMODE(path.stat().st_mode)
        for path in (closed, closed / "data", closed / "data" / "postgres")
    ] == [0o700, 0o700, 0o700]
