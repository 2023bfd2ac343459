"""The sandbox payment provider; started by the supervisor."""

from live.commands.places import hosts_of, sandbox_books
from live.payments import sandbox_server
from live.realtime.guard import guarded
from live.settings import Settings
from live.telemetry import set_up_logs


def run_sandbox(settings: Settings, *, uds: str, webhook_url: str) -> None:
    set_up_logs(role="sandbox")
    sandbox_server.main(
        uds=uds,
        data_dir=sandbox_books(settings),
        key=settings.sandbox_key,
        webhook_url=webhook_url or None,
        http=guarded(hosts_of(settings)),
    )
