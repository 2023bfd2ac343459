"""Guests: whom an offer takes, and by which range of addresses they are counted."""

import msgspec
import pytest

from live.api.schema.http_requests import OfferBody
from live.connection.addresses import range_of
from live.domain.ids import (
    GUEST,
    GUEST_RANGE_END,
    BuyerId,
    ShowId,
    author_of,
    buyer_of,
    new_guest_sub,
    parse_key,
)
from live.domain.show import passcode_digest
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


def test_digests_are_kept_for_good() -> None:
    """Redis, tokens and logs have them: another digest of the same name would be somebody else."""
    ada, guest = buyer_of("ada", secret=SECRET), "guest-0a1b2c3d.AAAAAAAAAAAAAAAA"
    assert ada.hex() == "0c12f4e8105f215745ef288f5cefaf2b"
    assert buyer_of(guest, secret=SECRET).hex() == "677374000a1b2c3dbbc8da820957114a"
    assert new_guest_sub("203.0.113.0/24", secret=SECRET).startswith("guest-8e6807df.")
    assert author_of(BuyerId(bytes(range(16))), ShowId("demo")) == "e183a8e152db85f9"
    assert passcode_digest("demo", "secret words").startswith("fa9437aa9ddfdd08d26836c66a09d252")


def test_guest_without_a_network_shares_no_range() -> None:
    """Two of them are no neighbours, and their names look like any guest's."""
    first, second = (buyer_of(new_guest_sub(None, secret=SECRET), secret=SECRET) for _ in range(2))
    assert first.startswith(GUEST) and second.startswith(GUEST)
    assert first[:GUEST_RANGE_END] != second[:GUEST_RANGE_END]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6f1c0f6e3b0a4d9c9a520d5d6a1f7f10",
        "{6f1c0f6e3b0a4d9c9a520d5d6a1f7f10}zz",
        "6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f1g",
        "6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10 ",
    ],
)
def test_key_in_another_form_is_none(text: str) -> None:
    """One form, so that a key is the same text in every log."""
    assert parse_key("6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10").hex().startswith("6f1c0f6e3b0a")
    with pytest.raises(ValueError, match=r"UUID|base 16"):
        parse_key(text)
