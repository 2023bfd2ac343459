"""The Grafana dashboard asks only for figures that the service has, by labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

import live.ledger.metrics
import live.payments.metrics
import live.stock.metrics

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "live.json").read_text())
SUFFIXES: dict[type[MetricWrapperBase], tuple[str, ...]] = {
    Counter: ("_total",),
    Gauge: ("",),
    Histogram: ("_bucket", "_sum", "_count"),
}


def _known() -> dict[str, set[str]]:
    """Every series of the service: its name and its labels."""
    found = {}
    for module in (live.ledger.metrics, live.payments.metrics, live.stock.metrics):
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


@pytest.mark.parametrize("expression", EXPRESSIONS)
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
        live.ledger.metrics.LAG,
        live.ledger.metrics.OUTBOX_LENGTH,
        live.ledger.metrics.OUTBOX_PENDING,
        live.ledger.metrics.OUTBOX_OLDEST,
    ):
        assert gauge._name in shown


def test_every_alarm_of_the_ledger_is_shown() -> None:
    """A figure whose help text begins with ALARM has a panel."""
    alarms = [
        metric._name
        for metric in vars(live.ledger.metrics).values()
        if isinstance(metric, MetricWrapperBase) and metric._documentation.startswith("ALARM")
    ]

    assert alarms
    shown = " ".join(EXPRESSIONS)
    assert [name for name in alarms if name not in shown] == []
