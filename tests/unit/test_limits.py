"""How often one address may ask: bursts, refills, and bounded memory."""

from live.api import limits
from live.api.limits import AddressLimit


def test_burst_is_given_and_refills_with_time() -> None:
    """Three at once, the fourth not; one more for each second that passes, never above three."""
    limit = AddressLimit(burst=3, per_second=1.0)

    assert [limit.take("192.0.2.1", now=0) for _ in range(4)] == [True, True, True, False]
    assert not limit.take("192.0.2.1", now=0.9)
    assert limit.take("192.0.2.1", now=1.0)
    assert [limit.take("192.0.2.1", now=99) for _ in range(4)] == [True, True, True, False]


def test_asking_whether_something_is_left_takes_nothing() -> None:
    """What counts only once it has failed is asked about first."""
    limit = AddressLimit(burst=1, per_second=1.0)

    assert all(limit.has("192.0.2.1", now=0) for _ in range(3))
    assert limit.take("192.0.2.1", now=0)
    assert not limit.has("192.0.2.1", now=0.5)
    assert limit.has("192.0.2.1", now=1.0)


def test_addresses_do_not_share_but_a_home_network_does() -> None:
    """IPv4 by address; IPv6 by /64, because one home has 2^64 of them."""
    limit = AddressLimit(burst=1, per_second=0.001)

    assert limit.take("192.0.2.1", now=0) and limit.take("192.0.2.2", now=0)
    assert limit.take("2001:db8::1", now=0) and not limit.take("2001:db8::ffff", now=0)
    assert limit.take("2001:db8:0:1::1", now=0)
    assert limit.take("not an address", now=0)


def test_memory_is_bounded() -> None:
    """The address unused longest is forgotten."""
    limit = AddressLimit(burst=1, per_second=0.001)

    for number in range(limits.ADDRESSES_MAX + 1):
        limit.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", now=0)

    assert limit.take("10.0.0.0", now=0)
    assert not limit.take("10.0.0.2", now=0)
