"""The ledger's fixtures are the same where its processes die; engines that a test may stop."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.conftest import outbox, sale, server
from tests.support.servers import Postgres, Valkey

__all__ = ["outbox", "sale", "server"]


@pytest.fixture
def own_postgres(scratch: Path) -> Iterator[Postgres]:
    """One that this test may stop."""
    directory = scratch / f"own-{uuid4().hex[:6]}"
    (directory / "pg").mkdir(parents=True)
    server = Postgres(directory / "pg")
    server.init()
    server.start("fsync=off")
    yield server
    server.close()


@pytest.fixture
def own_valkey(scratch: Path) -> Iterator[Valkey]:
    """One that this test may stop."""
    directory = scratch / f"own-{uuid4().hex[:6]}"
    directory.mkdir()
    server = Valkey(directory)
    server.start()
    yield server
    server.close()
