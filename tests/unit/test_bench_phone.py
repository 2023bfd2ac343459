"""What a phone of the bench makes of the bytes it reads, wherever reads split them."""

import time
from dataclasses import dataclass, field

import pytest

from live.protocol.deflate import SharedStream
from live.protocol.shared import Shared
from live.tools.bench.phone import FIRST_CLICK, REFUSED_SECONDS, PackedPhone, Phone, Unpacker

REFUSED = b'{"id":2,"error":{"code":111,"message":"too many","temporary":true}}'
HELD = b'{"id":3,"rpc":{"data":{"outcome":"held","hold":"x"}}}'


@dataclass
class Company:
    latencies: list[float] = field(default_factory=list)
    received: int = 0
    counted: int = 0
    fault: str = ""

    def arrived(self) -> None: ...

    def heard(self, publications: int) -> None:
        self.counted += publications

    def fail(self, reason: str) -> None:
        self.fault = reason

    def sent_away(self, client: Phone) -> None: ...

    def lost(self, client: Phone) -> None: ...


def clicked(company: Company) -> Phone:
    """A phone that waits for the answers to two clicks."""
    client = Phone(company, ear=False)
    client._pressed = [time.perf_counter()] * (FIRST_CLICK + 2)
    client._take = client._answering
    return client


@pytest.mark.parametrize("cut", range(len(REFUSED + HELD)))
def test_answers_at_random_are_counted_once(cut: int) -> None:
    """Held is timed; "busy" counts as long as a client would have waited."""
    company, stream = Company(), REFUSED + HELD
    client = clicked(company)
    client.data_received(stream[:cut])
    client.data_received(stream[cut:])
    assert (company.counted, company.fault) == (2, "")
    assert company.latencies[0] == REFUSED_SECONDS
    assert 0 <= company.latencies[1] < REFUSED_SECONDS


def test_other_error_ends_the_measurement() -> None:
    """What is measured must be holds."""
    company = Company()
    clicked(company).data_received(REFUSED.replace(b"111", b"103"))
    assert "103" in company.fault


def test_packed_publications_are_read_by_all_of_a_crowd() -> None:
    """Each phone counts what it gets; the stream is inflated once."""
    company, unpacker, stream = Company(), Unpacker(), SharedStream()
    phones = [PackedPhone(company, unpacker, ear=True) for _ in range(3)]
    for phone in phones:
        phone._take = phone._listening
    for number in range(60):
        message = b'{"text":"T@%018d and words"}' % (time.monotonic_ns() + number)
        packed = stream.pack(message, binary=False)
        for phone in phones:
            phone.data_received(packed.wire[:3])
            phone.data_received(packed.wire[3:])
    for phone in phones:
        phone.data_received(Shared(b"T@%018d" % 1, binary=False).wire)
    assert company.counted == 3 * 61
    assert len(company.latencies) == company.counted
