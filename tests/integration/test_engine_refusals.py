"""Engines that must not be started, or not be used: the error says what, why and what mends it."""

import fcntl
import json
import shutil
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from live.base.errors import EngineError
from live.base.settings import Settings
from live.tools.engines import embedded
from live.tools.engines.embedded import Engines
from tests.support.engine_tools import as_root
from tests.support.servers import Valkey


@pytest.fixture
def data_dir(scratch: Path) -> Path:
    """A directory that does not exist yet, below one that anybody may enter."""
    return scratch / f"d {uuid4().hex[:8]}"  # with a space: nothing may split it


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(redis_url=None, database_url=None, secret=None, data_dir=data_dir)


@pytest.mark.parametrize(
    ("redis_url", "database_url", "named"),
    [
        ("redis://user:hunter2@127.0.0.1:1/0", None, "Redis at redis://user:"),
        (None, "postgresql://user:hunter2@127.0.0.1:1/live", "Postgres at postgresql://user:"),
    ],
)
def test_configured_url_without_answer_is_an_error(
    data_dir: Path, redis_url: str | None, database_url: str | None, named: str
) -> None:
    """Never a fallback to an embedded engine; the password is not shown."""
    wrong = Settings(redis_url=redis_url, database_url=database_url, secret=None, data_dir=data_dir)

    with pytest.raises(EngineError, match=named) as caught:
        Engines.start(wrong)

    assert "hunter2" not in str(caught.value)
    assert not data_dir.exists()


def test_configured_redis_that_evicts_is_refused(data_dir: Path) -> None:
    """Stock that may be evicted is stock that may be sold twice."""
    data_dir.mkdir()
    evicting = Valkey(data_dir, "--maxmemory-policy", "allkeys-lru")
    evicting.start()
    try:
        with pytest.raises(EngineError, match="may evict stock"):
            Engines.start(
                Settings(redis_url=evicting.url.replace(" ", "%20"), database_url=None, secret=None)
            )
    finally:
        evicting.close()


def _pretend(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return path


def test_other_postgres_major_is_refused(settings: Settings, data_dir: Path, scratch: Path) -> None:
    """A cluster is opened by the major that wrote it or not at all, and both are named."""
    Engines.start(settings).stop()
    other = _pretend(scratch / "pg17" / "postgres", "postgres (PostgreSQL) 17.2")

    with pytest.raises(EngineError, match=r"postgres 17\.2 .*written by Postgres 18"):
        Engines.start(
            Settings(
                redis_url=None,
                database_url=None,
                secret=None,
                data_dir=data_dir,
                postgres_bin_dir=other.parent,
            )
        )


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("Redis server v=7.2.5 sha=0", "written by valkey 9"),
        ("Valkey server v=8.1.0 sha=0", "written by valkey 9.*newer"),
        ("Redis server v=6.2.0 sha=0", "too old"),
        ("postgres (PostgreSQL) 18.6", "neither Valkey nor Redis"),
        ("something else", "does not run"),
    ],
)
def test_other_redis_family_is_refused(
    settings: Settings, data_dir: Path, scratch: Path, version: str, reason: str
) -> None:
    """Valkey's file is opened by a Valkey at least as new, or not at all."""
    data_dir.mkdir()
    wrote = {"family": "valkey", "version": "9.1.2", "binary": "/nowhere/valkey-server"}
    (data_dir / "engine.json").write_text(json.dumps({"valkey": wrote}))
    other = _pretend(scratch / uuid4().hex / "redis-server", version)

    with pytest.raises(EngineError, match=reason) as caught:
        Engines.start(
            Settings(
                redis_url=None,
                database_url=None,
                secret=None,
                data_dir=data_dir,
                valkey_binary=other,
            )
        )

    assert "LIVE_REDIS_URL" in str(caught.value)


def test_damaged_record_is_an_error(settings: Settings, data_dir: Path) -> None:
    """Without knowing what wrote the data nothing is started on it."""
    data_dir.mkdir()
    (data_dir / "engine.json").write_text("{")

    with pytest.raises(EngineError, match=r"engine\.json cannot be read"):
        Engines.start(settings)


def test_directory_of_a_silent_owner_is_refused(
    settings: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the owner's engines do not answer in time, the message names its process."""
    data_dir.mkdir()
    monkeypatch.setattr(embedded, "ADOPT_SECONDS", 0.2)
    with (data_dir / "owner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        json.dump({"pid": 4711, "redis_url": None, "database_url": None}, lock)
        lock.flush()

        with pytest.raises(EngineError, match="in use by process 4711"):
            Engines.start(settings)


def test_failed_start_leaves_nothing_behind(settings: Settings, data_dir: Path) -> None:
    """When the second engine cannot start, the first one is stopped and the directory is free."""
    (data_dir / "postgres" / "data").mkdir(parents=True)
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("9\n")

    with pytest.raises(EngineError, match="written by Postgres 9"):
        Engines.start(settings)

    pid = int((data_dir / "valkey" / "server.lock").read_text())
    assert not psutil.pid_exists(pid)
    with (data_dir / "owner.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_unusable_data_directory_is_an_error(scratch: Path) -> None:
    """A path that cannot be a directory is named, with the setting to change."""
    file = scratch / uuid4().hex
    file.touch()

    with pytest.raises(EngineError, match="set LIVE_DATA_DIR"):
        Engines.start(
            Settings(redis_url=None, database_url=None, secret=None, data_dir=file / "data")
        )


@as_root
def test_directory_of_another_user_is_refused(settings: Settings, data_dir: Path) -> None:
    """Root does not put files of its own into a user's directory."""
    data_dir.mkdir()
    shutil.chown(data_dir, "nobody")

    with pytest.raises(EngineError, match="belongs to user id"):
        Engines.start(settings)
