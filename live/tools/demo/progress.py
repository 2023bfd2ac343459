"""What the demo shows: live figures while the sale runs, and the reckoning at the end.

Pure functions from dataclasses to rows, tables or plain lines; `Display` is the only one that
writes, and it writes plain lines where the stream is no terminal.
"""

import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from live.tools.demo.report import Progress

REFRESH_PER_SECOND = 4
Row = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferFigures:
    """The offer as the service shows it now; `phase` is "" before there is one."""

    phase: str = ""
    quantity: int = 0
    left: int = 0
    held: int = 0
    sold: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One instant of the demo."""

    step: str
    viewers_wanted: int
    offer: OfferFigures = field(default_factory=OfferFigures)
    audience: Progress = field(default_factory=Progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """The sale as the audit, the ledger and the buyers have it. `lost` and `oversold` must be 0."""

    quantity: int  # what the host put on sale
    allotted: int  # what may be sold now: falls to `sold` once the offer is closed
    sold: int
    held: int
    left: int
    waitlisted: int
    orders: int  # in Postgres, of this offer
    told_confirmed: int  # orders that a buyer was told of
    captured: int
    refunded: int
    unmatched: int
    oversold: int
    lost: int
    unknown: int  # keys whose buyer never got an answer
    over_limit: int
    findings: tuple[str, ...]
    audit_ok: bool

    @property
    def ok(self) -> bool:
        """Whether every promise held."""
        broken = self.oversold or self.lost or self.over_limit or self.findings
        return self.audit_ok and not broken


def scene_rows(scene: Scene) -> list[Row]:
    """The live figures, top to bottom."""
    audience, offer = scene.audience, scene.offer
    stock = f"{offer.left} left · {offer.held} held · {offer.sold} sold of {offer.quantity}"
    return [
        ("step", scene.step),
        ("viewers", f"{audience.connected} of {scene.viewers_wanted} connected"),
        ("offer", f"{offer.phase or 'not made yet'}" + (f" · {stock}" if offer.phase else "")),
        ("heard it open", f"{audience.opened} · {latency(audience, 'fanout')}"),
        ("clicks", f"{audience.clicks} · {latency(audience, 'hold')}"),
        ("holds", f"{audience.held} · {audience.granted} more from the waitlist"),
        ("orders", f"{audience.confirmed} confirmed · {audience.declined} cards declined"),
        ("refusals", f"{audience.refused} refused · {audience.expired} holds expired"),
        ("waitlist", str(audience.waitlisted)),
    ]


def latency(audience: Progress, what: str) -> str:
    """Such as "p50 3.1 ms, p99 9 ms"; a dash before the first sample."""
    p50 = audience.fanout_p50_ms if what == "fanout" else audience.hold_p50_ms
    p99 = audience.fanout_p99_ms if what == "fanout" else audience.hold_p99_ms
    return f"p50 {milliseconds(p50)}, p99 {milliseconds(p99)}"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def reckoning_rows(reckoning: Reckoning) -> list[Row]:
    """The audit, in the order in which stock becomes money."""
    return [
        ("put on sale", str(reckoning.quantity)),
        ("allotted", str(reckoning.allotted)),
        ("sold", str(reckoning.sold)),
        ("held", str(reckoning.held)),
        ("left", str(reckoning.left)),
        ("waitlisted", str(reckoning.waitlisted)),
        ("orders in Postgres", str(reckoning.orders)),
        ("orders told to buyers", str(reckoning.told_confirmed)),
        ("payments captured, all sales", str(reckoning.captured)),
        ("refunds, all sales", str(reckoning.refunded)),
        ("payments without an order", str(reckoning.unmatched)),
        ("answers that never came", str(reckoning.unknown)),
        ("oversold", str(reckoning.oversold)),
        ("lost", str(reckoning.lost)),
    ]


MUST_BE_ZERO = frozenset({"oversold", "lost", "payments without an order"})


def scene_table(scene: Scene) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in scene_rows(scene):
        table.add_row(f"[bold]{name}[/bold]", value)
    return table


def reckoning_table(reckoning: Reckoning) -> Table:
    table = Table(title="Audit", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in reckoning_rows(reckoning):
        style = ""
        if name in MUST_BE_ZERO:
            style = "bold green" if value == "0" else "bold red"
        table.add_row(name, value, style=style)
    return table


def scene_line(scene: Scene) -> str:
    """The live figures as one line of text, for logs and pipes."""
    audience, offer = scene.audience, scene.offer
    return (
        f"{scene.step}: {audience.connected}/{scene.viewers_wanted} viewers, "
        f"offer {offer.phase or '-'} left {offer.left} held {offer.held} sold {offer.sold}, "
        f"clicks {audience.clicks}, holds {audience.held}, orders {audience.confirmed}, "
        f"refused {audience.refused}"
    )


def reckoning_lines(reckoning: Reckoning) -> list[str]:
    """The audit as aligned plain text."""
    rows = reckoning_rows(reckoning)
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value:>8}" for name, value in rows]


class Display:
    """Shows scenes while it is entered; on `stream` only, so standard output stays clean."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stdout, highlight=False)
        self._live = (
            Live(console=self._console, refresh_per_second=REFRESH_PER_SECOND)
            if self._console.is_terminal
            else None
        )
        self._last = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, scene: Scene) -> None:
        """Replace the figures on a terminal; elsewhere print a line where the step changed."""
        if self._live is not None:
            self._live.update(scene_table(scene))
        elif scene.step != self._last:
            self._last = scene.step
            self.say(scene_line(scene))

    def say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)

    def reckon(self, reckoning: Reckoning) -> None:
        """Print the audit and what it found."""
        if self._console.is_terminal:
            self._console.print(reckoning_table(reckoning))
        else:
            self.say(*reckoning_lines(reckoning))
        self.say(*(f"finding: {finding}" for finding in reckoning.findings))
        self.say("every promise held" if reckoning.ok else "A PROMISE WAS BROKEN")
