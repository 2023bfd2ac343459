"""The console's figures in Node: what nobody renews is not shown as if it were of now.

Method: elements that keep what is written to them, and a clock that the test sets.
"""

import pytest

from tests.support.node import Run

DESK = """
const made = [];
const element = () => {
  const self = {dataset: {}, attributes: {}, children: [], hidden: false, textContent: "",
    append(...more) { self.children.push(...more); }, replaceChildren() {},
    addEventListener() {}, setAttribute(name, value) { self.attributes[name] = value; }};
  return self;
};
globalThis.document = {createElement: element, createElementNS: element, addEventListener() {},
                       getElementById: element};
const { Figures } = await import("./desk-figures.js");
let now = 1_000_000;
const desk = {showId: "s", language: "en", isHost: true, clock: {now: () => now},
              model: {offers: new Map(), show: {status: STATUS}}};
const figures = new Figures(desk);
const told = () => ({type: "desk.figures", at: now, viewers: 3, offers: [], holds: 0, orders: 2,
                     revenue_minor: 100, currency: "USD", settlement_lag_ms: 0});
const look = (name) => {
  const { box, value, note } = figures.tiles.get(name);
  return [value.textContent, box.dataset.state, note.textContent.split(" since ")[0]];
};
const looks = (...names) => names.map(look);
"""


def desk(status: str) -> str:
    return DESK.replace("STATUS", f'"{status}"')


def test_figures_that_nobody_renews_are_marked(run: Run) -> None:
    """Both sides of the bound; the lag is unknown then, and comes back with the next figures."""
    result = run(
        desk("live")
        + """
        figures.heard(told());
        now += 10_000; figures.tick();
        const fresh = looks("lag", "viewers");
        now += 1; figures.tick();
        const old = looks("lag", "viewers");
        figures.heard(told()); figures.tick();
        out([fresh, old, looks("lag", "viewers")]);"""
    )

    well = [["0 ms", "", ""], ["3", "", ""]]
    old = [["–", "bad", "not told"], ["3", "warn", "not told"]]
    assert result == [well, old, well]


@pytest.mark.parametrize("status", ["scheduled", "ended"])
def test_figures_of_a_show_that_rests_are_its_last(run: Run, status: str) -> None:
    """Nobody is to renew them."""
    result = run(
        desk(status) + 'figures.heard(told()); now += 60_000; figures.tick(); out(look("lag"));'
    )
    assert result == ["0 ms", "", ""]


def test_audit_that_is_not_run_any_more_is_not_in_order(run: Run) -> None:
    """Both sides of the bound."""
    result = run(
        desk("live")
        + """
        figures.report = {audit: {at: now, findings: 0}};
        now += 300_000; figures.putAudit();
        const fresh = look("audit");
        now += 1; figures.putAudit();
        out([fresh.slice(0, 2), look("audit")]);"""
    )

    assert result == [["In order", "good"], ["–", "warn", "not checked"]]
