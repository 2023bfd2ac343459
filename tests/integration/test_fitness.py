"""What `live doctor` calls good, `live serve` starts on; what it calls a fault, serve refuses.

Method: real servers with one thing wrong each; doctor and the checks of the start are asked about
the same URL, and must say the same.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import redis

from live.base.errors import EngineError
from live.base.settings import Settings
from live.ledger.db.fitness import check_ledger, grant, tables
from live.ledger.db.migrate import migrate
from live.run.checks.redis_rights import acl_rule
from live.run.commands.engines import engine_faults
from live.run.doctor import Diagnosis, examine
from live.tools.engines.embedded import Engines
from tests.support.cluster import free_ports
from tests.support.servers import Postgres, Valkey


def settings_of(valkey: Valkey, database_url: str, **changes: object) -> Settings:
    values: dict[str, object] = {"redis_url": valkey.url, "secret": "s" * 32}
    return Settings(database_url=database_url, **(values | changes))  # type: ignore[arg-type]


def stops(settings: Settings) -> list[Diagnosis]:
    """What doctor says keeps the service from starting."""
    return [found for found in examine(settings) if not found.ok and found.stops]


def refusal(settings: Settings) -> str:
    """What the start of the service says; "": it goes on."""
    try:
        with engine_faults():
            Engines.start(settings).stop()
            asyncio.run(check_ledger(settings.database_url or ""))
    except EngineError as error:
        return str(error)
    return ""


def both_say(settings: Settings, name: str, text: str) -> Diagnosis:
    """Doctor and start name the same fault; returns doctor's finding."""
    found = stops(settings)
    assert [one.name for one in found] == [name]
    assert text in found[0].detail
    assert found[0].fix
    assert text in refusal(settings)
    return found[0]


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def as_role(url: str, role: str) -> str:
    return url.replace("live@", f"{role}@")


@pytest.fixture
def role(postgres: Postgres) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"r{uuid4().hex[:8]}"
    asyncio.run(run(postgres.url(), f"CREATE ROLE {name} LOGIN"))
    yield name
    asyncio.run(run(postgres.url(), f"DROP ROLE {name}"))


@pytest.fixture
def ledger(database_url: str, role: str) -> Iterator[str]:
    """A migrated database, for its owner."""
    asyncio.run(migrate(database_url))
    yield database_url
    asyncio.run(run(database_url, f"DROP OWNED BY {role}"))


def test_whole_ledger_is_good(valkey: Valkey, ledger: str) -> None:
    """The owner of the tables may do it all."""
    settings = settings_of(valkey, ledger)

    assert (stops(settings), refusal(settings)) == ([], "")


def test_least_role_is_good_and_migrates_nothing(valkey: Valkey, ledger: str, role: str) -> None:
    """Who may read and write rows serves, also where nothing is left to migrate."""
    asyncio.run(grant(ledger, role))
    url = as_role(ledger, role)
    settings = settings_of(valkey, url)

    assert (stops(settings), refusal(settings)) == ([], "")
    assert asyncio.run(migrate(url)) == []


def test_missing_migrations_are_named(valkey: Valkey, database_url: str) -> None:
    """Nobody but `live migrate` makes a schema; the fix says so."""
    found = both_say(settings_of(valkey, database_url), "ledger", "0001_initial.sql")

    assert found.fix == "run `live migrate`"


def test_role_that_may_not_migrate_is_told(valkey: Valkey, database_url: str, role: str) -> None:
    """The default since Postgres 15: only the database's owner makes tables in `public`."""
    url = as_role(database_url, role)

    found = both_say(settings_of(valkey, url), "ledger", "0001_initial.sql")
    with pytest.raises(EngineError, match="may not migrate"):
        asyncio.run(migrate(url))

    assert f"GRANT CREATE ON SCHEMA public TO {role}" in found.fix


def test_role_without_rights_on_tables_is_told(valkey: Valkey, ledger: str, role: str) -> None:
    """Each missing right is named with its table, and the command that gives it."""
    url = as_role(ledger, role)
    asyncio.run(grant(ledger, role))
    asyncio.run(run(ledger, f"REVOKE UPDATE, INSERT ON orders FROM {role}"))

    found = both_say(settings_of(valkey, url), "ledger", "orders")

    assert "INSERT" in found.detail and "UPDATE" in found.detail
    assert f"live migrate --grant {role}" in found.fix


def test_rights_cover_every_table(ledger: str) -> None:
    """A table that a migration adds is granted and looked at."""

    async def found() -> set[str]:
        connection = await asyncpg.connect(ledger)
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
        return {row["tablename"] for row in rows}

    assert asyncio.run(found()) == set(tables())


def test_server_that_only_reads_is_refused(valkey: Valkey, ledger: str, role: str) -> None:
    """A role, a database or a whole server may be read-only."""
    asyncio.run(grant(ledger, role))
    asyncio.run(run(ledger, f"ALTER ROLE {role} SET default_transaction_read_only = on"))

    both_say(settings_of(valkey, as_role(ledger, role)), "postgres", "only read")


def test_standby_is_refused(valkey: Valkey, scratch: Path) -> None:
    """A standby answers everything but writes."""
    place = scratch / uuid4().hex[:8] / "pg"
    place.mkdir(parents=True)
    server = Postgres(place)
    server.init()
    server.start("fsync=off")  # once, so that the cluster knows its own max_connections
    server.stop()
    (server.data / "standby.signal").touch()
    server.start("fsync=off", "hot_standby=on")
    try:
        both_say(settings_of(valkey, server.url()), "postgres", "standby")
    finally:
        server.close()


def test_edited_migration_is_named(valkey: Valkey, ledger: str) -> None:
    """A schema that is not the one of these files is nobody's to guess at."""
    asyncio.run(run(ledger, "UPDATE migrations SET checksum = 'x' WHERE name ~ '^0002'"))

    both_say(settings_of(valkey, ledger), "ledger", "was edited")


def test_too_few_connections_are_a_warning(valkey: Valkey, ledger: str, role: str) -> None:
    """The service starts; how many it may take, and how many there are, is said."""
    asyncio.run(grant(ledger, role))
    asyncio.run(run(ledger, f"ALTER ROLE {role} CONNECTION LIMIT 12"))
    settings = settings_of(valkey, as_role(ledger, role), database_pool=4, workers=2)

    found = {one.name: one for one in examine(settings)}["postgres connections"]

    assert (found.ok, found.stops) == (False, False)
    assert found.detail == "12 for this role; this machine may take 17"
    assert refusal(settings) == ""


@pytest.fixture
def pooler(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Pooler"]:
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("pgbouncer is not installed here (Debian: apt install pgbouncer)")
    found = Pooler(Path(binary), postgres)
    yield found
    found.stop()


class Pooler:
    """PgBouncer in front of the tests' Postgres."""

    def __init__(self, binary: Path, postgres: Postgres) -> None:
        self._binary, self._postgres = binary, postgres
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, database_url: str, mode: str) -> str:
        """Returns the URL of the same database behind it."""
        port = free_ports(1)[0]
        name = database_url.partition("@/")[2].partition("?")[0]
        place = self._postgres.directory.parent / f"bouncer-{port}"
        place.mkdir(mode=0o755)
        (place / "ini").write_text(
            f"[databases]\n{name} = host={self._postgres.directory} port=5432 user=live\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            f"unix_socket_dir =\npool_mode = {mode}\nlogfile = {place}/log\n"
            f"default_pool_size = 10\n"
        )
        user = "nobody" if os.getuid() == 0 else None
        if user:
            os.chown(place, pwd.getpwnam(user).pw_uid, -1)
        self._process = subprocess.Popen(
            [self._binary, "-q", place / "ini"],
            user=user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"postgresql://live@127.0.0.1:{port}/{name}?sslmode=disable"
        deadline = time.monotonic() + 20
        while True:
            try:
                asyncio.run(run(url))
            except (OSError, asyncpg.PostgresError):
                assert time.monotonic() < deadline, (place / "log").read_text()
                time.sleep(0.02)
                continue
            return url

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_pooler_of_transactions_is_refused(
    valkey: Valkey, ledger: str, pooler: Pooler, mode: str
) -> None:
    """Locks and prepared statements need sessions, which such a pooler does not give."""
    url = pooler.start(ledger, mode)

    found = both_say(settings_of(valkey, url), "postgres", "pooler")

    assert "pool_mode=session" in found.fix


def test_pooler_of_sessions_is_good(valkey: Valkey, ledger: str, pooler: Pooler) -> None:
    """It only saves the making of connections."""
    settings = settings_of(valkey, pooler.start(ledger, "session"))

    assert (stops(settings), refusal(settings)) == ([], "")


@pytest.fixture
def account(valkey: Valkey) -> Iterator[str]:
    """The name of an account of Redis, without rights yet; its password is `p`."""
    name = f"u{uuid4().hex[:8]}"
    yield name
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command("ACL", "DELUSER", name)


def allow(valkey: Valkey, name: str, *rules: str) -> str:
    """Set an account's rights; returns the URL that logs in by it."""
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">p", *rules)
    return f"{valkey.url}?username={name}&password=p"


@pytest.mark.parametrize("command", ["xautoclaim", "script|load", "spublish", "multi", "exec"])
def test_missing_right_of_redis_is_named(
    valkey: Valkey, ledger: str, account: str, command: str
) -> None:
    """With everything but one command: that one is named, and how to give it."""
    url = allow(valkey, account, *acl_rule().replace(f"+{command}", "").split())

    found = both_say(settings_of(valkey, ledger, redis_url=url), "redis", f"use {command} on")

    assert f"+{command}" in found.fix


def test_rights_of_managed_redis_without_info_are_named(
    valkey: Valkey, ledger: str, account: str
) -> None:
    """`+@all -@dangerous` is usual, and takes INFO away."""
    url = allow(valkey, account, "~*", "&*", "+@all", "-@dangerous")

    found = both_say(settings_of(valkey, ledger, redis_url=url), "redis", "info")

    assert "+info" in found.fix


def test_looking_at_rights_changes_nothing(scratch: Path, ledger: str) -> None:
    """What is tried is never run, whatever is missing."""
    place = scratch / uuid4().hex[:8]
    place.mkdir()
    server = Valkey(place)
    server.start()
    try:
        for rule in (acl_rule(), acl_rule().replace("+multi", "")):
            url = allow(server, "some", *rule.split())
            with contextlib.suppress(EngineError):
                Engines.start(settings_of(valkey=server, database_url=ledger, redis_url=url))
        with redis.Redis.from_url(server.url) as client:
            found = client.keys("*")
    finally:
        server.close()

    assert found == []


def test_replica_is_refused(valkey: Valkey, ledger: str, scratch: Path) -> None:
    """A replica answers everything but writes."""
    place = scratch / uuid4().hex[:8]
    place.mkdir()
    server = Valkey(place, "--replicaof", "127.0.0.1", "1")
    server.start()
    try:
        both_say(settings_of(server, ledger), "redis", "replica")
    finally:
        server.close()


@pytest.mark.parametrize("option", ["ssl_ca_certs=/nowhere/ca.pem", "no_such_option=1"])
def test_options_that_redis_cannot_take_are_named(valkey: Valkey, ledger: str, option: str) -> None:
    """A URL that no client can use is said in one line."""
    settings = settings_of(valkey, ledger, redis_url=f"rediss://127.0.0.1:1?{option}")

    assert [one.name for one in stops(settings)] == ["redis"]
    assert "Redis" in refusal(settings) or "LIVE_REDIS_URL" in refusal(settings)
