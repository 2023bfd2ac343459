"""Parses arguments, nothing else: each command calls one function of another module.

Always: a command's module is imported by its call. Every process of a service starts here, and one
that imported them all would take a second longer to be there, and to come back.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click
import orjson

from live.base.errors import EngineError, LiveError
from live.base.settings import Settings
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.domain.order import OrderState
from live.domain.orders.fulfilment import Fulfilment
from live.domain.outgoing.webhooks import DeliveryState
from live.run.process import follow_parent

P = ParamSpec("P")
R = TypeVar("R")


def with_settings(command: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Read the environment; turn our own errors into one clear line and exit code 2."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(Settings.from_env(os.environ), *args, **kwargs)
        except LiveError as error:
            click.echo(f"live: {error}", err=True)
            raise SystemExit(2) from error

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="live-shopping")
def main() -> None:
    """A live-shopping backend: flash offers over WebSocket, never oversold."""
    follow_parent()


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Default: the next free one from 8000.")
@click.option("--viewers", type=click.IntRange(1, 20_000), default=200, show_default=True)
@click.option("--seconds", type=click.IntRange(6, 3600), default=30, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Data directory (default .live).")
@click.option("--once", is_flag=True, help="Exit with the audit's verdict instead of serving on.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON line on standard output.")
@with_settings
def demo(
    settings: Settings,
    port: int | None,
    viewers: int,
    seconds: int,
    data: Path | None,
    once: bool,
    as_json: bool,
) -> None:
    """Run a whole flash sale here: engines, service, audience, audit."""
    from live.run.commands import demo as command

    if data is not None:
        settings = replace(settings, data_dir=data.absolute())
    next_free = port is None
    settings = replace(settings, port=port if port is not None else settings.port)
    raise SystemExit(
        command.demo(
            settings,
            viewers=viewers,
            seconds=seconds,
            once=once,
            as_json=as_json,
            next_free_port=next_free,
        )
    )


@main.command()
@click.option("--role", type=click.Choice(["all", "gateway", "settler"]), default="all")
@click.option("--workers", type=click.IntRange(1, 64), help="Gateway processes.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535))
@click.option("--ops-port", type=click.IntRange(0, 65535), help="Of --role settler: its health.")
@with_settings
def serve(
    settings: Settings,
    role: str,
    workers: int | None,
    host: str | None,
    port: int | None,
    ops_port: int | None,
) -> None:
    """Run the service; embedded engines are started only where no URL is configured."""
    from live.run.commands import serve as command

    settings = replace(
        settings,
        workers=workers or settings.workers,
        host=host or settings.host,
        port=port if port is not None else settings.port,
        ops_port=ops_port if ops_port is not None else settings.ops_port,
    )
    raise SystemExit(command.serve(settings, role=role))


@main.command()
@click.option("--grant", "grantee", default="", help="A role that serves: give it what it needs.")
@with_settings
def migrate(settings: Settings, grantee: str) -> None:
    """Apply the database migrations that are missing."""
    from live.run.commands import ledger as command

    applied = command.migrate(settings, grantee=grantee)
    click.echo("\n".join(applied) if applied else "nothing to do")


@main.command()
def doctor() -> None:
    """Check engines, versions, limits and secrets, and say what to mend.

    Exit code 1: something keeps `live serve` from starting (FIX). WARN: it starts, and says so.
    """
    from live.base.telemetry import set_up_logs
    from live.run.doctor import examine

    set_up_logs(role="doctor", quiet=True)  # to standard error: the report is the other one
    findings = examine(*Settings.read(os.environ))
    for finding in findings:
        mark = click.style("ok  ", fg="green")
        if not finding.ok:
            mark = click.style("FIX ", fg="red") if finding.stops else click.style("WARN", "yellow")
        click.echo(f"{mark} {finding.name}: {finding.detail}")
        if not finding.ok:
            click.echo(f"     {finding.fix}")
    raise SystemExit(1 if any(not found.ok and found.stops for found in findings) else 0)


@main.command()
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--sub", required=True, help="Who it is: 1-255 bytes.")
@click.option("--show", "shows", multiple=True, help="Repeatable; without it, every show.")
@click.option("--ttl", type=click.IntRange(1, 43_200), default=3600, help="Seconds.")
@with_settings
def token(settings: Settings, role: str, sub: str, shows: tuple[str, ...], ttl: int) -> None:
    """Print a JWT."""
    from live.run.commands import token as command

    click.echo(command.token(settings, role=Role(role), sub=sub, shows=shows, ttl_seconds=ttl))


@main.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "kind", type=click.Choice(["google", "shopify", "woocommerce"]))
@click.option("--currency", default="", help="For feeds that name none (shopify, woocommerce).")
@with_settings
def import_(settings: Settings, file: Path, kind: str | None, currency: str) -> None:
    """Import a product feed."""
    from live.run.commands import ledger as command

    count = command.import_feed(settings, file, kind=kind or "google", currency=currency)
    click.echo(f"{count} products imported from {file}")


@main.command()
@click.option("--csv", is_flag=True, required=True, help="The form, of which there is one so far.")
@click.option("--show", metavar="ID", help="Of one show.")
@click.option(
    "--state", type=click.Choice([state.value for state in OrderState]), help="In this state."
)
@click.option(
    "--fulfilment",
    type=click.Choice([one.value for one in Fulfilment]),
    help="That have come so far.",
)
@click.option("--to-ship", is_flag=True, help="Of which units may leave now.")
@with_settings
def orders(
    settings: Settings,
    csv: bool,
    show: str | None,
    state: str | None,
    fulfilment: str | None,
    to_ship: bool,
) -> None:
    """Write lines of orders for a warehouse to standard output, the contact among them."""
    from live.ledger.orders.pages import OrderQuery
    from live.run.commands import orders as command

    assert csv, "click asks for it"
    query = OrderQuery(
        show=None if show is None else ShowId(show),
        state=None if state is None else OrderState(state),
        fulfilment=None if fulfilment is None else Fulfilment(fulfilment),
        to_ship=to_ship or None,
    )
    # Not as the terminal has it: a file of other bytes than UTF-8 is no use to anybody.
    with open(1, "w", encoding="utf-8", newline="", closefd=False) as out:
        command.write_orders(settings, query, out)


@main.command()
@click.option("--repair", is_flag=True, help="Settle, refund, re-apply and rebuild first.")
@click.option(
    "--refund-up-to",
    type=click.IntRange(0, 1_000_000),
    metavar="N",
    help="With --repair: give back up to N payments without an order (20), else none.",
)
@click.option("--full", is_flag=True, help="All shows, also those that did not change.")
@click.option("--show", metavar="ID", help="One show, and nothing of the rest of the shop.")
@click.option("--json", "as_json", is_flag=True)
@with_settings
def audit(
    settings: Settings,
    repair: bool,
    refund_up_to: int | None,
    full: bool,
    show: str | None,
    as_json: bool,
) -> None:
    """Prove the invariants across Redis, Postgres and payments.

    Shows that the settlers' audit proved and that did not change since are passed over.
    """
    from live.run.commands import audit as command

    if refund_up_to is not None and not repair:
        raise click.UsageError("--refund-up-to needs --repair")
    report = command.audit(settings, mend=repair, full=full, show=show, refund_up_to=refund_up_to)
    if as_json:
        click.echo(orjson.dumps(report))
    else:
        command.print_audit(report)
    raise SystemExit(0 if report.ok else 1)


def _time(_ctx: click.Context, _param: click.Parameter, text: str | None) -> datetime | None:
    """ISO 8601, of any offset; without one it is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time such as 2026-11-27T18:00+01:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@main.command()
@click.argument("what", type=click.Choice(["list", "deliveries", "test", "set", "replay"]))
@click.argument("webhook", default="")
@click.argument("to", default="")
@click.option(
    "--state", type=click.Choice([one.value for one in DeliveryState]), help="Of deliveries."
)
@click.option("--since", callback=_time, help="Of replay: events from then on.")
@click.option("--until", callback=_time, help="Of replay: up to then; default: now.")
@click.option("--type", "types", multiple=True, help="Of replay, repeatable; default: all of it.")
@with_settings
def webhooks(
    settings: Settings,
    what: str,
    webhook: str,
    to: str,
    state: str | None,
    since: datetime | None,
    until: datetime | None,
    types: tuple[str, ...],
) -> None:
    """List the shop's endpoints or the deliveries of one, send it a test, set it active (all that
    waits is sent) or paused, or have events sent once more. Times without an offset are UTC."""
    from live.run.commands import webhooks as command

    asked = command.EndpointWish(
        webhook=webhook, to=to, state=state, since=since, until=until, types=types
    )
    lines = command.webhooks(settings, what, asked)
    click.echo("\n".join(lines) if lines else "no endpoints")


BENCHES = (
    "stock",
    "fanout",
    "purchase",
    "settle",
    "floods",
    "events",
)  # modules of `live.tools.bench`


@main.command("bench")
@click.argument("name", type=click.Choice(BENCHES))
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@with_settings
def bench_(settings: Settings, name: str, as_json: bool) -> None:
    """Measure this build against the naive way, on engines of its own."""
    from live.run.commands import bench as command

    try:
        report = command.bench(settings, name)
    except EngineError as error:
        click.echo(f"live: {error}", err=True)
        raise SystemExit(1) from error
    if as_json:
        click.echo(orjson.dumps(report))


@main.command("run-gateway", hidden=True)
@click.option("--fd", type=int, required=True, help="The listening socket, inherited.")
@with_settings
def run_gateway(settings: Settings, fd: int) -> None:
    """One gateway worker; started by the supervisor."""
    from live.run.commands import gateway as command

    command.run_gateway(settings, fd=fd)


@main.command("run-settler", hidden=True)
@click.option("--fd", type=int, help="The socket for health and metrics, inherited.")
@with_settings
def run_settler(settings: Settings, fd: int | None) -> None:
    """One settler; started by the supervisor."""
    from live.run.commands import settler as command

    command.run_settler(settings, fd=fd)


@main.command("run-sandbox", hidden=True)
@click.option("--uds", required=True, help="The unix socket to serve on.")
@click.option("--webhook-url", default="")
@with_settings
def run_sandbox(settings: Settings, uds: str, webhook_url: str) -> None:
    """The sandbox payment provider; started by the supervisor."""
    from live.run.commands import sandbox as command

    command.run_sandbox(settings, uds=uds, webhook_url=webhook_url)
