"""What stands around an engine: variables of other servers, private certificates, clocks, settings.

Method: real engines; a TLS end of Python's own in front of Valkey, with a CA made for the test.
"""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from live.base.redis_url import NodeUrl
from live.base.settings import Settings
from live.redis.connection import Address
from live.run.checks.postgres import PostgresFacts, check_postgres
from live.run.checks.redis import check_redis
from live.run.doctor import SKEW_MS_MAX, examine
from tests.support.engine_tools import Host
from tests.support.servers import Valkey, scratch_directory

FOREIGN = {
    "PGHOST": "db.example",
    "PGPORT": "5433",
    "PGUSER": "somebody",
    "PGDATABASE": "theirs",
    "PGPASSWORD": "theirs",
    "PGSSLMODE": "verify-full",
    "PGSERVICE": "theirs",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGOPTIONS": "-c nonsense=1",
    "REDISCLI_AUTH": "theirs",
    "VALKEYCLI_AUTH": "theirs",
}


def test_variables_of_another_server_do_not_reach_the_embedded_ones(scratch: Path) -> None:
    """A developer's shell is full of them; the engines start and answer all the same."""
    host = Host(scratch / uuid4().hex[:8], env=dict(os.environ) | FOREIGN)
    try:
        assert "error" not in host.hello, host.hello
        assert host.hello["started"] == ["valkey", "postgres"]
        assert host.order("stop") == {"stopped": True}
    finally:
        host.close()


@pytest.fixture
def secured(valkey: Valkey, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a TLS server in front of Valkey, and the file of its private CA."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    made += ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "ca.pem")]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key")
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()
    ports: list[int] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(valkey.socket)
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except OSError:
            pass  # the client hung up
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    yield ports[0], tmp_path / "ca.pem"
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


@pytest.mark.parametrize(
    ("options", "trusted"),
    [("ssl_ca_certs={ca}", True), ("ssl_cert_reqs=none", True), ("", False)],
)
def test_both_clients_trust_the_same_servers(
    secured: tuple[int, Path], options: str, trusted: bool
) -> None:
    """What a rediss URL says of certificates counts for doctor and for the stock engine."""
    port, ca = secured
    url = f"rediss://localhost:{port}?{options.format(ca=ca)}"

    async def connect() -> None:
        wire = await Address(NodeUrl(url)).connect(lambda wire: None)
        wire.abort()
        await asyncio.sleep(0)

    def works(ask: object) -> bool:
        assert callable(ask)
        try:
            ask()
        except Exception as error:  # whatever the client raises, it must be about the certificate
            assert "CERTIFICATE_VERIFY_FAILED" in str(error)
            return False
        return True

    assert works(lambda: check_redis(url)) is trusted
    assert works(lambda: asyncio.run(connect())) is trusted


def test_clocks_that_differ_are_a_warning(
    valkey: Valkey, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offers open by Postgres' clock and holds end by Redis'; who is off by how much is said."""
    settings = Settings(redis_url=valkey.url, database_url=database_url, secret="s" * 32)
    true = check_postgres(database_url)
    late = PostgresFacts(true.version, true.connections, SKEW_MS_MAX * 4)

    well = {found.name: found for found in examine(settings)}["clocks"]
    monkeypatch.setattr("live.run.doctor.check_postgres", lambda url: late)
    apart = {found.name: found for found in examine(settings)}["clocks"]

    assert well.ok
    assert (apart.ok, apart.stops) == (False, False)
    assert f"Postgres {late.ahead_ms:+} ms" in apart.detail


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVE_")}
    return subprocess.run(
        [sys.executable, "-m", "live", *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_doctor_looks_at_the_rest_whatever_the_settings_are(valkey: Valkey) -> None:
    """A short secret and a wrong number are findings among the others."""
    done = run(
        "doctor",
        LIVE_SECRET="short",
        LIVE_WORKERS="many",
        LIVE_REDIS_URL=valkey.url,
        LIVE_DATA_DIR=str(scratch_directory()),
    )

    assert done.returncode == 1
    for words in ("FIX  secret:", "LIVE_WORKERS='many'", "ok   redis: valkey", "ok   python"):
        assert words in done.stdout, done.stdout


@pytest.mark.parametrize("command", ["serve", "audit", "import"])
def test_commands_refuse_a_ledger_that_is_not_there(
    valkey: Valkey, database_url: str, command: str
) -> None:
    """One line says what is missing and what makes it; nothing is made, nothing traced."""
    more = {"serve": ["--port", "0"], "audit": ["--json"], "import": ["live/tools/demo/feed.tsv"]}
    variables = {"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": database_url}

    done = run(command, *more[command], LIVE_SECRET="s" * 32, **variables)
    found = check_postgres(database_url)

    assert done.returncode == 2, done.stdout
    assert "migrations are not applied" in done.stderr and "run `live migrate`" in done.stderr
    assert "Traceback" not in done.stderr
    assert found.version


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:{port}", "redis+cluster://127.0.0.1:{port},127.0.0.1:{port}"]
)
def test_silent_engine_is_an_error_with_a_reason(
    url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes connections and says nothing is said to do so."""
    monkeypatch.setattr("live.run.checks.redis.ANSWER_SECONDS", 0.2)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = Settings(redis_url=url.format(port=port), database_url=None, secret=None)
        found = {one.name: one for one in examine(settings)}["redis"]

    assert not found.ok
    assert not found.detail.rstrip().endswith(":")
    assert "imeout" in found.detail or "in time" in found.detail
