"""The page's model in Node: events are folded into it in any order, more than once."""

from tests.support.node import Run

MODEL = """
import { ShowModel } from "./state.js";
const offer = (over) => ({id: "a", sku: "mug", phase: "open", version: 1, left: 5, held: 0,
                          sold: 0, ...over});
const model = new ShowModel();
model.welcome({time: 1000, show: {id: "s", version: 1, title: "T", status: "live", pins: [],
  run_order: ["mug", "tea"], offers: [offer(), offer({id: "b", sku: "tea"})]},
  me: {holds: [], waitlist: [], orders: []}});
"""


def test_older_offer_is_ignored(run: Run) -> None:
    """An offer event with a lower version than the known one changes nothing."""
    result = run(
        MODEL
        + """
        const of = (version, phase) => ({type: "offer.updated", at: 2000,
                                         offer: offer({version, phase})});
        model.fold(of(3, "paused"));
        model.fold(of(2, "open"));
        out(model.offers.get("a").phase);"""
    )
    assert result == "paused"


def test_event_folded_twice_changes_nothing_more(run: Run) -> None:
    """Objects are whole and absolute: replaying recovered events is harmless."""
    result = run(
        MODEL
        + """
        const events = [
          {type: "offer.updated", at: 2000, offer: offer({version: 2, left: 3})},
          {type: "chat.message", at: 2001, id: "1-1", author: "x", name: "X", text: "hi"},
          {type: "product.pinned", at: 2002, skus: ["tea"]},
          {type: "announcement", at: 2003, text: "Hello", until: null},
        ];
        const look = () => JSON.stringify([[...model.offers], model.chat, model.show]);
        for (const event of events) model.fold(event);
        const once = look();
        for (const event of events) model.fold(event);
        out(once === look());"""
    )
    assert result is True


def test_figures_follow_the_newest_time(run: Run) -> None:
    """A pulse that is older than an offer event's figures does not bring the old stock back."""
    result = run(
        MODEL
        + """
        const pulse = (at, left) => ({type: "pulse", at, viewers: 9, reactions: {},
                                      offers: [{id: "a", left, held: 1, sold: 2}]});
        model.fold(pulse(3000, 2));
        model.fold({type: "offer.updated", at: 2500, offer: offer({version: 2, left: 4})});
        const later = model.offers.get("a");
        model.fold(pulse(2900, 3));
        out([later.left, later.version, model.offers.get("a").left, model.viewers]);"""
    )
    assert result == [2, 2, 2, 9]


def test_snapshot_replaces_what_has_gone(run: Run) -> None:
    """After a reconnect, offers and holds that the snapshot lacks are gone."""
    result = run(
        MODEL
        + """
        model.takeHold({hold: "k", state: "held", items: [], expires_at: 9});
        model.welcome({time: 5000, show: {id: "s", version: 2, status: "live", pins: [],
          run_order: [], offers: [offer({version: 2})]},
          me: {holds: [], waitlist: [], orders: []}});
        out([[...model.offers.keys()], model.holds.size]);"""
    )
    assert result == [["a"], 0]


def test_snapshot_brings_orders(run: Run) -> None:
    """Orders of the snapshot are known after a reload, and their holds are over."""
    result = run(
        MODEL
        + """
        const order = {order: "o", hold: "k", state: "confirmed", items: []};
        model.welcome({time: 5000, me: {waitlist: [], orders: [order],
          holds: [{hold: "k", state: "paying", items: [], expires_at: 9}]}});
        out([[...model.orders.keys()], model.holds.size]);"""
    )
    assert result == [["o"], 0]


def test_replayed_hold_does_not_come_back(run: Run) -> None:
    """Recovery replays a grant that is over: the newer snapshot knows better."""
    result = run(
        MODEL
        + """
        const hold = {hold: "k", state: "held", expires_at: 900, items: [{offer: "a", qty: 1}]};
        model.fold({type: "hold.granted", at: 800, hold});
        const replayed = model.holds.size;
        model.fold({type: "hold.granted", at: 1100, hold});
        const fresh = model.holds.size;
        model.fold({type: "hold.expired", at: 1200, hold});
        out([replayed, fresh, model.holds.size]);"""
    )
    assert result == [0, 1, 0]


def test_deleted_chat_line_leaves_page_and_pin(run: Run) -> None:
    """A deleted message is gone from the list and from the pinned place; the list is bounded."""
    result = run(
        MODEL
        + """
        for (let i = 0; i < 300; i += 1)
          model.fold({type: "chat.message", at: i, id: `${i}-0`, author: "x", name: "", text: "t"});
        model.fold({type: "chat.pinned", at: 1, id: "299-0", text: "t"});
        const full = model.chat.length;
        model.fold({type: "chat.deleted", at: 2, id: "299-0"});
        out([full, model.chat.length, model.pinned]);"""
    )
    assert result == [200, 199, None]


def test_offers_that_can_be_bought_come_first(run: Run) -> None:
    """Open before scheduled before closed; among equals the pinned one, then the run of show."""
    result = run(
        MODEL
        + """
        for (const [id, sku, phase] of [["c", "x", "closed"], ["d", "x", "scheduled"]])
          model.takeOffer(offer({id, sku, phase}), 1);
        const before = model.sortedOffers().map((one) => one.id);
        model.fold({type: "product.pinned", at: 1, skus: ["tea"]});
        out([before, model.sortedOffers().map((one) => one.id)]);"""
    )
    assert result == [["a", "b", "d", "c"], ["b", "a", "d", "c"]]


REHEARSED = """
        model.fold({type: "show.started", at: 1500, show: {version: 2, status: "rehearsal",
          offers: [offer({version: 2}), offer({id: "b", sku: "tea"})]}});
        model.takeHold({hold: "k", state: "held", items: [{offer: "a", qty: 1}], expires_at: 9});
        model.waiting.set("b", {offer: "b", key: "w", qty: 1, position: 1});
        model.takeOrder({order: "o", hold: "h", state: "confirmed", items: []}, 1600);
        model.takeOffer(offer({id: "d", phase: "draft"}), 1600);
"""


def test_nothing_of_a_rehearsal_stays_on_the_page(run: Run) -> None:
    """Its offers are drafts again: only who has drafts keeps them; nothing was held or bought."""
    result = run(
        MODEL
        + REHEARSED
        + """
        const before = [model.holds.size, model.waiting.size, model.orders.size];
        model.fold({type: "show.ended", at: 2000, show: {version: 3, status: "scheduled",
          offers: []}});
        out([before, model.show.status, [...model.offers.keys()], model.holds.size,
             model.waiting.size, model.orders.size]);"""
    )
    assert result == [[1, 1, 1], "scheduled", ["d"], 0, 0, 0]


def test_late_show_event_forgets_no_newer_offer(run: Run) -> None:
    """A show event that is older than the known show changes neither it nor its offers."""
    result = run(
        MODEL
        + """
        model.fold({type: "show.updated", at: 2000, show: {version: 5, title: "New",
          offers: [offer({version: 5}), offer({id: "c", version: 5})]}});
        model.fold({type: "show.updated", at: 1900, show: {version: 4, title: "Old",
          offers: []}});
        out([model.show.title, [...model.offers.keys()]]);"""
    )
    assert result == ["New", ["a", "c"]]


def test_pinned_product_without_an_offer_comes_up(run: Run) -> None:
    """Until viewers know an offer of it; what is closed belongs to earlier."""
    result = run(
        MODEL
        + """
        const card = (sku) => ({sku, title: sku, image_url: "", price_minor: 1, currency: "EUR"});
        model.fold({type: "product.pinned", at: 1, skus: ["mug", "pan"],
          products: [card("mug"), card("pan")]});
        const coming = model.coming().map((one) => one.sku);
        model.takeOffer(offer({id: "p", sku: "pan", phase: "closed"}), 2);
        const ids = (list) => list.map((one) => one.id);
        out([coming, model.coming().length, ids(model.shelf()), ids(model.earlier())]);"""
    )
    assert result == [["pan"], 0, ["a", "b"], ["p"]]


def test_own_units_are_held_and_bought_ones(run: Run) -> None:
    """A hold counts, its order counts once, and what was cancelled counts for nobody."""
    result = run(
        MODEL
        + """
        const items = (qty) => [{offer: "a", qty}, {offer: "b", qty: 7}];
        model.takeHold({hold: "h", state: "held", items: items(2), expires_at: 9});
        const held = [model.unitsOf("a"), model.holdOf("a").hold];
        const order = {order: "o", hold: "h", state: "paid", items: items(2)};
        model.orders.set("o", order);
        const both = model.unitsOf("a");
        model.takeOrder(order, 2000);
        const bought = [model.unitsOf("a"), model.holdOf("a")];
        model.takeOrder({...order, state: "refunded"}, 2001);
        const refunded = model.unitsOf("a");
        model.takeOrder({...order, state: "cancelled"}, 2002);
        out([held, both, bought, refunded, model.unitsOf("a")]);"""
    )
    assert result == [[2, "h"], 2, [2, None], 2, 0]


def test_few_is_a_part_of_all(run: Run) -> None:
    """A full offer of five units is not "few"; one of twenty is; nothing is none."""
    result = run(
        """import { isFew } from "./offer-card.js";
        const few = (left, sold) => isFew({left, held: 0, sold});
        out([few(5, 0), few(1, 3), few(2, 3), few(1, 19), few(6, 94), few(5, 95), few(0, 9),
             few(1, 0)]);"""
    )
    assert result == [False, True, False, True, False, True, False, False]
