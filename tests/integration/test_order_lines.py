"""`live orders --csv`: what a warehouse reads, and no spreadsheet computes.

Method: orders on a real Postgres; the file is read back by Python's own reader.
"""

import csv
import io
import os
import subprocess
import sys
from typing import Any

import orjson

from live.commerce.order_lines import HEADER, safe_cell, write_lines
from live.domain.ids import ShowId
from live.domain.orders.fulfilment import Fulfilment
from live.ledger.db.pool import Pool
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.orders import OrderRows
from live.ledger.orders.pages import OrderQuery
from live.ledger.orders.parcels import NewParcel
from tests.integration.test_orders_changed import bought
from tests.support.ledger_kit import PRICE, make_show
from tests.support.shows_kit import HOST

CONTACT = {
    "name": '=HYPERLINK("http://evil")',
    "email": "ada@example.org",
    "phone": "+49 30 1",
    "address": '1 "Row", left\nHill',
}


async def read(pool: Pool, query: OrderQuery) -> list[dict[str, str]]:
    out = io.StringIO(newline="")
    await write_lines(OrderRows(pool), query, out)
    return list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))


async def ship(pool: Pool, order: Any) -> None:
    parcel = NewParcel(items=(), carrier="DHL", tracking_number="JD01", tracking_url="")
    await FulfilmentRows(pool).ship(order, parcel, actor=HOST)


async def test_line_has_what_a_warehouse_needs(pool: Pool, show: ShowId) -> None:
    """Whom to send what, and what has left already."""
    await make_show(pool, show, 5)
    order = await bought(pool, show, orjson.dumps(CONTACT))
    await ship(pool, order)

    [line] = await read(pool, OrderQuery(show=show))

    assert set(line) == set(HEADER)
    assert (line["order"], line["sku"], line["qty"]) == (order, f"{show}-sku-0", "1")
    assert (line["sent"], line["tracking_numbers"], line["fulfilment"]) == ("1", "JD01", "shipped")
    assert (line["returned"], line["to_ship"]) == ("0", "0")
    assert (float(line["price"]) * 100, line["currency"]) == (PRICE, "EUR")
    assert (line["line1"], line["line2"]) == ('1 "Row", left', "Hill")
    assert line["name"] == "'" + CONTACT["name"]
    assert line["phone"] == "'+49 30 1"


async def test_pages_are_passed_and_filters_hold(pool: Pool, show: ShowId) -> None:
    """More orders than a page has, each once, the oldest first."""
    await make_show(pool, show, 5)
    first = await bought(pool, show, orjson.dumps(CONTACT))
    await pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
           SELECT gen_random_uuid(), $1, $2, 'ada', gen_random_uuid(), 'paid', 1, 'EUR', 1
           FROM generate_series(1, 250)""",
        show,
        b"b" * 16,
    )
    await pool.execute(
        """INSERT INTO order_items (order_id, offer, qty, price_minor)
           SELECT id, $1 || '-offer-0', 1, 1 FROM orders WHERE sub = 'ada'""",
        show,
    )
    lines = await read(pool, OrderQuery(show=show))
    assert len({line["order"] for line in lines}) == len(lines) == 251
    assert lines[0]["order"] == first
    await ship(pool, first)
    sent = await read(pool, OrderQuery(show=show, fulfilment=Fulfilment.SHIPPED))
    assert [line["order"] for line in sent] == [first]
    rest = await read(pool, OrderQuery(show=show, to_ship=True))
    assert {line["to_ship"] for line in rest} == {"1"}
    assert len(rest) == 250


def test_formulas_are_no_formulas() -> None:
    """Every way to begin one, also behind what spreadsheets strip."""
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"):
        assert safe_cell(text) == "'" + text
    for text in ("", "Ada", "1 Row", "a=b"):
        assert safe_cell(text) == text


async def test_command_writes_csv(
    database_url: str, redis_url: str, pool: Pool, show: ShowId
) -> None:
    """As a process, in UTF-8; without the form it says what is missing."""
    await make_show(pool, show, 5)
    await bought(pool, show, orjson.dumps(CONTACT | {"name": "Zoë"}))
    environ = {**os.environ, "LIVE_DATABASE_URL": database_url, "LIVE_REDIS_URL": redis_url}
    environ["LIVE_SECRET"] = "a secret that is long enough for HS256"

    def run(*options: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-m", "live", "orders", *options],
            env=environ,
            capture_output=True,
            timeout=60,
            check=False,
        )

    done = run("--csv", "--show", show)
    assert done.returncode == 0, done.stderr
    [line] = csv.DictReader(io.StringIO(done.stdout.decode(), newline=""))
    assert line["name"] == "Zoë"
    assert run().returncode == 2
    assert run("--csv", "--state", "lost").returncode == 2
