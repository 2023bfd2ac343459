"""The orders page's pure modules in Node: what an order may still do, its table, its followers."""

import csv
import io
import json
from dataclasses import asdict, replace

import pytest

from live.commerce.order_lines import HEADER, lines_of
from live.domain.ids import OfferId, OrderId, ShowId, Sku
from live.domain.order import (
    OrderContact,
    OrderItem,
    OrderState,
    OrderTotal,
    OrderWithContact,
    PostalAddress,
    totals_of,
    worth_of,
)
from live.domain.orders.fulfilment import LineQty, ShipmentStatus, ShipmentView
from tests.support.node import Run

LAMPS = OrderItem(
    line=1,
    offer=OfferId("o1"),
    sku=Sku("lamp"),
    title="Lamp, red",
    qty=3,
    price_minor=1000,
    shipped=2,
    to_ship=1,
)
MUG = OrderItem(
    line=2,
    offer=OfferId("o2"),
    sku=Sku("mug"),
    title='-1+2 "mug"',
    qty=1,
    price_minor=550,
    to_ship=1,
)
ITEMS = (LAMPS, MUG)


def parcel(status: ShipmentStatus, number: str, *items: tuple[int, int]) -> ShipmentView:
    return ShipmentView(
        shipment=f"s-{number}",
        items=tuple(LineQty(line=line, qty=qty) for line, qty in items),
        carrier="DHL",
        tracking_number=number,
        tracking_url="",
        status=status,
        created_at=5,
        updated_at=6,
    )


ORDER = OrderWithContact(
    order=OrderId("11111111-2222-4333-8444-555555555555"),
    hold="h",
    show=ShowId("s"),
    sub="ann",
    state=OrderState.PAID,
    items=ITEMS,
    totals=totals_of(ITEMS, 3550),
    total_minor=3550,
    refunded_minor=0,
    currency="EUR",
    shipments=(
        parcel(ShipmentStatus.DELIVERED, "A1", (1, 2)),
        parcel(ShipmentStatus.RETURNED_TO_SENDER, "B2", (1, 1), (2, 1)),
    ),
    created_at=1_790_000_000_123,
    updated_at=1_790_000_060_999,
    contact=OrderContact(
        name="=1+1",
        email="@ann",
        phone="+49 30",
        address=PostalAddress(line1="\tMill Lane 1", line2="c/o Bob", city="B, Y", country="DE"),
    ),
)
SHOWN = json.dumps(asdict(ORDER))
SUMS = f'import * as sums from "./order-sums.js"; const order = {SHOWN};\n'


def test_table_is_the_one_of_the_command(run: Run) -> None:
    """Page and `live orders --csv` write the same cells, formulas made harmless in both."""
    script = f"""import {{ heading, rowsOf }} from "./order-csv.js";
        out([heading(), ...rowsOf({SHOWN})].join(""));"""
    heading, *rows = csv.reader(io.StringIO(run(script), newline=""))
    assert tuple(heading) == HEADER
    assert [tuple(row) for row in rows] == list(lines_of(ORDER))
    assert rows[0][HEADER.index("name")] == "'=1+1"
    assert rows[0][HEADER.index("line1")] == "'\tMill Lane 1"


def test_cells_that_would_be_formulas_are_texts(run: Run) -> None:
    """Each beginning that a spreadsheet runs or strips; quotes doubled, line breaks kept inside."""
    script = """import { cell } from "./order-csv.js";
        out(["=A1", "+1", "-1", "@x", "\\t=1", "\\r=1", "\\n=1", "a=1", 'say "hi"', "a\\nb", "a,b",
             "", null, 0].map(cell));"""
    assert run(script) == [
        *("'=A1", "'+1", "'-1", "'@x", "'\t=1", '"\'\r=1"', '"\'\n=1"'),
        *("a=1", '"say ""hi"""', '"a\nb"', '"a,b"', "", "", "0"),
    ]


def test_export_reads_all_pages_up_to_a_bound(run: Run) -> None:
    """Every page once, only what is wanted, and it says where it stopped."""
    script = f"""import {{ exportOrders }} from "./order-csv.js";
        const order = {SHOWN};
        const pages = {{ first: "b", b: "c", c: null }};
        const asked = [];
        const read = async (cursor, limit) => {{ asked.push([cursor, limit]);
          const items = [order, {{ ...order, sub: "bob" }}];
          return {{ items, next: pages[cursor ?? "first"] }}; }};
        const told = [];
        const all = await exportOrders({{ read, tell: (n) => told.push(n) }});
        const mine = await exportOrders({{ read, keeps: (one) => one.sub === "bob" }});
        const some = await exportOrders({{ read, ordersMax: 3 }});
        const stop = new AbortController();
        stop.abort();
        const none = await exportOrders({{ read, signal: stop.signal }});
        out([asked.slice(0, 3), told, all.orders, all.complete, all.parts.length, mine.orders,
             some.orders, some.complete, none]);"""
    assert run(script) == [
        [[None, 200], ["b", 200], ["c", 200]],
        [2, 4, 6],
        *(6, True, 13, 3, 3, False, None),
    ]


def test_units_that_may_move_are_counted_from_parcels_and_returns(run: Run) -> None:
    """What came back to the sender may leave again, what was taken back not; none comes twice."""
    script = SUMS + """
        const look = (one) => sums.linesOf(one).map(({ left, mayLeave, mayReturn }) =>
          [left, mayLeave, mayReturn]);
        const asked = (state) => ({ ...order, returns: [{ state, items: [{ line: 1, qty: 2 }] }] });
        const gone = (returned) => ({ ...order, items: order.items.map((item) =>
          ({ ...item, returned })) });
        const received = { ...asked("received"), items: gone(2).items };
        out([look(order), look(gone(1)), look(received), look(asked("requested")),
             look(asked("refused")),
             sums.worthOf(order, [{ line: 1, qty: 2 }, { line: 2, qty: 1 }])]);"""  # fmt: skip
    assert run(script) == [
        [[3, 1, 2], [1, 1, 0]],
        [[3, 0, 2], [1, 0, 0]],
        [[3, 1, 0], [1, 0, 0]],
        [[3, 1, 0], [1, 1, 0]],
        [[3, 1, 2], [1, 1, 0]],
        2550,
    ]


BILL = (
    OrderTotal(type="subtotal", label="Subtotal", amount_minor=3550),
    OrderTotal(type="discount", label="Autumn", amount_minor=-355),
    OrderTotal(type="shipping", label="DHL", amount_minor=490),
    OrderTotal(type="tax", label="VAT", amount_minor=710),
    OrderTotal(type="tax", label="in it", amount_minor=99, inclusive=True),
    OrderTotal(type="duty", label="Duties", amount_minor=101),
    OrderTotal(type="total", label="Total", amount_minor=4496),
)


@pytest.mark.parametrize("totals", [BILL, ORDER.totals, ()])
def test_units_are_worth_what_the_server_gives_for_them(
    run: Run, totals: tuple[OrderTotal, ...]
) -> None:
    """A part, and the last units behind those received before; with and without a bill."""
    order = json.dumps(asdict(replace(ORDER, totals=totals)))
    script = f"""import {{ worthOf }} from "./order-sums.js";
        const order = {order};
        const back = (state, qty) => ({{ state, items: [{{ line: 1, qty }}] }});
        const last = {{ ...order, returns: [back("received", 2), back("refused", 1)] }};
        const rest = [{{ line: 1, qty: 1 }}, {{ line: 2, qty: 1 }}];
        out([worthOf(order, [{{ line: 1, qty: 1 }}]), worthOf(last, rest)]);"""
    part = worth_of(totals, 1000, last=False)
    rest = worth_of(totals, 1550, last=True, before_minor=2000)
    assert run(script) == [part, rest]


def test_money_on_its_way_cannot_be_paid_back_again(run: Run) -> None:
    """Refunds that are due count, those that failed or were called off do not."""
    script = (
        SUMS
        + """
        const refunds = ["due", "failed", "called_off", "done"].map((state) =>
          ({ state, amount_minor: 500 }));
        const some = { ...order, refunded_minor: 500, refunds };
        out([sums.moneyLeft(order), sums.moneyLeft(some), sums.mayRefund(some),
             sums.mayRefund({ ...some, state: "cancelled" })]);"""
    )
    assert run(script) == [3550, 2550, True, False]


def test_what_is_over_offers_nothing(run: Run) -> None:
    """Of each state what the staff and the buyer may do with an unsent and with a sent order."""
    script = (
        SUMS
        + """
        const states = ["confirmed", "paid", "partially_refunded", "refunded", "cancelled",
                        "rejected"];
        const may = (one) => states.map((state) => ({ ...one, state })).map((one) =>
          ["mayShip", "mayCancel", "mayTakeBack", "mayWithdraw"].filter((name) => sums[name](one))
            .map((name) => name[3]).join(""));
        out([may({ ...order, shipments: [] }), may(order),
             sums.mayWithdraw({ ...order, withdrawn_at: 1 })]);"""
    )
    assert run(script) == [
        ["SCW", "SCW", "SCW", "", "", ""],
        ["STW", "STW", "STW", "TW", "", ""],
        False,
    ]


def test_dialogs_say_what_money_and_stock_do(run: Run) -> None:
    """The sentences follow what is chosen: all, a part, nothing, with and without the shelf."""
    script = (
        SUMS
        + """
        const money = (minor) => `EUR ${minor}`;
        const { cancel, receive, refund } = sums.effects;
        const texts = ({ money: one, stock }) => [one.split(":")[0], stock.split(".")[0]];
        out([texts(cancel(order, { restock: true, money })),
             texts(cancel({ ...order, state: "confirmed" }, { restock: false, money })),
             texts(receive({ units: 1, amount: 0, restock: false, money })),
             texts(refund({ units: 0, amount: 50, left: 80, money })),
             texts(refund({ units: 2, amount: 80, left: 80, money }))]);"""
    )
    assert run(script) == [
        ["EUR 3550 that was paid goes back to the buyer.", "Back to the products' shelf: 4 units"],
        [
            "Money that is only set aside is let go. What was captured meanwhile goes back.",
            "Nothing goes back to the shelf: it counts as sold for good",
        ],
        ["Nothing is paid back.", "Written off, not to the shelf: 1 unit"],
        [
            "EUR 50 goes back to the buyer; EUR 30 of what was paid stays.",
            "Nothing goes to the shelf",
        ],
        ["EUR 80 goes back to the buyer", "To the products' shelf: 2 units"],
    ]


def test_search_looks_where_people_look(run: Run) -> None:
    """Numbers, names, addresses, products, parcels; nothing of what nobody sees."""
    script = (
        SUMS
        + """
        const found = (text) => sums.matches(order, text);
        out([["11111111", "ann", "=1+1", "lamp", "red", "b2", "mill lane"].every(found),
             ["o1", "s-b2", "nobody"].some(found),
             sums.matches({ ...order, contact: null }, "mill")]);"""
    )
    assert run(script) == [True, False, False]


def test_slip_lists_what_is_still_to_leave(run: Run) -> None:
    """The rest of a partly sent order, all of one that left, and one parcel's items alone."""
    script = (
        SUMS
        + """
        import { packed } from "./order-slip.js";
        const look = (...asked) => packed(...asked).map(({ item, qty }) => [item.sku, qty]);
        const gone = [{ status: "shipped", items: [{ line: 1, qty: 3 }, { line: 2, qty: 1 }] }];
        out([look(order), look({ ...order, shipments: gone }), look(order, [{ line: 1, qty: 2 }])]);
        """
    )
    assert run(script) == [
        [["lamp", 1], ["mug", 1]],
        [["lamp", 3], ["mug", 1]],
        [["lamp", 2]],
    ]


FOLLOW = """
import { Follower, IDLE_MS, LOOK_MS } from "./order-follow.js";
const asked = [];
const taken = [];
let lost = 0;
let pages = [];
const read = async (query) => {
  asked.push({ ...query });
  return pages.shift() ?? { items: [], next: null, cursor: "end" };
};
const take = (orders) => taken.push(...orders);
const made = new Follower({ read, take, lost: () => (lost += 1) });
"""


def test_burst_of_news_is_one_look(run: Run) -> None:
    """Looks keep their distance, and without news they are rare."""
    script = (
        FOLLOW
        + """
        made.begin({ show: "s" }, 100_000, 0);
        for (let i = 0; i < 1000; i += 1) made.hint();
        await made.tick(LOOK_MS - 1);
        const early = asked.length;
        await made.tick(LOOK_MS);
        await made.tick(LOOK_MS + 500);
        const burst = asked.length;
        made.hint();
        await made.tick(2 * LOOK_MS);
        await made.tick(2 * LOOK_MS + IDLE_MS - 1);
        const quiet = asked.length;
        await made.tick(2 * LOOK_MS + IDLE_MS);
        out([early, burst, quiet, asked.length, asked[0], asked[1].cursor]);"""
    )
    assert run(script) == [
        *(0, 1, 2, 3),
        {"show": "s", "order": "updated", "updated_since": 40_000, "limit": 200},
        "end",
    ]


def test_more_news_than_can_be_read_is_said(run: Run) -> None:
    """Five pages in one look, then the list must be read anew; nothing is asked before that."""
    script = (
        FOLLOW
        + """
        pages = [1, 2, 3, 4, 5, 6].map((n) => ({ items: [n], next: `p${n}`, cursor: `p${n}` }));
        made.begin({}, 0, 0);
        await made.tick(IDLE_MS);
        await made.tick(9 * IDLE_MS);
        out([taken, lost, asked.length]);"""
    )
    assert run(script) == [[1, 2, 3, 4, 5], 1, 5]


def test_answer_of_a_list_that_was_left_counts_for_nothing(run: Run) -> None:
    """Another filter was chosen during the look; a failed look is followed by another."""
    script = (
        FOLLOW
        + """
        let answer;
        const slow = new Promise((done) => (answer = done));
        const plain = made.read;
        made.read = () => slow;
        made.begin({ show: "a" }, 0, 0);
        const look = made.tick(IDLE_MS);
        made.begin({ show: "b" }, 0, IDLE_MS);
        answer({ items: ["old"], next: null, cursor: "x" });
        await look;
        made.read = async () => { throw new Error("away"); };
        const failed = await made.tick(2 * IDLE_MS).catch((error) => error.message);
        made.read = plain;
        pages = [{ items: ["new"], next: null, cursor: "y" }];
        await made.tick(3 * IDLE_MS);
        out([taken, failed, asked[0].show, asked[0].cursor ?? null]);"""
    )
    assert run(script) == [["new"], "away", "b", None]
