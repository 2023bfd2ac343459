"""What every payment provider must do, the same cases for all: sandbox, stripe, http and invoice.

Real clients against real servers: the sandbox's own service, a stand-in for Stripe's API, the
example of a payment service of the shop's own. An invoice has no books and refuses nothing, so
cases about refusals leave it out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from live.domain.order import RefundState
from live.domain.payment import PaymentId, PaymentState
from live.payments.port import AuthoriseRequest, MoneyRequest, Provider, Verdict
from live.payments.providers.invoice import Invoice
from live.payments.providers.sandbox import SandboxProvider
from tests.support.http_provider import ExampleServer, running_example
from tests.support.sandbox import KEY, SandboxServer, running_sandbox
from tests.support.stripe_server import StripeServer

PRICE = 990
TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A provider, the tokens that make it do things, and the hands of the world around it."""

    provider: Provider
    approve: str
    decline: str
    action: str
    lose: str
    misbehave: Callable[..., Awaitable[None]]
    finish: Callable[[str, str], Awaitable[None]]
    """(ref, approve | decline): what the buyer does at their bank."""
    bank: Callable[[str, str], Awaitable[None]]
    """(ref, succeeded | failed): what their bank does with refunds, days later."""
    lists: bool = True
    """Whether it lists the charges in its books."""


@pytest.fixture(scope="module")
def sandbox_server(scratch: Path) -> Iterator[SandboxServer]:
    with running_sandbox(scratch / "sandbox-contract") as server:
        yield server


@pytest.fixture(scope="module")
def stripe_server() -> Iterator[StripeServer]:
    server = StripeServer()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def example_server(scratch: Path) -> Iterator[ExampleServer]:
    with running_example(scratch / "example-contract.sqlite3") as server:
        yield server


def sandbox_bench(server: SandboxServer) -> Bench:
    async def finish(ref: str, verb: str) -> None:
        async with server.client() as client:
            await client.post(f"/pay/{ref}?approve={'yes' if verb == 'approve' else 'no'}")

    return Bench(
        SandboxProvider(
            "http://sandbox", key=KEY, uds=str(server.uds), timeout_seconds=TIMEOUT_SECONDS
        ),
        approve="tok_approve",
        decline="tok_decline",
        action="tok_action_required",
        lose="tok_timeout_after_charge",
        misbehave=server.misbehave,
        finish=finish,
        bank=server.bank,
    )


def stripe_bench(server: StripeServer) -> Bench:
    async def bank(ref: str, state: str) -> None:
        await server.buyer(ref, "refunds_succeed" if state == "succeeded" else "refunds_fail")

    return Bench(
        server.provider(timeout_seconds=TIMEOUT_SECONDS),
        approve="pm_card_visa",
        decline="pm_card_chargeDeclined",
        action="pm_card_authenticationRequired",
        lose="pm_hangs_after_charge",
        misbehave=server.misbehave,
        finish=server.buyer,
        bank=bank,
    )


def example_bench(server: ExampleServer) -> Bench:
    return Bench(
        server.provider(timeout_seconds=TIMEOUT_SECONDS),
        approve="tok_approve",
        decline="tok_decline",
        action="tok_action_required",
        lose="tok_lose",
        misbehave=server.misbehave,
        finish=server.finish,
        bank=server.bank,
        lists=False,
    )


async def _nothing(*_: str, **__: object) -> None:
    """An invoice has no world around it."""


def invoice_bench() -> Bench:
    return Bench(
        Invoice(),
        approve="",
        decline="",
        action="",
        lose="",
        misbehave=_nothing,
        finish=_nothing,
        bank=_nothing,
        lists=False,
    )


@pytest.fixture
def benches(
    sandbox_server: SandboxServer, stripe_server: StripeServer, example_server: ExampleServer
) -> Mapping[str, Callable[[], Bench]]:
    return {
        "sandbox": partial(sandbox_bench, sandbox_server),
        "stripe": partial(stripe_bench, stripe_server),
        "http": partial(example_bench, example_server),
        "invoice": invoice_bench,
    }


@pytest.fixture(params=["sandbox", "stripe", "http"])
async def strict(
    request: pytest.FixtureRequest, benches: Mapping[str, Callable[[], Bench]]
) -> AsyncIterator[Bench]:
    """The providers that can say no."""
    bench = benches[request.param]()
    yield bench
    await bench.provider.close()
    await bench.misbehave()


@pytest.fixture(params=["sandbox", "stripe", "http", "invoice"])
async def bench(
    request: pytest.FixtureRequest, benches: Mapping[str, Callable[[], Bench]]
) -> AsyncIterator[Bench]:
    bench = benches[request.param]()
    yield bench
    await bench.provider.close()


def wanted(token: str | None) -> AuthoriseRequest:
    return AuthoriseRequest(
        payment=PaymentId(str(uuid4())),
        amount_minor=PRICE,
        currency="EUR",
        token=token,
        metadata={"show": "demo"},
    )


def money(
    request: AuthoriseRequest, amount: int = PRICE, *, ref: str | None = None, key: str = ""
) -> MoneyRequest:
    return MoneyRequest(
        payment=request.payment,
        ref=ref,
        amount_minor=amount,
        currency="EUR",
        key=key or str(uuid4()),
    )


async def test_money_goes_there_and_back(bench: Bench) -> None:
    """Authorise, capture, refund: each is done, but that of an invoice nobody says that it was
    paid; the ref is one and stays."""
    request = wanted(bench.approve)
    said = await bench.provider.authorise(request)
    again = await bench.provider.authorise(request)
    found = await bench.provider.look_up(request.payment, said.ref)
    captured = await bench.provider.capture(money(request, ref=said.ref))
    results = [
        await bench.provider.refund(money(request, 400, ref=said.ref)),
        await bench.provider.refund(money(request, 590, ref=said.ref)),
    ]

    assert {one.state for one in (said, again, found)} == {PaymentState.AUTHORISED}
    assert said.ref is not None and {said.ref, again.ref, found.ref} == {said.ref}
    assert {result.verdict for result in results} == {Verdict.DONE}
    asked = bench.provider.name != "invoice"
    assert captured.verdict is (Verdict.DONE if asked else Verdict.PENDING)


async def captured_charge(strict: Bench) -> tuple[AuthoriseRequest, str]:
    """A charge of `PRICE` that can be paid back, and its ref."""
    request = wanted(strict.approve)
    ref = (await strict.provider.authorise(request)).ref
    assert ref is not None
    await strict.provider.capture(money(request, ref=ref))
    return request, ref


@pytest.mark.parametrize(
    ("state", "verdict", "refunded"),
    [("succeeded", Verdict.DONE, 400), ("failed", Verdict.REFUSED, 0)],
)
async def test_refund_that_waits_is_not_done_before_the_bank_says_so(
    strict: Bench, state: str, verdict: Verdict, refunded: int
) -> None:
    """Taken on is pending, asked again with the same key or looked up; nothing counts as refunded
    in the look-up or the books, until the bank has decided."""
    request, ref = await captured_charge(strict)
    await strict.misbehave(refunds="pending")
    asked = money(request, 400, ref=ref)

    waiting = [await strict.provider.refund(asked), await strict.provider.refund(asked)]
    waiting.append(await strict.provider.look_up_refund(asked) or waiting[0])
    before = await strict.provider.look_up(request.payment, ref)
    await strict.misbehave()
    await strict.bank(ref, state)
    after = await strict.provider.look_up(request.payment, ref)

    assert {result.verdict for result in waiting} == {Verdict.PENDING}
    assert (before.state, before.refunded_minor) == (PaymentState.CAPTURED, 0)
    assert (await strict.provider.refund(asked)).verdict is verdict
    assert after.refunded_minor == refunded
    if strict.lists:
        assert await refunded_in_books(strict, request.payment) == refunded


async def refunded_in_books(strict: Bench, payment: PaymentId) -> int:
    cursor: str | None = None
    while True:
        page = await strict.provider.list_charges(cursor=cursor, limit=100)
        for charge in page.charges:
            if charge.payment == payment:
                return charge.refunded_minor
        cursor = page.cursor
        assert cursor is not None, "not in the books"


async def test_refund_that_failed_stays_failed_for_its_key(strict: Bench) -> None:
    """A repeat tells the failure with its reason; another key pays, once."""
    request, ref = await captured_charge(strict)
    await strict.misbehave(refunds="failed")
    failing = money(request, PRICE, ref=ref)
    first = await strict.provider.refund(failing)
    await strict.misbehave()

    again = await strict.provider.refund(failing)
    anew = await strict.provider.refund(money(request, PRICE, ref=ref))

    assert first.verdict is again.verdict is Verdict.REFUSED
    assert first.reason and first.reason == again.reason
    assert anew.verdict is Verdict.DONE
    assert (await strict.provider.look_up(request.payment, ref)).refunded_minor == PRICE


async def test_refund_that_was_done_may_come_back(strict: Bench) -> None:
    """The buyer's bank returns it later: the look-up by its key and the sums say so."""
    request, ref = await captured_charge(strict)
    done = money(request, 400, ref=ref)
    assert (await strict.provider.refund(done)).verdict is Verdict.DONE

    await strict.bank(ref, "failed")

    found = await strict.provider.look_up_refund(done)
    assert found is not None and found.verdict is Verdict.REFUSED
    truth = await strict.provider.look_up(request.payment, ref)
    assert (truth.state, truth.refunded_minor) == (PaymentState.CAPTURED, 0)
    assert await strict.provider.look_up_refund(money(request, 400, ref=ref)) is None


async def test_refunds_are_listed_one_by_one(strict: Bench) -> None:
    """Each with its key, its amount and what became of it; an unknown payment has no list."""
    request, ref = await captured_charge(strict)
    asked = [money(request, amount, ref=ref) for amount in (400, 100, 50)]
    for one, fate in zip(asked, ("succeeded", "failed", "pending"), strict=True):
        await strict.misbehave(refunds=fate)
        await strict.provider.refund(one)
    await strict.misbehave()

    found = await strict.provider.list_refunds(request.payment, ref)
    unknown = await strict.provider.list_refunds(PaymentId(str(uuid4())), None)

    assert found is not None
    states = (RefundState.DONE, RefundState.FAILED, RefundState.DUE)
    assert {(one.key, one.amount_minor, one.state) for one in found} == {
        (one.key, one.amount_minor, state) for one, state in zip(asked, states, strict=True)
    }
    assert unknown is None


async def test_refund_is_paid_once_however_late_its_repeat(strict: Bench) -> None:
    """Also when the provider has forgotten its idempotency keys."""
    request, ref = await captured_charge(strict)
    asked = money(request, 400, ref=ref)
    await strict.provider.refund(asked)
    if strict.provider.name == "stripe":
        await strict.misbehave(forget_keys=True)

    again = await strict.provider.refund(asked)

    assert again.verdict is Verdict.DONE
    assert (await strict.provider.look_up(request.payment, ref)).refunded_minor == 400


async def test_void_is_done_and_may_be_repeated_or_is_refused_as_done(bench: Bench) -> None:
    """A void whose answer was lost is asked for again: done, or refused and found to be done."""
    request = wanted(bench.approve)
    said = await bench.provider.authorise(request)
    first = await bench.provider.void(money(request, ref=said.ref))
    second = await bench.provider.void(money(request, ref=said.ref))
    assert first.verdict is Verdict.DONE
    if second.verdict is not Verdict.DONE:
        truth = await bench.provider.look_up(request.payment, said.ref)
        assert (second.verdict, truth.state) == (Verdict.REFUSED, PaymentState.VOIDED)


async def test_books_end(bench: Bench) -> None:
    """Every charge of ours is on exactly one page, and the last page says so."""
    request = wanted(bench.approve)
    await bench.provider.authorise(request)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(100):
        page = await bench.provider.list_charges(cursor=cursor, limit=2)
        seen += [charge.payment for charge in page.charges]
        cursor = page.cursor
        if cursor is None:
            break
    assert cursor is None
    assert len(seen) == len(set(seen))
    assert (request.payment in seen) == bench.lists


async def test_decline_says_why(strict: Bench) -> None:
    """A declined card is an answer with a reason; the repeat and the look-up say the same."""
    request = wanted(strict.decline)
    said = await strict.provider.authorise(request)
    again = await strict.provider.authorise(request)
    found = await strict.provider.look_up(request.payment, said.ref)
    assert said.state is again.state is PaymentState.DECLINED
    assert "declined" in said.reason
    assert found.state in (PaymentState.DECLINED, PaymentState.VOIDED)


@pytest.mark.parametrize("token", ["nobody-knows-this", None])
async def test_token_that_is_none_is_declined(strict: Bench, token: str | None) -> None:
    """Whatever a client sends as a token charges nobody by accident."""
    assert (await strict.provider.authorise(wanted(token))).state is PaymentState.DECLINED


async def test_lost_reply_is_unknown_and_found_again(strict: Bench) -> None:
    """Charged, and the answer never came: a look-up without the ref and a repeat both tell it."""
    request = wanted(strict.lose)
    lost = await strict.provider.authorise(request)
    found = await strict.provider.look_up(request.payment, None)
    repeated = await strict.provider.authorise(request)
    assert lost.state is PaymentState.UNKNOWN
    assert found.state is repeated.state is PaymentState.AUTHORISED
    assert found.ref == repeated.ref


async def test_look_up_of_nothing_says_created(strict: Bench) -> None:
    """A payment that the provider never heard of is as it was created."""
    said = await strict.provider.look_up(PaymentId(str(uuid4())), None)
    assert said.state is PaymentState.CREATED


async def test_provider_down_is_unknown(strict: Bench) -> None:
    """An answer of 500 says nothing: not about a charge, not about a capture."""
    request = wanted(strict.approve)
    said = await strict.provider.authorise(request)
    await strict.misbehave(down=True)
    other = await strict.provider.authorise(wanted(strict.approve))
    found = await strict.provider.look_up(request.payment, said.ref)
    captured = await strict.provider.capture(money(request, ref=said.ref))
    assert other.state is found.state is PaymentState.UNKNOWN
    assert captured.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("verb", "states"),
    [
        ("approve", {PaymentState.AUTHORISED}),
        ("decline", {PaymentState.DECLINED, PaymentState.VOIDED}),
    ],
)
async def test_action_is_finished_by_the_buyer(
    strict: Bench, verb: str, states: set[PaymentState]
) -> None:
    """The answer carries what they must do; afterwards a look-up tells what they did."""
    request = wanted(strict.action)
    asked = await strict.provider.authorise(request)
    assert asked.state is PaymentState.ACTION_REQUIRED
    assert asked.action is not None and asked.ref is not None
    await strict.finish(asked.ref, verb)
    assert (await strict.provider.look_up(request.payment, asked.ref)).state in states


async def test_capture_and_refunds_add_up(strict: Bench) -> None:
    """Capture once, refund in parts up to the capture, and not one unit more."""
    request = wanted(strict.approve)
    ref = (await strict.provider.authorise(request)).ref
    early = await strict.provider.refund(money(request, 1, ref=ref))
    await strict.provider.capture(money(request, ref=ref))
    part = await strict.provider.refund(money(request, 400, ref=ref))
    half = await strict.provider.look_up(request.payment, ref)
    too_much = await strict.provider.refund(money(request, 591, ref=ref))
    await strict.provider.refund(money(request, 590, ref=ref))
    whole = await strict.provider.look_up(request.payment, ref)

    assert [early.verdict, part.verdict, too_much.verdict] == [
        Verdict.REFUSED,
        Verdict.DONE,
        Verdict.REFUSED,
    ]
    assert (half.state, half.refunded_minor) == (PaymentState.PARTIALLY_REFUNDED, 400)
    assert (whole.state, whole.captured_minor, whole.refunded_minor) == (
        PaymentState.REFUNDED,
        PRICE,
        PRICE,
    )


async def test_refund_repeated_with_its_key_happens_once(strict: Bench) -> None:
    """The key of a refund, not its amount, makes it another one."""
    request = wanted(strict.approve)
    ref = (await strict.provider.authorise(request)).ref
    await strict.provider.capture(money(request, ref=ref))
    one = money(request, 100, ref=ref)
    await asyncio.gather(strict.provider.refund(one), strict.provider.refund(one))
    assert (await strict.provider.look_up(request.payment, ref)).refunded_minor == 100


async def test_capture_after_void_and_void_after_capture_are_refused(strict: Bench) -> None:
    """One of the two wins for good."""
    gone, kept = wanted(strict.approve), wanted(strict.approve)
    for request in (gone, kept):
        await strict.provider.authorise(request)
    await strict.provider.void(money(gone))
    await strict.provider.capture(money(kept))
    assert (await strict.provider.capture(money(gone))).verdict is Verdict.REFUSED
    assert (await strict.provider.void(money(kept))).verdict is Verdict.REFUSED


async def test_void_of_an_unfinished_action_frees_the_buyer(strict: Bench) -> None:
    """After it they cannot pay any more."""
    request = wanted(strict.action)
    ref = (await strict.provider.authorise(request)).ref
    voided = await strict.provider.void(money(request, ref=ref))
    found = await strict.provider.look_up(request.payment, ref)
    assert voided.verdict is Verdict.DONE
    assert found.state is PaymentState.VOIDED


async def test_lost_capture_is_unknown_and_then_known(strict: Bench) -> None:
    """The provider captured and never said so: the look-up tells it."""
    request = wanted(strict.approve)
    ref = (await strict.provider.authorise(request)).ref
    await strict.misbehave(hang_captures=True)
    lost = await strict.provider.capture(money(request, ref=ref))
    truth = await strict.provider.look_up(request.payment, ref)
    assert lost.verdict is Verdict.UNKNOWN
    assert truth.captured_minor == PRICE
