"""Payments as gateways leave them that die between two steps of a checkout."""

from uuid import uuid4

from live.domain.caller import Caller
from live.domain.hold import HoldState
from live.domain.ids import HoldKey, new_order_id
from live.domain.offer import Mode
from live.domain.payment import NewPayment, Payment, PaymentId, PaymentState, PricedLine
from live.payments.port import authorise_request
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import Sale, new_key


async def opened(
    sale: Sale,
    caller: Caller,
    hold: HoldKey,
    token: str = "tok_approve",
    *,
    mode: Mode = Mode.HOLD,
    window_ms: int = 1,
) -> Payment:
    """What a gateway has done when it dies just before it calls the provider."""
    assert caller.buyer is not None
    held_until = 0
    if mode is Mode.HOLD:
        began = await sale.stock.begin(sale.show, caller.buyer, hold, window_ms=window_ms)
        held_until = began.held_until
    found = await sale.payments.open_payment(
        NewPayment(
            id=PaymentId(str(uuid4())),
            order=new_order_id(),
            show=sale.show,
            buyer=caller.buyer,
            sub=caller.sub,
            hold=hold,
            attempt=new_key(),
            mode=mode,
            lines=(PricedLine(0, 1, PRICE),),
            amount_minor=PRICE,
            currency="EUR",
            provider="sandbox",
            token=token,
            contact=None,
            held_until=held_until,
        )
    )
    return found.payment


async def authorised(sale: Sale, caller: Caller, hold: HoldKey) -> Payment:
    """What a gateway has done when it dies between the provider's yes and its confirmation."""
    payment = await opened(sale, caller, hold)
    request = authorise_request(payment)
    while (said := await sale.provider.authorise(request)).state is not PaymentState.AUTHORISED:
        assert said.state is PaymentState.UNKNOWN  # a busy machine: the answer was late
    await sale.payments.record(payment.id, PaymentState.AUTHORISED, ref=said.ref)
    return payment


async def lose_hold(sale: Sale, caller: Caller, hold: HoldKey) -> None:
    """A failure was told that was not the provider's last word; the buyer gave the hold back."""
    assert caller.buyer is not None
    await sale.stock.revert(sale.show, caller.buyer, hold, held_until=2**40)
    moved = await sale.stock.release(sale.show, caller.buyer, hold)
    assert not moved.done or moved.state is HoldState.RELEASED


async def only_payment(sale: Sale) -> PaymentId:
    """The id of the sale's one payment."""
    return PaymentId(str(await sale.pool.fetchval("SELECT id FROM payments")))
