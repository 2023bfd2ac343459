"""`live token`."""

from collections.abc import Sequence
from dataclasses import replace

from live.api.auth import Authenticator
from live.base.errors import SettingsError
from live.base.settings import Settings, resolve_secret
from live.domain.caller import ALL_SHOWS, Role


def token(
    settings: Settings, *, role: Role, sub: str, shows: Sequence[str], ttl_seconds: int
) -> str:
    """Mint a token; no engine is needed. Raises SettingsError for an impossible name."""
    try:
        auth = authenticator_of(replace(settings, secret=resolve_secret(settings)))
        return auth.mint(role=role, sub=sub, shows=shows or [ALL_SHOWS], ttl=ttl_seconds)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def authenticator_of(settings: Settings) -> Authenticator:
    return Authenticator(settings.secret or "", guests=settings.guests)
