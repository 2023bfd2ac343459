"""The breaker: when calls to a provider stop, and how they come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from live.domain.payment import ChargePage, PaymentId, PaymentState, ProviderRefund
from live.payments.breaker import LOST_MAX, PAUSE_MS, PAUSE_MS_MAX, Breaker, GuardedProvider
from live.payments.port import (
    Authorisation,
    AuthoriseRequest,
    CaptureResult,
    MoneyRequest,
    ProviderEvent,
    Verdict,
)

PAYMENT = PaymentId("6f1c0f6e-3b0a-4d9c-9a52-0d5d6a1f7f10")
REQUEST = AuthoriseRequest(payment=PAYMENT, amount_minor=1, currency="EUR", token="t", metadata={})


@dataclass
class Clock:
    ms: float = 0.0

    def __call__(self) -> float:
        return self.ms


@dataclass
class Scripted:
    """A provider that answers what the test says; it counts the calls that reached it."""

    state: PaymentState = PaymentState.UNKNOWN
    calls: int = 0
    raises: type[BaseException] | None = None
    name: str = "scripted"
    seen: list[MoneyRequest] = field(default_factory=list)

    def payment_window_ms(self, token: str | None) -> int:
        return 1

    def is_asynchronous(self, token: str | None) -> bool:
        return False

    async def authorise(self, request: AuthoriseRequest) -> Authorisation:
        self.calls += 1
        if self.raises is not None:
            raise self.raises
        return Authorisation(state=self.state)

    async def look_up(self, payment: PaymentId, ref: str | None) -> Authorisation:
        return Authorisation(state=self.state)

    async def capture(self, request: MoneyRequest) -> CaptureResult:
        self.calls += 1
        lost = self.state is PaymentState.UNKNOWN
        return CaptureResult(Verdict.UNKNOWN if lost else Verdict.REFUSED)

    async def void(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    async def refund(self, request: MoneyRequest) -> CaptureResult:
        return CaptureResult(Verdict.DONE)

    async def look_up_refund(self, request: MoneyRequest) -> CaptureResult | None:
        return None

    async def list_refunds(
        self, payment: PaymentId, ref: str | None
    ) -> tuple[ProviderRefund, ...] | None:
        return None

    def refuses_price(self, price_minor: int, currency: str) -> str:
        return ""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        return []

    async def list_charges(
        self, *, cursor: str | None, limit: int, since_ms: int = 0
    ) -> ChargePage:
        return ChargePage((), None)

    async def close(self) -> None:
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider() -> Scripted:
    return Scripted()


@pytest.fixture
def guarded(provider: Scripted, clock: Clock) -> GuardedProvider:
    return GuardedProvider(provider, Breaker(clock))


async def lose(guarded: GuardedProvider, times: int) -> None:
    for _ in range(times):
        await guarded.authorise(REQUEST)


async def test_breaker_opens_after_the_last_lost_call(
    guarded: GuardedProvider, provider: Scripted
) -> None:
    """LOST_MAX calls leave; the next one is answered `unknown` without leaving."""
    await lose(guarded, LOST_MAX)
    held_back = await guarded.authorise(REQUEST)
    assert provider.calls == LOST_MAX
    assert held_back.state is PaymentState.UNKNOWN


async def test_an_answer_starts_the_count_again(
    guarded: GuardedProvider, provider: Scripted
) -> None:
    """A decline is an answer: only calls lost in a row count."""
    await lose(guarded, LOST_MAX - 1)
    provider.state = PaymentState.DECLINED
    await guarded.authorise(REQUEST)
    provider.state = PaymentState.UNKNOWN
    await lose(guarded, LOST_MAX - 1)
    provider.state = PaymentState.AUTHORISED
    assert (await guarded.authorise(REQUEST)).state is PaymentState.AUTHORISED


async def test_refused_captures_do_not_open_it(
    guarded: GuardedProvider, provider: Scripted
) -> None:
    """A provider that says no is well."""
    provider.state = PaymentState.AUTHORISED
    for _ in range(3 * LOST_MAX):
        await guarded.capture(
            MoneyRequest(payment=PAYMENT, ref=None, amount_minor=1, currency="EUR", key="k")
        )
    assert provider.calls == 3 * LOST_MAX


async def test_half_open_breaker_lets_one_probe_pass(
    guarded: GuardedProvider, provider: Scripted, clock: Clock
) -> None:
    """After the pause one call leaves; lost, it costs the double pause."""
    await lose(guarded, LOST_MAX)
    clock.ms += PAUSE_MS
    await lose(guarded, 3)
    assert provider.calls == LOST_MAX + 1
    clock.ms += PAUSE_MS
    await lose(guarded, 1)
    assert provider.calls == LOST_MAX + 1
    clock.ms += PAUSE_MS
    await lose(guarded, 1)
    assert provider.calls == LOST_MAX + 2


async def test_answered_probe_closes_it(
    guarded: GuardedProvider, provider: Scripted, clock: Clock
) -> None:
    """The provider is back: everything passes again."""
    await lose(guarded, LOST_MAX)
    clock.ms += PAUSE_MS
    provider.state = PaymentState.AUTHORISED
    await lose(guarded, 5)
    assert provider.calls == LOST_MAX + 5


async def test_pause_is_bounded(guarded: GuardedProvider, provider: Scripted, clock: Clock) -> None:
    """However long a provider is away, it is asked again within PAUSE_MS_MAX."""
    await lose(guarded, LOST_MAX)
    for _ in range(20):
        clock.ms += PAUSE_MS_MAX
        before = provider.calls
        await lose(guarded, 1)
        assert provider.calls == before + 1


async def test_probe_that_breaks_does_not_block_the_next(
    guarded: GuardedProvider, provider: Scripted, clock: Clock
) -> None:
    """A probe that raises (a cancelled call, a bug) counts as lost and frees its place."""
    await lose(guarded, LOST_MAX)
    clock.ms += PAUSE_MS
    provider.raises = TimeoutError
    with pytest.raises(TimeoutError):
        await guarded.authorise(REQUEST)
    provider.raises, provider.state = None, PaymentState.AUTHORISED
    clock.ms += PAUSE_MS_MAX
    assert (await guarded.authorise(REQUEST)).state is PaymentState.AUTHORISED
