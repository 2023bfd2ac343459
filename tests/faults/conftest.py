"""The ledger's fixtures are the same where its processes die."""

from tests.integration.conftest import outbox, pool, sale

__all__ = ["outbox", "pool", "sale"]
