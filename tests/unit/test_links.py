"""Links that pages follow: one rule, in Python and in the schema that clients read."""

import re

import msgspec
import pytest

from live.api.schema.http_requests import ProductBody
from live.domain.links import LINK, LINK_CHARS_MAX, is_link

GOOD = [
    "https://cdn.example/a/b.jpg?w=1#x",
    "http://10.0.0.1:8080/live.m3u8",
    "https://[::1]/a",
    "https://shop.example",
    "/static/demo/kettle.svg",
    "/",
    "https://shop.example/größe/赤.jpg",
    "https://shop.example/?mail=a@b.example",
    "/" + "a" * (LINK_CHARS_MAX - 1),
]
BAD = [
    "//evil.example/a",
    "/\\evil.example/a",
    "\\\\evil.example",
    "https://user:password@shop.example/",
    "https://shop.example@evil.example/",
    "https:///evil",
    "https://evil.example\\@shop.example/",
    "javascript:alert(1)",
    "data:text/html,x",
    "ftp://shop.example/",
    "shop.example/a.jpg",
    "https://shop.example/a b",
    "https://shop.example/\n",
    "/a\x00b",
    "/a\x85b",
    " /a",
    "/" + "a" * LINK_CHARS_MAX,
]


@pytest.mark.parametrize("text", GOOD)
def test_address_that_pages_may_follow_is_a_link(text: str) -> None:
    """An http(s) address with a host, or a path of this server."""
    assert is_link(text)
    assert _body(text)


@pytest.mark.parametrize("text", BAD)
def test_address_that_leads_elsewhere_is_no_link(text: str) -> None:
    """Neither another host in disguise, nor a user, nor what no address contains."""
    assert not is_link(text)
    assert not _body(text)


def test_no_link_is_allowed_in_a_body() -> None:
    """An empty text takes an address away."""
    assert _body("") and not is_link("")


def test_pattern_is_one_for_python_and_json_schema() -> None:
    """No construct that ECMA-262 does not know, such as `\\Z` or a named group."""
    assert not re.search(r"\\[AZz]|\(\?[^:=!]", LINK)


def _body(link: str) -> bool:
    product = {"sku": "a", "title": "t", "price_minor": 1, "currency": "EUR", "on_hand": 1}
    try:
        msgspec.convert(product | {"image_url": link}, ProductBody)
    except msgspec.ValidationError:
        return False
    return True
