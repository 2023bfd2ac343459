"""Dashboard and alarms ask only for figures that the service has, by labels that they have, and
every figure that an alarm watches is there before it counts."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

import live.api.metrics
import live.fanout.metrics
import live.ledger.db.metrics
import live.outgoing.metrics
import live.payments.metrics
import live.redis.memory
import live.stock.metrics

MODULES = (
    live.ledger.db.metrics,
    live.payments.metrics,
    live.outgoing.metrics,
    live.fanout.metrics,
    live.redis.memory,
    live.stock.metrics,
    live.api.metrics,
)
DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "live.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
SUFFIXES: dict[type[MetricWrapperBase], tuple[str, ...]] = {
    Counter: ("_total",),
    Gauge: ("",),
    Histogram: ("_bucket", "_sum", "_count"),
}


def _known() -> dict[str, set[str]]:
    """Every series of the service: its name and its labels."""
    found = {}
    for module in MODULES:
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                for suffix in SUFFIXES[type(metric)]:
                    labels = {"le"} if suffix == "_bucket" else set()
                    found[metric._name + suffix] = labels | set(metric._labelnames)
    return found


KNOWN = _known()


def _targets() -> Iterator[dict[str, str]]:
    for panel in DASHBOARD["panels"]:
        yield from panel.get("targets", [])


EXPRESSIONS = [target["expr"] for target in _targets()]
ALERTS = [rule["expr"] for group in RULES for rule in group["rules"]]
ALARMS = [
    metric
    for module in MODULES
    for metric in vars(module).values()
    if isinstance(metric, MetricWrapperBase) and metric._documentation.startswith("ALARM")
]


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *ALERTS])
def test_expression_names_series_and_labels_that_exist(expression: str) -> None:
    """A figure that was renamed would leave an empty panel that nobody notices."""
    names = re.findall(r"\blive_\w+", expression)
    labels = re.findall(r"by \(([^)]*)\)", expression)

    assert names
    assert [name for name in names if name not in KNOWN] == []
    wanted = {label.strip() for group in labels for label in group.split(",")}
    assert wanted <= set.union(*(KNOWN[name] for name in names))


def test_legend_names_labels_that_are_left() -> None:
    """A legend speaks of labels that its expression groups by."""
    for target in _targets():
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        groups = re.findall(r"by \(([^)]*)\)", target["expr"])
        assert named <= {label.strip() for group in groups for label in group.split(",")}


def test_panels_have_ids_of_their_own_and_a_data_source_to_choose() -> None:
    """Grafana needs unique ids; the source is a variable, so that any Prometheus will do."""
    panels = DASHBOARD["panels"]
    ids = [panel["id"] for panel in panels]

    assert len(set(ids)) == len(ids)
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${source}"}
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["source"]


def test_how_far_settlement_is_behind_is_shown() -> None:
    """Lag and length tell of a settler that is stuck, which shows nowhere else."""
    shown = " ".join(EXPRESSIONS)
    for gauge in (
        live.ledger.db.metrics.LAG,
        live.ledger.db.metrics.OUTBOX_LENGTH,
        live.ledger.db.metrics.OUTBOX_PENDING,
        live.ledger.db.metrics.OUTBOX_OLDEST,
    ):
        assert gauge._name in shown


def test_every_alarm_is_shown_and_rings() -> None:
    """A figure whose help text begins with ALARM has a panel and a rule."""
    names = [metric._name for metric in ALARMS]

    assert len(names) >= 5
    assert [name for name in names if name not in " ".join(EXPRESSIONS)] == []
    assert [name for name in names if name not in " ".join(ALERTS)] == []


def test_alarm_is_there_before_it_counts() -> None:
    """A series that begins at 1 has no increase, so the first event would ring no bell.

    Method: a process of its own, in which nothing has happened yet.
    """
    program = "import sys; from prometheus_client import generate_latest\n"
    program += "".join(f"import {module.__name__}\n" for module in MODULES)
    program += "sys.stdout.buffer.write(generate_latest())"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()
    series = {line.split("{")[0].split(" ")[0] for line in told.splitlines() if line[0] != "#"}

    wanted = {name for rule in ALERTS for name in re.findall(r"\blive_\w+", rule)}
    assert {f"{metric._name}_total" for metric in ALARMS} <= wanted
    assert wanted - series == set()
    for labelled in (live.ledger.db.metrics.FAILURES, live.api.metrics.ANSWERS):
        assert f"{labelled._name}_total" in series


def test_names_say_what_they_are() -> None:
    """`_count`, `_sum`, `_bucket` and `_total` belong to histograms and counters."""
    reserved = ("_count", "_sum", "_bucket", "_total")
    for module in MODULES:
        for metric in vars(module).values():
            if isinstance(metric, Gauge):
                assert not metric._name.endswith(reserved), metric._name


def test_viewers_are_shown() -> None:
    """Who is connected, how fast they are served, who was refused, and what it costs."""
    shown = " ".join(EXPRESSIONS)
    for module in (live.fanout.metrics, live.api.metrics):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase) and metric._name != "live_realtime_deliveries":
                assert metric._name in shown


def test_absence_rings() -> None:
    """A figure that nobody tells any more is beyond no bound, so rules ask for absence: of a figure
    that settlers alone tell, and of one that every process does."""
    for gauge in (live.ledger.db.metrics.BEAT, live.redis.memory.USED_RATIO):
        assert [rule for rule in ALERTS if f"absent({gauge._name})" in rule]


def test_full_redis_rings() -> None:
    """Before it is full, and when it refuses."""
    for metric in (live.redis.memory.USED_RATIO, live.redis.memory.REFUSED):
        assert metric._name in " ".join(ALERTS)
        assert metric._name in " ".join(EXPRESSIONS)
