"""Load tests aim at this machine only, unless somebody says otherwise by name."""

from pathlib import Path

import jwt
import pytest

from loadtests import guard

SECRET = "a secret of thirty-two bytes: ok?"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000"),
        ("http://localhost:9", "ws://localhost:9"),
        ("wss://[::1]:8443", "wss://[::1]:8443"),
        ("https://127.9.9.9", "wss://127.9.9.9"),
    ],
)
def test_loopback_host_is_taken(given: str, url: str) -> None:
    """Every way to name this machine works, in either scheme."""
    assert guard.check_host(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "ws://10.1.2.3:8000",
        "ws://shop.example",
        "ws://127.0.0.1.shop.example",
        "ws://user@shop.example",
        "ws://localhost@shop.example",
        "ftp://127.0.0.1",
        "127.0.0.1:8000",
        "",
        None,
    ],
)
def test_other_host_is_refused(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything that is not clearly this machine is refused."""
    monkeypatch.delenv("LIVE_LOADTEST_ALLOW_HOST", raising=False)
    with pytest.raises(guard.TargetError):
        guard.check_host(given)


def test_other_host_is_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host that is named, and no other one."""
    monkeypatch.setenv("LIVE_LOADTEST_ALLOW_HOST", "staging.example")

    assert guard.check_host("wss://staging.example") == "wss://staging.example"
    with pytest.raises(guard.TargetError):
        guard.check_host("wss://production.example")


def test_token_carries_the_claims_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audience, role, shows and an end, signed with the service's secret."""
    monkeypatch.setenv("LIVE_SECRET", SECRET)
    guard.secret.cache_clear()

    token = guard.token("viewer", "anna", ["demo"])

    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="live")
    assert (claims["sub"], claims["role"], claims["shows"]) == ("anna", "viewer", ["demo"])
    assert claims["exp"] > claims["iat"]
    guard.secret.cache_clear()


def test_secret_is_read_from_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without LIVE_SECRET the file of the service signs; without either, a clear refusal."""
    monkeypatch.delenv("LIVE_SECRET", raising=False)
    monkeypatch.setenv("LIVE_DATA_DIR", str(tmp_path))
    guard.secret.cache_clear()
    with pytest.raises(guard.TargetError, match="LIVE_DATA_DIR"):
        guard.secret()

    (tmp_path / "secret").write_text(f"{SECRET}\n")

    assert guard.secret() == SECRET
    guard.secret.cache_clear()
