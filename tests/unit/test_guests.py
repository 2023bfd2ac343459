"""Guests: whom an offer takes, and by which range of addresses they are counted."""

import msgspec
import pytest

from live.api.schema.http_requests import OfferBody
from live.connection.addresses import range_of
from live.domain.ids import GUEST, GUEST_RANGE_END, buyer_of, new_guest_sub
from live.ledger.hosting.offer_rows import NewOffer

SECRET = "s" * 32


def test_offer_takes_guests_only_where_it_says_so() -> None:
    """Neither the API nor the ledger says it for the host."""
    body = b"""{"sku": "mug", "price_minor": 1, "quantity": 1, "per_buyer_limit": 1,
                "hold_seconds": 60, "mode": "hold"}"""
    assert not msgspec.json.decode(body, type=OfferBody).guests
    assert not NewOffer.__dataclass_fields__["guests"].default


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.200", True),
        ("203.0.113.7", "203.0.114.7", False),
        ("2001:db8:1:2::1", "2001:db8:1:ffff::9", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:203.0.113.7", "203.0.113.9", True),
    ],
)
def test_neighbours_share_a_range(one: str, other: str, same: bool) -> None:
    """A /24 of IPv4 and a /48 of IPv6 are one neighbourhood."""
    assert (range_of(one) == range_of(other)) is same


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "", None, "no address"])
def test_guests_of_this_machine_share_no_range(address: str | None) -> None:
    """A load test, or a proxy that was not named, speaks for many."""
    assert range_of(address) is None


def test_guests_of_one_range_are_told_apart_and_counted_together() -> None:
    """The digest begins with the range, and behind it they differ."""
    network = "203.0.113.0/24"
    subs = {new_guest_sub(network, secret=SECRET) for _ in range(10)}
    buyers = {buyer_of(sub, secret=SECRET) for sub in subs}
    far = buyer_of(new_guest_sub("198.51.100.0/24", secret=SECRET), secret=SECRET)

    assert len(buyers) == len(subs) == 10
    assert {buyer[: len(GUEST)] for buyer in (*buyers, far)} == {GUEST}
    assert len({buyer[:GUEST_RANGE_END] for buyer in buyers}) == 1
    assert far[:GUEST_RANGE_END] not in {buyer[:GUEST_RANGE_END] for buyer in buyers}


def test_names_of_the_shop_are_digested_as_ever() -> None:
    """Also those that look a little like a guest's: an upgrade renames nobody."""
    for sub in ("ada", "guest-ada", "guest-0123456789abcdef", "guest-deadbeef"):
        assert not buyer_of(sub, secret=SECRET).startswith(GUEST)
