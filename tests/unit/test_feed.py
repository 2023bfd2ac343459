"""Product feeds: three formats, and faults told by line and column."""

import tracemalloc
from pathlib import Path

import pytest

from live.commerce.imports import FAULTS_MAX, FeedError, Format, parse_feed, read_feed

GOOGLE = (
    "id\ttitle\tdescription\timage_link\tavailability\tprice\tsale_price\tquantity\n"
    "lamp-1\tDesk lamp\tBright.\thttps://img.example/l.jpg\tin_stock\t59.00 EUR\t49.90 EUR\t12\n"
    'vase-1\t"A vase\nfor ""one"" rose"\t\t\tout of stock\t1200 JPY\t\t\n'
    "\n"
    "oud-1\tOud\t\t\tin stock\t1.234 KWD\t\t\n"
)
SHOPIFY = (
    "Handle,Title,Body (HTML),Variant SKU,Variant Price,Variant Inventory Qty,Image Src\n"
    'mug,Mug,"<p>Holds <b>tea</b>.</p>",mug-s,9.5,7,https://img.example/m.jpg\n'
    "mug,,,mug-l,12.00,,\n"
    "mug,,,,,,https://img.example/m2.jpg\n"
)
WOO = (
    "ID,Type,SKU,Name,Short description,Regular price,Sale price,Stock,Images\n"
    '7,simple,cap,Cap,"Shade, mostly",20.00,15.00,3,"https://i.example/1.jpg, https://i.example/2.jpg"\n'
    "8,variable,shirt,Shirt,,,,,\n"
    "9,variation,shirt-m,Shirt M,,25,,4,\n"
)


def faults(text: str, kind: Format = Format.GOOGLE, currency: str = "EUR") -> list[tuple[int, str]]:
    with pytest.raises(FeedError) as caught:
        parse_feed(text, kind, currency=currency)
    return [(fault.line, fault.column) for fault in caught.value.faults]


def test_google_feed_gives_products() -> None:
    """Sale prices win, minor units follow the currency, quoted lines may break."""
    lamp, vase, oud = parse_feed(GOOGLE, Format.GOOGLE)

    assert (lamp.sku, lamp.price_minor, lamp.currency, lamp.on_hand) == ("lamp-1", 4990, "EUR", 12)
    assert (vase.title, vase.price_minor, vase.on_hand) == ('A vase for "one" rose', 1200, 0)
    assert (oud.price_minor, oud.on_hand) == (1234, 1)


def test_google_feed_may_be_separated_by_commas() -> None:
    """The header line tells which it is."""
    feed = "id,title,price,quantity\nlamp,Lamp,5 EUR,2\n"

    assert parse_feed(feed, Format.GOOGLE)[0].price_minor == 500


def test_shopify_export_gives_variants() -> None:
    """Each SKU is a product; lines with a further image only are none; tags are taken out."""
    small, large = parse_feed(SHOPIFY, Format.SHOPIFY, currency="EUR")

    assert (small.sku, small.description, small.on_hand) == ("mug-s", "Holds  tea .", 7)
    assert (large.sku, large.title, large.price_minor, large.on_hand) == ("mug-l", "mug", 1200, 0)


def test_woocommerce_export_gives_what_can_be_sold() -> None:
    """The frame around variations is no product; the first image counts."""
    cap, shirt = parse_feed(WOO, Format.WOOCOMMERCE, currency="EUR")

    assert (cap.price_minor, cap.image_url) == (1500, "https://i.example/1.jpg")
    assert (shirt.sku, shirt.on_hand) == ("shirt-m", 4)


HEAD = "id\ttitle\tprice\tquantity\timage_link\n"


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("a b\tLamp\t5 EUR\t1\t", "id"),
        ("\tLamp\t5 EUR\t1\t", "id"),
        ("lamp\t\t5 EUR\t1\t", "title"),
        (f"lamp\t{'x' * 201}\t5 EUR\t1\t", "title"),
        ("lamp\tLamp\t5\t1\t", "price"),
        ("lamp\tLamp\tfive EUR\t1\t", "price"),
        ("lamp\tLamp\t5.001 EUR\t1\t", "price"),
        ("lamp\tLamp\t0.5 JPY\t1\t", "price"),
        ("lamp\tLamp\t-5 EUR\t1\t", "price"),
        ("lamp\tLamp\tNaN EUR\t1\t", "price"),
        ("lamp\tLamp\tInfinity EUR\t1\t", "price"),
        ("lamp\tLamp\t1e400 EUR\t1\t", "price"),
        ("lamp\tLamp\t9E+999999 EUR\t1\t", "price"),
        ("lamp\tLamp\t1E-99999999 EUR\t1\t", "price"),
        ("lamp\tLamp\t１２ EUR\t1\t", "price"),
        ("lamp\tLamp\t5 EUR\t-1\t", "quantity"),
        ("lamp\tLamp\t5 EUR\t1.5\t", "quantity"),
        ("lamp\tLamp\t5 EUR\t1\tjavascript:alert(1)", "image_link"),
        ("lamp\tLamp\t5 EUR\t1\t//evil.example/a.jpg", "image_link"),
        ("lamp\tLamp\t5 EUR\t1\t/\\evil.example/a.jpg", "image_link"),
        ("lamp\tLamp\t5 EUR\t1\thttps://u:p@img.example/a.jpg", "image_link"),
        ("lamp\tLamp\t5 EUR\t1\thttps://img.example/a\0.jpg", "image_link"),
        ("lamp\tLamp\t5 EUR\t1\t\t\t", ""),
    ],
)
def test_fault_is_told_by_line_and_column(line: str, column: str) -> None:
    """The second product is wrong: line 3."""
    good = "good\tGood\t5 EUR\t1\t\n"

    assert faults(HEAD + good + line + "\n") == [(3, column)]


def test_title_cannot_turn_the_text_around_it() -> None:
    """Characters that change the direction of what follows are left out."""
    (product,) = parse_feed(HEAD + "lamp\tLa\u202emp\u2066\t5 EUR\t1\t\n", Format.GOOGLE)
    assert product.title == "Lamp"


def test_many_short_lines_take_little_memory(tmp_path: Path) -> None:
    """What a feed may have of products and bytes cannot fill the machine."""
    path = tmp_path / "feed.csv"
    path.write_bytes(b"type,sku,name,regular price\n" + b"grouped,,,\n" * 300_000)
    tracemalloc.start()
    with pytest.raises(FeedError, match="no products"):
        read_feed(path, Format.WOOCOMMERCE, currency="EUR")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size


def test_lines_are_counted_as_an_editor_does() -> None:
    """A line break inside quotes moves the lines that follow."""
    broken = 'one\t"two\nlines"\t5 EUR\t1\t\n'

    assert faults(HEAD + broken + "a b\tLamp\t5 EUR\t1\t\n") == [(4, "id")]


def test_several_faults_are_told_at_once_up_to_a_bound() -> None:
    """Mended in one go, and a hopeless file does not fill the terminal."""
    assert len(faults(HEAD + "a b\t\tx\ty\tz\n")) == 5
    assert len(faults(HEAD + "a b\t\tx\ty\tz\n" * 50)) == FAULTS_MAX


def test_sku_that_stands_twice_is_a_fault() -> None:
    """Which of the two is meant nobody can know."""
    line = "lamp\tLamp\t5 EUR\t1\t\n"

    assert faults(HEAD + line + line) == [(3, "")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [(1, "")]),
        (HEAD, [(1, "")]),
        ("id\ttitle\n", [(1, "price")]),
        ("id\tid\ttitle\tprice\n", [(1, "id")]),
        (HEAD + '"open\n', [(2, "")]),
    ],
)
def test_feed_without_usable_lines_is_refused(text: str, found: list[tuple[int, str]]) -> None:
    """Empty, without a needed column, with one twice, with an open quote."""
    assert faults(text) == found


def test_export_without_a_currency_needs_one() -> None:
    """Shopify's and WooCommerce's exports name none."""
    assert faults(SHOPIFY, Format.SHOPIFY, currency="") == [(1, "")]
    assert faults(WOO, Format.WOOCOMMERCE, currency="euro") == [(1, "")]


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As Excel writes it; and a line of another encoding is told by its number."""
    path = tmp_path / "feed.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + GOOGLE.encode())
    assert len(read_feed(path, Format.GOOGLE)) == 3

    path.write_bytes(HEAD.encode() + b"lamp\tL\xe4mp\t5 EUR\t1\t\n")
    with pytest.raises(FeedError, match="line 2"):
        read_feed(path, Format.GOOGLE)


def test_feed_has_a_bound_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told with its line."""
    monkeypatch.setattr("live.commerce.imports.PRODUCTS_MAX", 2)
    lines = [f"lamp-{n}\tLamp\t5 EUR\t1\t\n" for n in range(3)]
    assert len(parse_feed(HEAD + "".join(lines[:2]), Format.GOOGLE)) == 2
    assert faults(HEAD + "".join(lines)) == [(4, "")]
