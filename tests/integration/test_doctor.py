"""`live doctor`: each finding says what is wrong on this machine and what would mend it."""

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from live.base.settings import Settings
from live.ledger.db.migrate import migrate
from live.run.doctor import Diagnosis, examine, examine_settings, examine_shop
from live.transport import descriptors
from tests.support.cluster import Cluster
from tests.support.http_provider import SECRET as PROVIDER_SECRET
from tests.support.http_provider import running_example
from tests.support.servers import Postgres, Valkey


@pytest.fixture
def settings(scratch: Path) -> Settings:
    data_dir = scratch / uuid4().hex[:8]
    return Settings(redis_url=None, database_url=None, secret=None, data_dir=data_dir)


def look(settings: Settings, name: str) -> Diagnosis:
    found = {finding.name: finding for finding in examine(settings)}
    return found[name]


def test_fresh_machine_is_fit(settings: Settings) -> None:
    """With the wheels installed and nothing configured all that counts is in order."""
    findings = {finding.name: finding for finding in examine(settings)}

    assert list(findings) == [
        *("python", "open files", "data directory", "secret", "ways to pay", "shipping and tax"),
        *("valkey", "valkey age", "postgres", "postgres age", "sockets"),
    ]
    assert [name for name, found in findings.items() if not found.ok and found.stops] == []
    assert not settings.data_dir.exists()


def test_configured_engines_are_asked(
    settings: Settings, valkey: Valkey, database_url: str
) -> None:
    """Versions and promises of configured servers are shown, and nothing of embedded ones."""
    asyncio.run(migrate(database_url))
    configured = replace(settings, redis_url=valkey.url, database_url=database_url, secret="s" * 32)

    findings = {finding.name: finding for finding in examine(configured)}

    assert list(findings)[6:] == [
        *("redis", "redis durability", "redis memory"),
        *("postgres", "postgres connections", "ledger", "clocks", "settlement"),
    ]
    assert findings["redis"].detail.startswith("valkey 9.")
    assert findings["redis durability"].detail == "appendfsync always"
    assert re.fullmatch(r"18\.[1-9]\d*", findings["postgres"].detail)
    assert all(finding.ok for finding in list(findings.values())[5:])


def test_each_node_of_a_cluster_is_asked(settings: Settings, cluster: Cluster) -> None:
    """A shard that may evict, or forgets at once, is as bad as a server of that kind."""
    configured = replace(settings, redis_url=cluster.url)
    node = cluster.primaries[1]
    name = f"127.0.0.1:{node.port}"

    findings = {found.name: found for found in examine(configured) if "redis" in found.name}
    assert findings["redis"].detail == "a cluster of 3 nodes, all slots covered"
    assert len(findings) == 1 + 3 * 3 and all(found.ok for found in findings.values())

    node.ask("CONFIG", "SET", "appendfsync", "everysec")
    assert "appendfsync always" in look(configured, f"redis durability {name}").fix
    node.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    found = look(configured, "redis")
    assert not found.ok and name in found.detail and "allkeys-lru" in found.detail

    node.ask("CONFIG", "SET", "appendfsync", "always", "maxmemory-policy", "noeviction")


def test_url_of_the_wrong_kind_is_refused(
    settings: Settings, cluster: Cluster, valkey: Valkey, scratch: Path
) -> None:
    """One node of a cluster is not all shows; a single server answers no question about slots."""
    port = cluster.primaries[0].port
    alone = Cluster(scratch / uuid4().hex[:8]).nodes[0]
    alone.options = ("--port", str(alone.port), "--bind", "127.0.0.1")
    alone.start()
    try:
        one = look(replace(settings, redis_url=f"redis://:@127.0.0.1:{port}"), "redis")
        none = look(replace(settings, redis_url=f"redis+cluster://127.0.0.1:{alone.port}"), "redis")
    finally:
        alone.close()
    dead = look(replace(settings, redis_url="redis+cluster://:hunter2@127.0.0.1:1"), "redis")

    assert not one.ok and "redis+cluster://" in one.detail
    assert not none.ok and "redis://" in none.detail
    assert not dead.ok and "hunter2" not in dead.detail


def test_weaker_durability_than_wanted_is_found(settings: Settings, scratch: Path) -> None:
    """Append-only every second is not `always`; without append-only nothing is kept at all."""
    place = scratch / uuid4().hex[:8]
    place.mkdir()
    server = Valkey(place, "--appendonly", "yes", "--appendfsync", "everysec")
    server.start()
    try:
        weak = look(replace(settings, redis_url=server.url), "redis durability")
    finally:
        server.close()
    server = Valkey(place, "--appendonly", "no")
    server.start()
    try:
        none = look(replace(settings, redis_url=server.url), "redis durability")
    finally:
        server.close()

    assert (weak.ok, none.ok) == (False, False)
    assert "LIVE_APPENDFSYNC=everysec" in weak.fix
    assert none.detail.startswith("append-only is off")
    assert not weak.stops and not none.stops  # the service starts, and says so


def test_shop_that_takes_no_money_is_found(settings: Settings) -> None:
    """Engines of one's own bring no sandbox; `serve` warns by the same check."""
    url = "postgresql://127.0.0.1:1/live"
    own = replace(settings, redis_url="redis://127.0.0.1:1", database_url=url)

    none, embedded = look(own, "ways to pay"), look(settings, "ways to pay")
    paid = look(replace(own, stripe_key="sk_x"), "ways to pay")

    assert (none.ok, none.stops) == (False, False) and "LIVE_PROVIDERS" in none.fix
    assert (embedded.ok, embedded.detail) == (True, "sandbox")
    assert (paid.ok, paid.detail) == (True, "stripe")


def test_own_checkout_and_payments_are_asked(settings: Settings, scratch: Path) -> None:
    """A checkout where nobody listens, and a service that does not know the secret, are found."""
    with running_example(scratch / f"{uuid4().hex}.sqlite3") as example:
        well = replace(
            settings,
            checkout_url=f"{example.url}/checkout/{{hold}}",
            provider_url=example.url,
            provider_secrets=(PROVIDER_SECRET,),
        )
        strange = replace(well, provider_secrets=("whsec_" + "A" * 32,))
        found = [one.ok for one in examine_shop(well)]
        (_, wrong) = examine_shop(strange)
    gone = examine_shop(well)

    assert found == [True, True]
    assert not wrong.ok and not wrong.stops and "LIVE_PROVIDER_SECRET" in wrong.fix
    assert [one.ok for one in gone] == [False, False]
    assert [one.name for one in gone] == ["own checkout", "own payments"]
    assert "{hold}" not in gone[0].detail


def test_misspelt_variable_is_warned_of(settings: Settings) -> None:
    """It changes nothing, which nobody notices; the name that was meant is told."""
    found, faults = Settings.read({"LIVE_DATABSE_URL": "x", "LIVE_STREAM": "1", "LIVE_PORT": "1"})

    warned = [one for one in examine_settings(found) if one.name == "settings"]

    assert faults == ()
    assert [one.detail for one in warned] == [
        "LIVE_DATABSE_URL is unknown",
        "LIVE_STREAM is unknown",
    ]
    assert "LIVE_DATABASE_URL" in warned[0].fix
    assert not any(one.stops for one in warned)


def test_url_of_an_unknown_scheme_is_told_once(settings: Settings) -> None:
    """By the list of all schemes, not by a client's shorter one beside it."""
    found, faults = Settings.read({"LIVE_REDIS_URL": "sentinel://h:1/name"})

    told = [one for one in examine(replace(found, data_dir=settings.data_dir), faults) if one.stops]

    assert [one.name for one in told if not one.ok and "schem" in one.detail + one.fix] == []
    assert [one.name for one in told if not one.ok] == ["settings"]


def test_enough_descriptors_are_enough_for_both() -> None:
    """What gateways ask for at most is not few."""
    assert not descriptors.few(descriptors.WANTED)
    assert descriptors.reachable(1_024, 20_000) == 20_000
    assert descriptors.reachable(1_024, 1_000_000) == descriptors.WANTED
    assert descriptors.few(20_000)


def test_doctor_and_gateways_count_descriptors_alike() -> None:
    """In a process of its own under a limit that is too low for one, and so for the other."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, 18_000))
from live.run.doctor import _files
from live.transport import descriptors
from live.connection.admission import DEFAULT
found = _files().ok
descriptors.raise_limit()
print(found, descriptors.fit(DEFAULT) == DEFAULT)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.split()[-2:] == ["False", "False"]


def test_dead_servers_are_found_without_their_passwords(settings: Settings) -> None:
    """A configured server that does not answer is named, and its password is not."""
    dead = replace(
        settings,
        redis_url="redis://:hunter2@127.0.0.1:1",
        database_url="postgresql://live:hunter2@127.0.0.1:1/live",
    )

    found = [look(dead, "redis"), look(dead, "postgres")]

    assert [finding.ok for finding in found] == [False, False]
    assert not any("hunter2" in finding.detail for finding in found)


def test_missing_secret_beside_a_database_is_found(settings: Settings, postgres: Postgres) -> None:
    """Gateways with secrets of their own would refuse each other's tokens."""
    found = look(replace(settings, database_url=postgres.url()), "secret")

    assert not found.ok
    assert "LIVE_SECRET" in found.fix


def test_open_secret_and_directory_are_found(settings: Settings) -> None:
    """What others may read or write is named with the command that closes it."""
    settings.data_dir.mkdir()
    settings.data_dir.chmod(0o777)
    secret = settings.data_dir / "secret"
    secret.write_text("x" * 40)
    secret.chmod(0o644)

    assert look(settings, "secret").fix == f"chmod 600 {secret}"
    assert look(settings, "data directory").fix == f"chmod go-w {settings.data_dir}"

    secret.chmod(0o600)
    settings.data_dir.chmod(0o700)

    assert look(settings, "secret").ok
    assert look(settings, "data directory").ok


def test_missing_binaries_are_found(settings: Settings) -> None:
    """An explicit path that holds no server is an error with the ways out of it."""
    nowhere = Path("/nowhere")
    broken = replace(settings, valkey_binary=nowhere, postgres_bin_dir=nowhere)

    found = [look(broken, "valkey"), look(broken, "postgres")]

    assert [finding.ok for finding in found] == [False, False]
    assert "LIVE_REDIS_URL" in found[0].fix
    assert "LIVE_DATABASE_URL" in found[1].fix


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives directories away")
def test_directory_of_another_user_is_found(settings: Settings) -> None:
    """The engines would refuse it at the start; the doctor says so before."""
    settings.data_dir.mkdir()
    os.chown(settings.data_dir, 12345, -1)

    found = look(settings, "data directory")

    assert not found.ok
    assert "12345" in found.detail


def test_report_has_no_log_in_it(scratch: Path) -> None:
    """Whatever is told to the log on the way, such as a service of the shop that is away."""
    asked = {"LIVE_PROVIDER_URL": "http://127.0.0.1:9", "LIVE_PROVIDER_SECRET": PROVIDER_SECRET}
    done = subprocess.run(
        [sys.executable, "-m", "live", "doctor"],
        env={"PATH": os.environ["PATH"], "LIVE_DATA_DIR": str(scratch / "doctor")} | asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert any("127.0.0.1:9" in line for line in lines), done.stdout
    assert all(line.startswith(("ok  ", "FIX ", "WARN", "    ")) for line in lines), done.stdout
