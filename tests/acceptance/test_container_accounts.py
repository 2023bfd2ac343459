"""What the containers' own scripts do, on the wheels' engines instead of the images'."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import redis

from live.run.checks.redis_rights import acl_rule
from tests.acceptance.conftest import Service
from tests.support.servers import READY_SECONDS, Postgres, Valkey, valkey_binary

DEPLOY = Path(__file__).parents[2] / "deploy"


class ScriptedValkey(Valkey):
    """Started as the container starts it."""

    def __init__(self, directory: Path, password: str) -> None:
        super().__init__(directory)
        script = directory / "start"
        script.write_text(
            "#!/bin/sh\n"
            f"export VALKEY_PASSWORD={password} LIVE_RUN={directory} LIVE_ACL={DEPLOY}/valkey.acl\n"
            f'exec sh {DEPLOY}/valkey.sh {valkey_binary()} "$@"\n'
        )
        script.chmod(0o755)
        self.binary = script

    def wait_ready(self) -> None:
        while True:
            assert self.process is not None and self.process.poll() is None
            try:
                redis.Redis.from_url(f"{self.url}?username=live&password=secret").ping()
                return
            except redis.ConnectionError:
                continue


def test_rules_of_the_container_are_the_documented_ones() -> None:
    """One list, in the code; the file is what it says."""
    text = (DEPLOY / "valkey.acl").read_text()

    assert text == f"user default off\nuser live on #PASSWORD_SHA256 {acl_rule()}\n"


def test_valkey_of_the_container_knows_one_account(scratch: Path) -> None:
    """Nobody gets in without the password, and who does may not change the server."""
    place = scratch / uuid4().hex[:8]
    place.mkdir()
    server = ScriptedValkey(place, "secret")
    server.start()
    try:
        with redis.Redis.from_url(server.url) as nobody:
            with pytest.raises(redis.AuthenticationError):
                nobody.ping()
        with redis.Redis.from_url(f"{server.url}?username=live&password=secret") as live:
            for command in (("CONFIG", "GET", "*"), ("FLUSHALL",), ("ACL", "LIST")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    live.execute_command(*command)
        assert "secret" not in (place / "users.acl").read_text()
    finally:
        server.close()


@pytest.fixture
def cluster_of_container(scratch: Path) -> Iterator[Postgres]:
    """A fresh cluster with a superuser `postgres` and a database `live`, as the image makes it."""
    place = scratch / uuid4().hex[:8] / "pg"
    place.mkdir(parents=True)
    server = Postgres(place)
    server.init()
    server.start("fsync=off")

    async def rename() -> None:
        first = await asyncpg.connect(server.url())
        await first.execute("CREATE ROLE postgres SUPERUSER LOGIN")
        await first.close()
        second = await asyncpg.connect(server.url().replace("live@", "postgres@"))
        await second.execute("ALTER ROLE live RENAME TO first")
        await second.execute("CREATE DATABASE live")
        await second.close()

    asyncio.run(rename())
    yield server
    server.close()


def test_postgres_of_the_container_serves_by_a_lesser_role(
    cluster_of_container: Postgres, valkey: Valkey, tmp_path: Path
) -> None:
    """Its script and the migration make two roles; the serving one owns nothing."""
    server = cluster_of_container
    done = subprocess.run(
        ["sh", str(DEPLOY / "postgres.sh")],
        env={
            "PATH": f"{server.bin}:{os.environ['PATH']}",
            "PGHOST": str(server.directory),
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": "live",
            "POSTGRES_PASSWORD": "p1",
            "LIVE_DATABASE_PASSWORD": "p2",
        },
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    service = Service(tmp_path, environment={"LIVE_REDIS_URL": valkey.url})
    service.environment["LIVE_DATABASE_URL"] = server.url("live").replace("live@", "live_owner@")

    migrated = service.live("migrate", "--grant", "live")
    service.environment["LIVE_DATABASE_URL"] = server.url("live")
    looked = service.live("doctor")

    assert migrated.returncode == 0, migrated.stderr
    assert looked.returncode == 0, looked.stdout

    async def refused(statement: str) -> bool:
        connection = await asyncpg.connect(server.url("live"))
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            return True
        finally:
            await connection.close()
        return False

    for statement in (
        "TRUNCATE orders CASCADE",
        "ALTER TABLE host_actions DISABLE TRIGGER ALL",
        "DELETE FROM stock_movements",
        "CREATE TABLE x ()",
    ):
        assert asyncio.run(refused(statement)), statement


def test_health_check_asks_whichever_role_is_here(tmp_path: Path) -> None:
    """A gateway on one port, a settler on the other: one check for both, and for neither."""
    command = [sys.executable, str(DEPLOY / "healthy.py")]
    served = (
        "import http.server as h;"
        "s = h.HTTPServer(('127.0.0.1', 0), type('H', (h.BaseHTTPRequestHandler,), {"
        "'do_GET': lambda self: (self.send_response(200), self.end_headers()),"
        "'log_message': lambda *_: None}));"
        "print(s.server_port, flush=True); s.serve_forever()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", served], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        codes = [
            subprocess.run(command, env={"LIVE_PORT": one, "LIVE_OPS_PORT": two}, check=False)
            for one, two in ((port, "1"), ("1", port), ("1", "1"))
        ]
    finally:
        server.kill()
        server.communicate()

    assert [done.returncode for done in codes] == [0, 0, 1]
