"""The object of `live bench NAME --json` and its table."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from live.tools.bench.link import Figures


@dataclass(frozen=True, slots=True)
class Goal:
    id: str
    value: float
    goal: float
    higher: bool

    @property
    def ok(self) -> bool:
        return self.value >= self.goal if self.higher else self.value <= self.goal

    def row(self) -> dict[str, object]:
        better = "higher" if self.higher else "lower"
        value = round(self.value, 3)
        return {"id": self.id, "value": value, "goal": self.goal, "better": better, "ok": self.ok}


def make_report(
    bench: str, rows: Mapping[str, Mapping[str, float | str]], goals: Sequence[Goal]
) -> dict[str, object]:
    machine = {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    listed = [{"name": name, **figures} for name, figures in rows.items()]
    return {
        "bench": bench,
        "machine": machine,
        "rows": listed,
        "goals": [goal.row() for goal in goals],
    }


def print_report(
    console: Console,
    title: str,
    rows: Mapping[str, Mapping[str, float | str]],
    goals: Sequence[Goal],
    columns: Sequence[str],
) -> None:
    """Figures that are no column of their own stand together in the last one."""
    table = Table(title=title)
    for column in ("name", *columns, "other"):
        table.add_column(column, justify="left" if column in ("name", "other") else "right")
    for name, row in rows.items():
        cells = [_text(row[column]) if column in row else "" for column in columns]
        others = [f"{key} {_text(value)}" for key, value in row.items() if key not in columns]
        table.add_row(name, *cells, "  ".join(others))
    console.print(table)
    for goal in goals:
        sign = "≥" if goal.higher else "≤"
        verdict = "met" if goal.ok else "missed"
        console.print(f"{goal.id}: {goal.value:,.2f} (goal {sign} {goal.goal:,}): {verdict}")


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.2f}".rstrip("0").rstrip(".")


def bottleneck(figures: Figures) -> str:
    """Which side was busier while this was measured."""
    return "server" if figures["server_busy"] >= figures["crowd_busy"] else "generator"
