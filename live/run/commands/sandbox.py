"""The sandbox payment provider; started by the supervisor."""

from live.base.settings import Settings
from live.base.telemetry import set_up_logs
from live.run.commands.places import hosts_of, sandbox_books
from live.tools.sandbox import server as sandbox_server
from live.transport.http_guard import guarded


def run_sandbox(settings: Settings, *, uds: str, webhook_url: str) -> None:
    set_up_logs(role="sandbox")
    sandbox_server.main(
        uds=uds,
        data_dir=sandbox_books(settings),
        key=settings.sandbox_key,
        webhook_url=webhook_url or None,
        http=guarded(hosts_of(settings)),
    )
