"""The way of a payment: what follows from what its provider said, for everything that it can say.

Method: a table of what is expected, and properties over every state of the row, word of the
provider, question that was asked, mode and age.
"""

from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.domain.hold import HoldDecision, HoldState
from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId
from live.domain.offer import Mode
from live.domain.outcomes import Outcome
from live.domain.payment import JobKind, Payment, PaymentId, PricedLine
from live.domain.payment import PaymentState as S
from live.domain.payment_flow import (
    NEVER_CHARGED,
    TOO_SLOW,
    Asked,
    AskVoid,
    Authorise,
    DoubtRefunds,
    LookUp,
    RecordState,
    Revert,
    Said,
    Step,
    TakeUnits,
    Wait,
    after_record,
    answer_of,
    first_step,
    give_up,
    is_done,
    is_sold,
    what_follows,
)
from live.domain.payment_states import (
    AWAITING_MONEY,
    FINAL,
    GIVEN_UP,
    MAY_HOLD_MONEY,
    NEXT,
    NOTHING_HELD,
    REFUNDABLE,
    SECURED,
    UNDECIDED,
    states_before,
)
from live.domain.stock import Transition

WINDOW_MS = 60_000
WHY = "because"


def payment_in(state: S, *, mode: Mode = Mode.HOLD, age_ms: int = 0) -> Payment:
    return Payment(
        id=PaymentId("7e2f8f5e-5f0c-4f43-8a3c-0f3d1a1c9a11"),
        order=OrderId("0b8a9a50-91a5-4f37-8f1c-6d1b6a1f2c22"),
        show=ShowId("demo"),
        buyer=BuyerId(bytes(16)),
        sub="ada",
        hold=HoldKey(bytes(16)),
        attempt=HoldKey(bytes(15) + b"\1"),
        mode=mode,
        lines=(PricedLine(0, 2, 450),),
        amount_minor=900,
        currency="EUR",
        provider="sandbox",
        token=None,
        ref=None,
        state=state,
        reason="",
        action=None,
        captured_minor=0,
        refunded_minor=0,
        tries=0,
        age_ms=age_ms,
        order_state=None,
    )


def follows(state: S, said: Said, *, mode: Mode = Mode.HOLD, late: bool = False) -> Sequence[Step]:
    payment = payment_in(state, mode=mode, age_ms=WINDOW_MS + late)
    return what_follows(payment, said, window_ms=WINDOW_MS)


PAID = (RecordState(S.AUTHORISED, WHY), TakeUnits())
UNKNOWN = (RecordState(S.UNKNOWN, WHY), Wait(soon=True))
DECLINED = (Revert(), RecordState(S.DECLINED, WHY, failed=True))
VOIDED = (Revert(), RecordState(S.VOIDED, WHY, failed=True))
BUYER_ACTS = (RecordState(S.ACTION_REQUIRED, WHY), Wait())
AT_WORK = (RecordState(S.AUTHORISING, WHY), Wait())
PARTLY_BACK = (DoubtRefunds(), *PAID)
ALL_BACK = (RecordState(S.REFUNDED, WHY),)
NEVER = (Revert(), RecordState(S.DECLINED, NEVER_CHARGED, failed=True))
OUT_OF_TIME = (AskVoid(Outcome.EXPIRED),)

# What the provider said: then in a checkout, and in the worker after a look-up in time, late, and
# after a charge.
TABLE: dict[S, tuple[Sequence[Step], Sequence[Step], Sequence[Step], Sequence[Step]]] = {
    S.CREATED: (UNKNOWN, (Authorise(),), NEVER, UNKNOWN),
    S.AUTHORISING: (AT_WORK, AT_WORK, OUT_OF_TIME, AT_WORK),
    S.AUTHORISED: (PAID, PAID, PAID, PAID),
    S.CAPTURING: (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    S.CAPTURED: (UNKNOWN, PAID, PAID, PAID),
    S.PARTIALLY_REFUNDED: (UNKNOWN, PARTLY_BACK, PARTLY_BACK, PARTLY_BACK),
    S.REFUNDED: (UNKNOWN, ALL_BACK, ALL_BACK, ALL_BACK),
    S.DECLINED: (DECLINED, DECLINED, DECLINED, DECLINED),
    S.VOIDED: (VOIDED, VOIDED, VOIDED, VOIDED),
    S.UNKNOWN: (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    S.ACTION_REQUIRED: (BUYER_ACTS, BUYER_ACTS, OUT_OF_TIME, BUYER_ACTS),
}


@pytest.mark.parametrize("state", sorted(UNDECIDED))
@pytest.mark.parametrize("heard", S)
def test_what_follows_for_a_hold_that_is_paid(state: S, heard: S) -> None:
    """The row's own state decides nothing as long as it is open; the provider's word does."""
    checkout, in_time, late, charged = TABLE[heard]

    assert follows(state, Said(heard, Asked.CHECKOUT, WHY)) == checkout
    assert follows(state, Said(heard, Asked.CHECKOUT, WHY), late=True) == checkout
    assert follows(state, Said(heard, Asked.LOOK_UP, WHY)) == in_time
    assert follows(state, Said(heard, Asked.LOOK_UP, WHY), late=True) == late
    assert follows(state, Said(heard, Asked.CHARGE, WHY)) == charged


@pytest.mark.parametrize("heard", S)
def test_what_follows_for_a_click_that_is_paid(heard: S) -> None:
    """There is no hold to give back, and a buyer who waits does not wait for a bank."""
    checkout, in_time, late, charged = TABLE[heard]
    slow = heard is S.AUTHORISING

    def without_hold(steps: Sequence[Step]) -> list[Step]:
        return [step for step in steps if step != Revert()]

    said = Said(heard, Asked.CHECKOUT, WHY)
    waits = (RecordState(heard, WHY), AskVoid(TOO_SLOW)) if slow else checkout
    assert list(follows(S.CREATED, said, mode=Mode.FIRST_PAID)) == without_hold(waits)
    for asked, overdue, expected in [
        (Asked.LOOK_UP, False, in_time),
        (Asked.LOOK_UP, True, late),
        (Asked.CHARGE, False, charged),
    ]:
        said = Said(heard, asked, WHY)
        found = follows(S.CREATED, said, mode=Mode.FIRST_PAID, late=overdue)
        assert list(found) == without_hold(expected)


@pytest.mark.parametrize("state", S)
def test_who_finds_a_payment_asks_first_unless_the_money_is_there(state: S) -> None:
    """The ledger's word that the money is set aside needs no second one."""
    assert first_step(payment_in(state)) == (TakeUnits() if state is S.AUTHORISED else LookUp())


def test_failure_without_a_reason_is_told_by_its_state() -> None:
    """The buyer reads something."""
    assert follows(S.CREATED, Said(S.DECLINED, Asked.CHECKOUT)) == (
        Revert(),
        RecordState(S.DECLINED, "declined", failed=True),
    )


# Properties.


def payments_in(states: Iterable[S]) -> st.SearchStrategy[Payment]:
    return st.builds(
        payment_in,
        st.sampled_from(sorted(states)),
        mode=st.sampled_from(Mode),
        age_ms=st.integers(0, 3 * WINDOW_MS),
    )


def words_of(states: Iterable[S]) -> st.SearchStrategy[Said]:
    reasons = st.sampled_from(["", WHY])
    return st.builds(Said, st.sampled_from(sorted(states)), st.sampled_from(Asked), reasons)


payments, words = payments_in(S), words_of(S)
windows = st.integers(0, 3 * WINDOW_MS)
HOLDS_MONEY = MAY_HOLD_MONEY | REFUNDABLE


def rows_after(wanted: S) -> set[S]:
    """Every state that a row can be in after this was recorded, whoever moved it before."""
    return {wanted if wanted in after else before for before, after in NEXT.items()}


def ways(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The steps as they are run, for everything that the rows may say."""
    for at, step in enumerate(steps):
        if isinstance(step, RecordState):
            for now in rows_after(step.state):
                for rest in ways(after_record(now, steps[at + 1 :])):
                    yield [*steps[:at], RecordState(now), *rest]
            return
    yield list(steps)


@given(payments, words, windows)
def test_every_input_has_one_way(payment: Payment, said: Said, window_ms: int) -> None:
    """Units are taken, the hold is given back, the money is sent back, or somebody looks again."""
    steps = what_follows(payment, said, window_ms=window_ms)
    ends = [
        one for one in steps if isinstance(one, TakeUnits | Revert | AskVoid | Wait | Authorise)
    ]

    assert len(ends) <= 1
    assert sum(isinstance(step, RecordState) for step in steps) <= 1
    assert steps == what_follows(payment, said, window_ms=window_ms)
    if payment.state not in FINAL:
        assert steps


@given(payments, words_of(HOLDS_MONEY), windows)
def test_money_that_a_provider_holds_is_never_forgotten(
    payment: Payment, said: Said, window_ms: int
) -> None:
    """It takes its units or is sent back, or somebody looks again; its hold is not given away."""
    for way in ways(what_follows(payment, said, window_ms=window_ms)):
        assert Revert() not in way
        recorded = [step for step in way if isinstance(step, RecordState)]
        if recorded and recorded[-1].state in FINAL:
            continue  # the ledger sends it back (tests/integration/test_late_money.py)
        last = way[-1]
        kept = payment.state in FINAL and isinstance(last, RecordState)
        assert kept or isinstance(last, TakeUnits | AskVoid | Wait)


@given(payments_in(FINAL), words, windows)
def test_what_is_final_never_moves(payment: Payment, said: Said, window_ms: int) -> None:
    """No units are taken for it, no hold is given back; only money for it is told to the ledger."""
    steps = what_follows(payment, said, window_ms=window_ms)

    assert all(isinstance(step, RecordState) and step.state in MAY_HOLD_MONEY for step in steps)
    assert bool(steps) == (said.state in HOLDS_MONEY)


@given(payments, words, windows)
def test_hold_is_given_back_before_its_failure_is_recorded(
    payment: Payment, said: Said, window_ms: int
) -> None:
    """And only then; the buyer is told of nothing else."""
    steps = what_follows(payment, said, window_ms=window_ms)
    failed = [step for step in steps if isinstance(step, RecordState) and step.failed]

    for step in failed:
        assert step.state in GIVEN_UP and step.reason
        if payment.mode is Mode.HOLD:
            assert list(steps) == [Revert(), step]
    assert (Revert() in steps) <= bool(failed)


@given(payments, words, windows)
def test_row_has_the_last_word(payment: Payment, said: Said, window_ms: int) -> None:
    """Money that is there takes its units, whoever recorded it; what is final is left alone."""
    for way in ways(what_follows(payment, said, window_ms=window_ms)):
        for at, step in enumerate(way):
            if isinstance(step, RecordState) and step.state in SECURED:
                assert way[at + 1 :] == [TakeUnits()]
            if isinstance(step, RecordState) and step.state in FINAL:
                assert way[at + 1 :] == []
        if TakeUnits() in way:
            assert any(isinstance(step, RecordState) and step.state in SECURED for step in way)


@given(payments, words, windows)
def test_only_the_worker_asks_twice_and_only_once(
    payment: Payment, said: Said, window_ms: int
) -> None:
    """A charge follows a look-up that found nothing in time, and nothing else."""
    steps = what_follows(payment, said, window_ms=window_ms)

    if said.asked is Asked.CHECKOUT:
        assert DoubtRefunds() not in steps
    assert (Authorise() in steps) == (
        said.asked is Asked.LOOK_UP
        and said.state is S.CREATED
        and payment.state not in FINAL
        and payment.age_ms <= window_ms
    )


@pytest.mark.parametrize("state", S)
@pytest.mark.parametrize("mode", Mode)
def test_hold_of_a_payment_that_was_over_is_left_alone(state: S, mode: Mode) -> None:
    """Another payment may have begun on it."""
    steps = give_up(payment_in(state, mode=mode), S.VOIDED, WHY)

    assert (Revert() in steps) == (mode is Mode.HOLD and state not in FINAL)
    assert steps[-1] == RecordState(S.VOIDED, WHY, failed=True)


# States.


def test_every_state_is_of_one_kind() -> None:
    """Waiting for money, having it, or over."""
    kinds = [AWAITING_MONEY, SECURED, FINAL]

    assert sorted(state for kind in kinds for state in kind) == sorted(S)


def test_every_word_of_a_provider_tells_of_money() -> None:
    """It may be set aside, was taken, or neither. `capturing` is ours: no provider says it."""
    kinds = [MAY_HOLD_MONEY, REFUNDABLE, NOTHING_HELD, {S.CAPTURING}]

    assert sorted(state for kind in kinds for state in kind) == sorted(S)


def test_steps_between_states_only_lead_on() -> None:
    """Nothing leaves what is final, and money that was taken is not awaited again."""
    assert set(NEXT) == set(S)
    for before, after in NEXT.items():
        assert before not in after
        assert not (before in FINAL and after)
        assert not (before in SECURED and after & AWAITING_MONEY)
        for state in after:
            assert before in states_before(state)
    assert states_before(S.PARTIALLY_REFUNDED) == frozenset()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        *[(state, Outcome.DECLINED) for state in sorted(GIVEN_UP)],
        (S.ACTION_REQUIRED, Outcome.ACTION_REQUIRED),
        *[(state, Outcome.PROCESSING) for state in sorted(SECURED | {S.CREATED, S.REFUNDED})],
        *[(state, Outcome.PROCESSING) for state in (S.AUTHORISING, S.UNKNOWN)],
    ],
)
def test_what_the_buyer_is_told_meanwhile(state: S, told: Outcome) -> None:
    """`confirmed` is never said of a payment: only of an order."""
    assert answer_of(state) is told


@pytest.mark.parametrize("said", S)
def test_refused_void_is_done_where_nothing_is_held(said: S) -> None:
    """Whatever else the provider says keeps the void alive."""
    done = is_done(JobKind.VOID, 900, said=said, captured_minor=0)

    assert done == (said in NOTHING_HELD)
    assert not (done and said in HOLDS_MONEY)


def test_refused_capture_is_done_where_all_of_it_was_captured() -> None:
    """A part is not enough; of refunds nothing follows from a sum."""
    assert is_done(JobKind.CAPTURE, 900, said=S.CAPTURED, captured_minor=900)
    assert not is_done(JobKind.CAPTURE, 900, said=S.CAPTURED, captured_minor=899)
    with pytest.raises(AssertionError):
        is_done(JobKind.REFUND, 900, said=S.REFUNDED, captured_minor=900)


@pytest.mark.parametrize("outcome", Outcome)
def test_click_is_sold_by_two_answers(outcome: Outcome) -> None:
    """The first answer and that of a repeat."""
    answer = HoldDecision(outcome, slot=0, left=1, expires_at=0)

    assert is_sold(answer) == (outcome in {Outcome.HELD, Outcome.CONFIRMED})


@pytest.mark.parametrize("state", HoldState)
@pytest.mark.parametrize("done", [True, False])
def test_hold_is_sold_when_it_is_confirmed(state: HoldState, done: bool) -> None:
    """A confirmed hold of another payment is not this one's."""
    assert is_sold(Transition(done, state, ())) == (done and state is HoldState.CONFIRMED)
