"""Questions to Postgres that anybody may cause: a few queries a second, however many ask.

Always: one query is under way; who asks meanwhile shares the next one, and who asks the same shares
the answer; queries have a least distance, the questions that wait a bound.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

from live.aio.coalesce import Coalescer
from live.base.errors import Busy
from live.ledger.db.pool import DATABASE_ERRORS

ASKED_MAX = 10_000  # questions that wait; each has a connection behind it
ASKED_A_QUERY_MAX = 500
QUERY_EVERY_SECONDS = 0.05  # 20 a second at most

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def asked_together(query: Callable[[Sequence[K]], Awaitable[dict[K, V]]]) -> Coalescer[K, V]:
    """`query` answers all questions that it is given, and may raise DATABASE_ERRORS.

    Whoever asks hears Busy then, as where too many ask.
    """

    async def work(questions: Sequence[K]) -> list[V | Exception]:
        try:
            found = await query(questions)
        except DATABASE_ERRORS as error:
            raise Busy("the ledger does not answer") from error
        return [found[question] for question in questions]

    return Coalescer(
        work,
        batch_max=ASKED_A_QUERY_MAX,
        waiting_max=ASKED_MAX,
        rest_seconds=QUERY_EVERY_SECONDS,
        shared=True,
    )
