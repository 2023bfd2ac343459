"""The sandbox provider as a real process, through its real client."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from live.domain.payment import PaymentId, PaymentState
from live.payments.port import AuthoriseRequest, MoneyRequest, Verdict
from live.payments.providers.sandbox import SandboxProvider
from tests.support.sandbox import KEY, SandboxServer


@pytest.fixture
async def provider(server: SandboxServer) -> AsyncIterator[SandboxProvider]:
    provider = SandboxProvider("http://sandbox", key=KEY, uds=str(server.uds), timeout_seconds=2.0)
    yield provider
    await provider.close()
    await server.misbehave()


def wanted(token: str | None, *, amount: int = 990) -> AuthoriseRequest:
    return AuthoriseRequest(
        payment=PaymentId(str(uuid4())),
        amount_minor=amount,
        currency="EUR",
        token=token,
        metadata={"show": "demo"},
    )


def money(request: AuthoriseRequest, amount: int, *, key: str = "") -> MoneyRequest:
    return MoneyRequest(
        payment=request.payment,
        ref=None,
        amount_minor=amount,
        currency="EUR",
        key=key or str(uuid4()),
    )


@pytest.mark.parametrize(
    ("token", "state"),
    [
        ("tok_approve", PaymentState.AUTHORISED),
        ("tok_decline", PaymentState.DECLINED),
        ("tok_async", PaymentState.AUTHORISING),
        ("tok_action_required", PaymentState.ACTION_REQUIRED),
        ("tok_nobody_knows", PaymentState.DECLINED),
        (None, PaymentState.DECLINED),
    ],
)
async def test_authorise_answers_by_token(
    provider: SandboxProvider, token: str | None, state: PaymentState
) -> None:
    """Each token ends as its name says; a token that is none is declined."""
    said = await provider.authorise(wanted(token))
    assert said.state is state
    assert (said.action is not None) == (state is PaymentState.ACTION_REQUIRED)


async def test_authorise_repeated_charges_once(provider: SandboxProvider) -> None:
    """The same payment asked for twice is one charge with one ref."""
    request = wanted("tok_approve")
    first, second = await asyncio.gather(provider.authorise(request), provider.authorise(request))
    assert first == second
    assert first.ref is not None


async def test_authorise_with_a_lost_reply_is_unknown_and_found_again(
    provider: SandboxProvider,
) -> None:
    """A charge whose answer never comes is `unknown`; a look-up, or a repeat, tells it."""
    request = wanted("tok_timeout_after_charge")
    lost = await provider.authorise(request)
    found = await provider.look_up(request.payment, None)
    repeated = await provider.authorise(request)

    assert lost.state is PaymentState.UNKNOWN
    assert found.state is PaymentState.AUTHORISED
    assert repeated == found


async def test_look_up_of_nothing_says_created(provider: SandboxProvider) -> None:
    """A payment that the provider never heard of is as it was created."""
    said = await provider.look_up(PaymentId(str(uuid4())), None)
    assert said.state is PaymentState.CREATED


async def test_authorise_when_provider_is_down_is_unknown(
    provider: SandboxProvider, server: SandboxServer
) -> None:
    """An answer of 500 says nothing about the charge."""
    await server.misbehave(down=True)
    assert (await provider.authorise(wanted("tok_approve"))).state is PaymentState.UNKNOWN


async def test_capture_and_refunds_add_up(provider: SandboxProvider) -> None:
    """Capture once, refund in parts up to the capture, and not one unit more."""
    request = wanted("tok_approve")
    await provider.authorise(request)
    early = await provider.refund(money(request, 1))
    captured = await provider.capture(money(request, 990, key="c" + request.payment))
    again = await provider.capture(money(request, 990, key="c" + request.payment))
    part = await provider.refund(money(request, 400))
    too_much = await provider.refund(money(request, 591))
    rest = await provider.refund(money(request, 590))
    truth = await provider.look_up(request.payment, None)

    assert [early.verdict, too_much.verdict] == [Verdict.REFUSED] * 2
    assert [r.verdict for r in (captured, again, part, rest)] == [Verdict.DONE] * 4
    assert (truth.captured_minor, truth.refunded_minor) == (990, 990)
    assert truth.state is PaymentState.REFUNDED


async def test_refund_repeated_with_its_key_happens_once(provider: SandboxProvider) -> None:
    """The key of a refund, not its amount, makes it another one."""
    request = wanted("tok_approve")
    await provider.authorise(request)
    await provider.capture(money(request, 990))
    one = money(request, 100)
    await asyncio.gather(provider.refund(one), provider.refund(one))
    assert (await provider.look_up(request.payment, None)).refunded_minor == 100


async def test_void_frees_and_then_capture_is_refused(provider: SandboxProvider) -> None:
    """After a void no money can be taken; voiding twice is fine."""
    request = wanted("tok_approve")
    await provider.authorise(request)
    first = await provider.void(money(request, 990))
    second = await provider.void(money(request, 990))
    captured = await provider.capture(money(request, 990))
    assert [first.verdict, second.verdict] == [Verdict.DONE] * 2
    assert captured.verdict is Verdict.REFUSED


async def test_books_survive_a_kill(provider: SandboxProvider, server: SandboxServer) -> None:
    """What was charged before kill -9 is charged afterwards, and the key still holds."""
    request = wanted("tok_approve")
    before = await provider.authorise(request)
    server.kill()
    server.start()
    assert await provider.authorise(request) == before


async def test_calls_with_a_wrong_key_do_nothing(server: SandboxServer) -> None:
    """Another bearer key is refused and charges nothing."""
    stranger = SandboxProvider("http://sandbox", key="another-key", uds=str(server.uds))
    request = wanted("tok_approve")
    said = await stranger.authorise(request)
    await stranger.close()
    assert said.state is PaymentState.UNKNOWN
    async with server.client() as client:
        assert (await client.get(f"/v1/charges/{request.payment}")).status_code == 404


async def test_list_pages_through_all_charges(provider: SandboxProvider) -> None:
    """Every charge appears on exactly one page."""
    made = {(await _charged(provider)).payment for _ in range(5)}
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await provider.list_charges(cursor=cursor, limit=2)
        seen += [charge.payment for charge in page.charges]
        cursor = page.cursor
        if cursor is None:
            break
    assert made <= set(seen)
    assert len(seen) == len(set(seen))


async def test_action_is_finished_at_the_providers_page(
    provider: SandboxProvider, server: SandboxServer
) -> None:
    """The redirect leads to a page; approving there authorises the payment."""
    request = wanted("tok_action_required")
    said = await provider.authorise(request)
    assert said.action is not None
    path = said.action.value.removeprefix("http://sandbox")
    async with server.client() as client:
        assert (await client.get(path)).status_code == 200
        await client.post(f"{path}?approve=yes")
    assert (await provider.look_up(request.payment, None)).state is PaymentState.AUTHORISED


async def test_sigterm_ends_it_even_while_calls_hang(tmp_path: Path) -> None:
    """A hanging call does not keep the process."""
    server = SandboxServer(tmp_path)
    server.start()
    provider = SandboxProvider("http://sandbox", key=KEY, uds=str(server.uds))
    hanging = asyncio.create_task(provider.authorise(wanted("tok_timeout_after_charge")))
    await _charge_appears(provider)
    await asyncio.to_thread(server.stop)
    assert (await hanging).state is PaymentState.UNKNOWN
    await provider.close()


async def test_second_process_waits_for_the_books(tmp_path: Path) -> None:
    """Another sandbox on the same books leaves the first one's socket alone, then takes over."""
    first, second = SandboxServer(tmp_path), SandboxServer(tmp_path)
    first.start()
    second.launch()
    provider = SandboxProvider("http://sandbox", key=KEY, uds=str(first.uds))
    before = await provider.authorise(request := wanted("tok_approve"))

    await asyncio.to_thread(first.stop)
    await asyncio.to_thread(second.wait_ready)

    assert await provider.authorise(request) == before
    await asyncio.to_thread(second.stop)
    assert not first.uds.exists()
    await provider.close()


async def test_waiting_process_ends_when_it_is_told(tmp_path: Path) -> None:
    """One that never had its turn ends on SIGTERM and takes nothing with it."""
    first, second = SandboxServer(tmp_path), SandboxServer(tmp_path)
    first.start()
    second.launch()
    second.stop()
    provider = SandboxProvider("http://sandbox", key=KEY, uds=str(first.uds))
    assert (await provider.authorise(wanted("tok_approve"))).state is PaymentState.AUTHORISED
    await provider.close()
    await asyncio.to_thread(first.stop)


async def _charge_appears(provider: SandboxProvider) -> None:
    async with asyncio.timeout(60):
        # The other process tells nobody when it has charged, so it is asked.
        while not (await provider.list_charges(cursor=None, limit=1)).charges:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _charged(provider: SandboxProvider) -> AuthoriseRequest:
    request = wanted("tok_approve")
    await provider.authorise(request)
    return request
