"""The reckoning of the demo: every broken promise shows, and none is made up."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from live.tools.demo.host import ItemSeen, LedgerOrder
from live.tools.demo.progress import (
    Display,
    OfferFigures,
    Scene,
    milliseconds,
    reckoning_lines,
    reckoning_rows,
    scene_line,
    scene_rows,
)
from live.tools.demo.report import Progress
from live.tools.demo.tally import KeyVerdict, Tally, Told
from live.tools.demo.verdict import Evidence, final_line, reckon

OFFER = "flash-1"
KEYS_OF_THE_CONTRACT = (
    "ok offers payments in_flight findings viewers clicks held orders refused declined expired "
    "oversold lost fanout_p99_ms hold_p99_ms"
).split()


def audit(
    *, ok: bool = True, oversold: int = 0, offer: str = OFFER, findings: Sequence[str] = ()
) -> bytes:
    row = {"offer": offer, "allotted": 2, "left": 0, "held": 0, "sold": 2, "orders": 2}
    return orjson.dumps(
        {
            "ok": ok,
            "offers": [row | {"oversold": oversold}],
            "payments": {"captured": 2, "refunded": 1, "unmatched": 0},
            "in_flight": [],
            "findings": list(findings),
        }
    )


def order(number: int, *, state: str = "paid", qty: int = 1) -> LedgerOrder:
    return LedgerOrder(
        order=f"o{number}", hold=f"k{number}", state=state, items=[ItemSeen(OFFER, qty)]
    )


def told(number: int) -> Told:
    return Told(
        sub="anna",
        key=f"k{number}",
        qty=1,
        verdict=KeyVerdict.OK,
        outcome="confirmed",
        order=f"o{number}",
    )


def evidence(**changes: Any) -> Evidence:
    sound = Evidence(
        offer=OFFER,
        quantity=2,
        audit=audit(),
        orders=[order(1), order(2)],
        tally=Tally(viewers=9, clicks=12, confirmed=2, confirmed_units=2),
        told=[told(1), told(2)],
    )
    return replace(sound, **changes)


def test_sale_without_a_fault_passes() -> None:
    """Everything agrees: nothing lost, nothing oversold, verdict yes."""
    reckoning = reckon(evidence())

    assert reckoning.ok
    assert (reckoning.orders, reckoning.sold, reckoning.oversold, reckoning.lost) == (2, 2, 0, 0)


def test_order_missing_in_the_ledger_is_lost() -> None:
    """A buyer was told of an order that Postgres does not have."""
    reckoning = reckon(evidence(orders=[order(1)]))

    assert reckoning.lost == 1
    assert not reckoning.ok


def test_rejected_order_is_lost_and_a_cancelled_one_is_not() -> None:
    """Rejected was never kept; cancelled was taken back in the open."""
    assert reckon(evidence(orders=[order(1), order(2, state="rejected")])).lost == 1
    assert reckon(evidence(orders=[order(1), order(2, state="cancelled")])).lost == 0


def test_units_beyond_the_quantity_are_oversold() -> None:
    """Both the ledger's and the buyers' count are witnesses, whatever the audit says."""
    by_ledger = reckon(evidence(orders=[order(1, qty=2), order(2)]))
    by_buyers = reckon(evidence(tally=Tally(confirmed=2, confirmed_units=3)))
    by_audit = reckon(evidence(audit=audit(oversold=4)))

    assert (by_ledger.oversold, by_buyers.oversold, by_audit.oversold) == (1, 1, 4)
    assert not (by_ledger.ok or by_buyers.ok or by_audit.ok)


@pytest.mark.parametrize(
    "changes",
    [
        {"audit": audit(ok=False)},
        {"audit": audit(findings=["sold differs"])},
        {"audit": audit(offer="another")},
        {"remarks": ("the offer was not closed within 40 s",)},
        {"tally": Tally(over_limit=1)},
    ],
)
def test_any_finding_fails_the_sale(changes: dict[str, object]) -> None:
    """The audit's no, a finding, an unknown offer, a remark or a broken limit: verdict no."""
    assert not reckon(evidence(**changes)).ok


def test_final_line_has_the_keys_of_the_contract() -> None:
    """The audit's object and the sale's figures, in one line of JSON."""
    case = evidence()

    line = final_line(case, reckon(case))

    assert b"\n" not in line
    said = orjson.loads(line)
    assert set(KEYS_OF_THE_CONTRACT) <= said.keys()
    assert (said["viewers"], said["clicks"], said["orders"], said["lost"]) == (9, 12, 2, 0)
    assert said["fanout_p99_ms"] is None


def test_reckoning_lists_what_was_asked_for() -> None:
    """Allotted to lost, each with its figure, aligned where there is no terminal."""
    reckoning = reckon(evidence())
    names = [name for name, _ in reckoning_rows(reckoning)]

    for name in ("allotted", "sold", "held", "left", "waitlisted", "oversold", "lost"):
        assert name in names
    assert len({len(line) for line in reckoning_lines(reckoning)}) == 1


def test_scene_shows_latencies_once_there_are_any() -> None:
    """A dash before the first sample, one decimal below 100 ms."""
    empty = dict(scene_rows(Scene(step="open", viewers_wanted=5)))
    measured = Scene(
        step="open",
        viewers_wanted=5,
        offer=OfferFigures(phase="open", quantity=9, left=4, held=3, sold=2),
        audience=Progress(connected=5, opened=5, fanout_p50_ms=1.26, fanout_p99_ms=140.7),
    )

    assert "–" in empty["heard it open"]
    assert "p50 1.3 ms, p99 141 ms" in dict(scene_rows(measured))["heard it open"]
    assert "left 4 held 3 sold 2" in scene_line(measured)
    assert milliseconds(None) == "–"


def test_display_writes_plain_lines_to_a_pipe() -> None:
    """Where no terminal listens, one line a step and no control characters."""
    stream = io.StringIO()
    with Display(stream) as display:
        for step in ("countdown", "countdown", "open"):
            display.show(Scene(step=step, viewers_wanted=1))
        display.reckon(reckon(evidence()))

    text = stream.getvalue()
    assert text.count("countdown:") == 1
    assert "\x1b" not in text
    assert "every promise held" in text
