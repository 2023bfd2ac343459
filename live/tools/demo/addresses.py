"""Where people look at a sale of the demo: the viewer page, and the console with a host's token."""

from live.domain.caller import ALL_SHOWS, Role
from live.tools.demo.service import Service

HOST_SUB = "demo-host"
CONSOLE_SECONDS = 12 * 3_600  # the longest that a token may live; the demo serves until Ctrl-C


def addresses(service: Service, show: str) -> tuple[str, str]:
    """One line each; the first opens the show as a guest, the second as its host."""
    token = service.token(Role.HOST, HOST_SUB, shows=[ALL_SHOWS], ttl_seconds=CONSOLE_SECONDS)
    return (
        f"  viewer page   {service.base_url}/watch/{show}",
        f"  host console  {service.base_url}/console#token={token}",
    )
