"""Product feeds: Google Merchant (TSV or CSV), Shopify and WooCommerce exports.

Pure up to `import_feed`. Always: all of a feed or nothing of it; every fault is told with its line
and column, up to FAULTS_MAX at once, so that a shop mends its file in one go. Prices become minor
units without ever being a float.
"""

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import chain
from pathlib import Path

from live.base.errors import LiveError
from live.domain.ids import Sku, is_id
from live.domain.links import is_link
from live.domain.money import AMOUNT_MINOR_MAX, is_currency
from live.domain.show import TITLE_CHARS_MAX
from live.ledger.hosting.catalogue import Catalogue, NewProduct

FEED_BYTES_MAX = 64 * 1024 * 1024
PRODUCTS_MAX = 200_000
FAULTS_MAX = 20
CELL_CHARS_MAX = 100_000  # Shopify's descriptions are whole pages of HTML
DESCRIPTION_CHARS_MAX = 5_000
ON_HAND_MAX = 10**9

# Currencies whose minor unit is not a hundredth (ISO 4217).
_DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


class Format(StrEnum):
    GOOGLE = "google"
    SHOPIFY = "shopify"
    WOOCOMMERCE = "woocommerce"


@dataclass(frozen=True, slots=True)
class Fault:
    """`line` as an editor counts it; `column` is the header's word, "" for the whole line."""

    line: int
    column: str
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{where}: {self.text}"


class FeedError(LiveError):
    """The feed cannot be imported; `faults` are the first FAULTS_MAX."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the feed, its cells by the header's words in lower case."""

    line: int
    cells: Mapping[str, str]

    def get(self, *names: str) -> str:
        """The first of these columns that has something."""
        return next((value for name in names if (value := self.cells.get(name, "").strip())), "")


class Reader:
    """Reads values out of rows and collects what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fail(self, row: Row, column: str, text: str) -> None:
        self.faults.append(Fault(row.line, column, text))

    def sku(self, row: Row, column: str) -> Sku:
        value = row.get(column)
        if not is_id(value):
            self.fail(row, column, f"{_short(value)} must be 1-64 of A-Za-z0-9_-")
        return Sku(value)

    def title(self, row: Row, column: str) -> str:
        value = _line(row.get(column))
        if not 1 <= len(value) <= TITLE_CHARS_MAX:
            self.fail(row, column, f"a title has 1-{TITLE_CHARS_MAX} characters")
        return value

    def price(self, row: Row, column: str, amount: str, currency: str) -> int:
        # Digits only: an exponent would be rounded to nothing, or to a number without end.
        if not _AMOUNT.fullmatch(amount):
            self.fail(row, column, f"{_short(amount)} is no amount such as 19.99")
            return 0
        value = Decimal(amount).scaleb(_DECIMALS.get(currency, 2))
        if value != value.to_integral_value():
            self.fail(row, column, f"{_short(amount)} is no amount of {currency}")
            return 0
        if value > AMOUNT_MINOR_MAX:
            self.fail(row, column, f"{_short(amount)} is out of range")
            return 0
        return int(value)

    def count(self, row: Row, column: str, default: int) -> int:
        value = row.get(column)
        if not value:
            return default
        if not (value.isascii() and value.isdecimal()) or len(value) > 10:
            self.fail(row, column, f"{_short(value)} is no number of units")
            return default
        return min(int(value), ON_HAND_MAX)

    def link(self, row: Row, column: str) -> str:
        # WooCommerce puts several addresses into one cell.
        value = row.get(column).partition(",")[0].strip()
        if value and not is_link(value):
            self.fail(row, column, f"{_short(value)} is no http(s) address")
        return value


def parse_feed(text: str, kind: Format, *, currency: str = "") -> list[NewProduct]:
    """Read a feed. `currency` is for formats that name none. Raises FeedError."""
    return parse_lines(io.StringIO(text, newline=""), kind, currency=currency)


def parse_lines(lines: Iterator[str], kind: Format, *, currency: str = "") -> list[NewProduct]:
    """Read a feed whose lines come one after the other, like `parse_feed`."""
    columns, rows = _rows(lines)
    reader = Reader()
    source = _SOURCES[kind]
    for column in source.needs:
        if column not in columns:
            reader.faults.append(Fault(1, column, f"this column is missing in a {kind} feed"))
    if kind is not Format.GOOGLE and not is_currency(currency):
        reader.faults.append(Fault(1, "", f"a {kind} feed names no currency: give one such as EUR"))
    if reader.faults:
        raise FeedError(reader.faults)
    found: dict[Sku, int] = {}
    products: list[NewProduct] = []
    for row in rows:
        if len(reader.faults) >= FAULTS_MAX:
            break
        product = source.read(reader, row, currency)
        if product is None:
            continue
        if product.sku in found:
            reader.fail(row, "", f"{product.sku} stands in line {found[product.sku]} already")
        found.setdefault(product.sku, row.line)
        products.append(product)
        if len(products) > PRODUCTS_MAX:
            reader.fail(row, "", f"a feed has {PRODUCTS_MAX} products at most")
            break
    if reader.faults:
        raise FeedError(reader.faults[:FAULTS_MAX])
    if not products:
        raise FeedError([Fault(1, "", "the feed has no products")])
    return products


async def import_feed(catalogue: Catalogue, path: Path, kind: str, *, currency: str = "") -> int:
    """Bring a file into the catalogue, whole or not at all; how many products it has.

    Raises FeedError, OSError, and ValueError for an unknown kind.
    """
    products = await asyncio.to_thread(read_feed, path, Format(kind), currency=currency)
    done = await catalogue.upsert(products)
    return done.created + done.kept


def read_google(path: Path) -> list[NewProduct]:
    """Read a Google Merchant feed. Raises FeedError, OSError."""
    return read_feed(path, Format.GOOGLE)


def read_feed(path: Path, kind: Format, *, currency: str = "") -> list[NewProduct]:
    """Read a file, with or without a byte order mark. Raises FeedError, OSError."""
    if path.stat().st_size > FEED_BYTES_MAX:
        raise FeedError([Fault(1, "", f"a feed has {FEED_BYTES_MAX} bytes at most")])
    with path.open("rb") as file:
        return parse_lines(_decoded(file), kind, currency=currency)


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, raw in enumerate(lines, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise FeedError([Fault(number, "", "this line is no UTF-8")]) from None
        yield line


def _rows(lines: Iterator[str]) -> tuple[list[str], Iterator[Row]]:
    """The header's words in lower case, and the rows below it.

    Rows are made as they are asked for: all at once take a hundred times the file's size.
    """
    head = next(lines, "")
    table = _table(chain((head,), lines), "\t" if "\t" in head else ",")
    columns = [cell.strip().lower() for cell in next(table, (1, []))[1]]
    if not columns:
        raise FeedError([Fault(1, "", "the feed is empty")])
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        raise FeedError([Fault(1, twice, "this column stands twice")])
    return columns, _below(columns, table)


def _table(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Lists of cells, each with the line that it begins in."""
    csv.field_size_limit(CELL_CHARS_MAX)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise FeedError([Fault(begins, "", str(error))]) from None


def _below(columns: list[str], table: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for line, cells in table:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            raise FeedError([Fault(line, "", f"more cells than the {len(columns)} columns")])
        yield Row(line, dict(zip(columns, cells, strict=False)))


def _google(reader: Reader, row: Row, _currency: str) -> NewProduct:
    column = "sale_price" if row.get("sale_price") else "price"
    amount, _, currency = row.get(column).partition(" ")
    currency = currency.strip()
    if not is_currency(currency):
        reader.fail(row, column, f"{_short(row.get(column))} is no price such as 19.99 EUR")
        amount = "0"
    # Without a number, "in stock" is all we know; one unit can be sold without lying.
    default = 1 if row.get("availability").replace(" ", "_") == "in_stock" else 0
    return NewProduct(
        sku=reader.sku(row, "id"),
        title=reader.title(row, "title"),
        description=_text(row.get("description")),
        image_url=reader.link(row, "image_link"),
        price_minor=reader.price(row, column, amount, currency),
        currency=currency,
        on_hand=reader.count(row, "quantity", default),
    )


def _shopify(reader: Reader, row: Row, currency: str) -> NewProduct | None:
    # Further lines of a product carry more images or variants; only those with a SKU can be sold.
    if not row.get("variant sku"):
        if row.get("title"):
            reader.fail(row, "variant sku", "a product needs a SKU")
        return None
    title_column = "title" if row.get("title") else "handle"
    return NewProduct(
        sku=reader.sku(row, "variant sku"),
        title=reader.title(row, title_column),
        description=_text(_without_tags(row.get("body (html)"))),
        image_url=reader.link(row, "image src"),
        price_minor=reader.price(row, "variant price", row.get("variant price"), currency),
        currency=currency,
        on_hand=reader.count(row, "variant inventory qty", 0),
    )


def _woocommerce(reader: Reader, row: Row, currency: str) -> NewProduct | None:
    if row.get("type") in ("variable", "grouped"):  # a frame around products with SKUs of their own
        return None
    column = "sale price" if row.get("sale price") else "regular price"
    return NewProduct(
        sku=reader.sku(row, "sku"),
        title=reader.title(row, "name"),
        description=_text(_without_tags(row.get("short description", "description"))),
        image_url=reader.link(row, "images"),
        price_minor=reader.price(row, column, row.get(column), currency),
        currency=currency,
        on_hand=reader.count(row, "stock", 0),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    needs: tuple[str, ...]
    read: Callable[[Reader, Row, str], NewProduct | None]


_SOURCES = {
    Format.GOOGLE: _Source(("id", "title", "price"), _google),
    Format.SHOPIFY: _Source(("handle", "title", "variant sku", "variant price"), _shopify),
    Format.WOOCOMMERCE: _Source(("sku", "name", "regular price"), _woocommerce),
}

_TAG = re.compile(r"<[^<>]{0,2000}>")
# Control characters, and those that turn the direction of what follows: a title must not do so.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?", re.ASCII)


def _without_tags(html: str) -> str:
    return _TAG.sub(" ", html)


def _text(value: str) -> str:
    return _CONTROL.sub("", value)[:DESCRIPTION_CHARS_MAX].strip()


def _line(value: str) -> str:
    return " ".join(_CONTROL.sub("", value).split())


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")
