"""The containers' description is valid, and says what the service relies on."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from live.base import settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, object]]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def test_compose_follows_the_schema() -> None:
    """The compose specification's own schema accepts it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(COMPOSE)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_compose_is_read_by_docker() -> None:
    """Docker's client resolves it; without the secrets it refuses and names them."""
    for compose in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(compose[0]) is None:
            continue
        if subprocess.run([*compose, "version"], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("neither docker compose nor docker-compose is installed here")
    command = [*compose, "-f", str(COMPOSE), "config", "-q"]
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/"}
    secrets = {"LIVE_SECRET": "s" * 32, "POSTGRES_PASSWORD": "p" * 16}
    secrets |= {"LIVE_DATABASE_PASSWORD": "d" * 16, "VALKEY_PASSWORD": "v" * 16}

    full = subprocess.run(
        command, env={**path, **secrets}, capture_output=True, text=True, check=False
    )
    bare = subprocess.run(command, env=path, capture_output=True, text=True, check=False)

    assert (full.returncode, full.stderr) == (0, "")
    assert bare.returncode != 0
    assert any(name in bare.stderr for name in (*secrets, "LIVE_SECRET"))


def test_compose_passes_on_what_the_service_reads(services: dict[str, dict[str, object]]) -> None:
    """Everything that switches something on outside; addresses and data are the containers' own."""
    own = {"LIVE_HOST", "LIVE_PORT", "LIVE_OPS_PORT", "LIVE_WORKERS", "LIVE_DATA_DIR"}
    own |= {"LIVE_APPENDFSYNC", "LIVE_VALKEY_BINARY", "LIVE_POSTGRES_BIN_DIR"}
    own |= {"LIVE_SANDBOX_URL", "LIVE_SANDBOX_KEY"}  # no sandbox where money is real
    own |= settings.ELSEWHERE
    read = set(re.findall(r'"(LIVE_[A-Z_]+)"', inspect.getsource(settings)))

    for name in ("gateway", "settler"):
        environment = services[name]["environment"]
        assert isinstance(environment, dict)
        assert read - own <= environment.keys()


def test_compose_names_the_length_of_the_secret() -> None:
    """What it asks for is what the settings accept."""
    assert f"at least {settings.SECRET_BYTES_MIN} bytes" in COMPOSE.read_text()


def test_every_service_has_a_health_check(services: dict[str, dict[str, object]]) -> None:
    """All say how they are, but for the migration, which ends by itself."""
    lacking = [
        name
        for name, service in services.items()
        if "test" not in dict(service["healthcheck"])  # type: ignore[call-overload]  # YAML has no types
    ]

    assert lacking == ["migrate"]


def test_gateway_and_settler_are_asked_whether_they_are_ready(
    services: dict[str, dict[str, object]],
) -> None:
    """Both at the port that their command names, which is one that the check asks."""
    for name, port in (("gateway", "8000"), ("settler", "8001")):
        command, check = services[name]["command"], services[name]["healthcheck"]
        assert isinstance(command, list) and isinstance(check, dict)
        assert port in command
        assert f'"{port}"' in (ROOT / "deploy" / "healthy.py").read_text()
        assert check["test"] == ["CMD", "python", "/app/healthy.py", "readyz"]


def test_stock_engine_is_durable_and_never_evicts(services: dict[str, dict[str, object]]) -> None:
    """The container's Valkey keeps the promises of the embedded one."""
    command = services["valkey"]["command"]
    assert isinstance(command, list)
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


def test_gateway_can_be_scaled(services: dict[str, dict[str, object]]) -> None:
    """No fixed name or single port of the host keeps a second gateway from starting."""
    gateway = services["gateway"]

    assert "container_name" not in gateway
    assert gateway["ports"] == ["${LIVE_PORTS:-127.0.0.1:8000-8009}:8000"]


def test_no_secret_has_a_default() -> None:
    """Whoever starts it must bring the secrets; there is no well-known one to forget."""
    text = COMPOSE.read_text()

    for name in (
        *("LIVE_SECRET", "POSTGRES_PASSWORD", "LIVE_DATABASE_PASSWORD", "VALKEY_PASSWORD"),
    ):
        uses = text.count(f"${{{name}")
        assert uses >= 1
        assert uses == text.count(f"${{{name}:?")


def test_every_container_has_the_least_rights(services: dict[str, dict[str, object]]) -> None:
    """Nothing can be written but volumes and memory, no capability is kept without a reason."""
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert [name for name, service in services.items() if "cap_add" in service] == ["postgres"]


def test_only_gateways_are_published_and_on_loopback(
    services: dict[str, dict[str, object]],
) -> None:
    """Plain http belongs behind a proxy; engines and metrics belong to nobody outside."""
    published = [name for name, service in services.items() if "ports" in service]
    networks = {name: service["networks"] for name, service in services.items()}

    assert published == ["gateway"]
    assert str(services["gateway"]["ports"]).startswith("['${LIVE_PORTS:-127.0.0.1:")
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["engines"] == {"internal": True}
    for name in ("valkey", "postgres", "migrate"):
        assert networks[name] == ["engines"]


def test_service_and_migration_have_accounts_of_their_own(
    services: dict[str, dict[str, object]],
) -> None:
    """Who serves can neither change the schema nor switch its triggers off."""
    users = {}
    for name in ("gateway", "settler", "migrate"):
        environment = services[name]["environment"]
        assert isinstance(environment, dict)
        users[name] = environment["LIVE_DATABASE_URL"].partition("//")[2].partition(":")[0]
    owner, command = users.pop("migrate"), services["migrate"]["command"]
    assert isinstance(command, list)

    assert set(users.values()) == {"live"}
    assert owner == "live_owner"
    assert command[-2:] == ["--grant", "live"]
