"""What several commands derive from the settings."""

from pathlib import Path

from live.base.settings import Settings
from live.transport.hosts import Hosts


def sandbox_books(settings: Settings) -> Path:
    """Where a sandbox that we start keeps its books."""
    return settings.data_dir / "sandbox"


def hosts_of(settings: Settings) -> Hosts:
    return Hosts(settings.host, settings.allowed_hosts)
