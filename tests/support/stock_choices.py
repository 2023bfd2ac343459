"""What the simulator draws: who does something, under which key, and for which units."""

from collections import Counter
from random import Random

from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.stock.engine import StockEngine
from tests.support.stock_checks import Checks
from tests.support.stock_clock import START_MS
from tests.support.stock_kit import buyer as buyer_number
from tests.support.stock_model import Model, Request
from tests.support.stock_rules import GUEST

BUYERS = 14
KEYS_EACH = 5
HASH_SLOTS = 5


def simulated(number: int) -> BuyerId:
    """Every fifth one is a guest, and these come from two ranges of addresses."""
    plain = buyer_number(number)
    return BuyerId(GUEST + bytes((0, 0, 0, number % 2)) + plain[8:]) if number % 5 == 2 else plain


class Choices(Checks):
    """Draws from the seed alone; in `seen` is what was covered."""

    def __init__(self, engine: StockEngine, show: ShowId, seed: int) -> None:
        super().__init__(engine, show, Model(START_MS), Random(seed))
        self.keys = {
            simulated(n): [self._new_key() for _ in range(KEYS_EACH)] for n in range(BUYERS)
        }
        self.versions = Counter[int]()
        self.operations = 0
        self.seen = Counter[str]()  # what was covered: command and answer

    def _new_key(self) -> HoldKey:
        return HoldKey(self.random.randbytes(16))

    def _who(self) -> BuyerId:
        eager = self.random.random() < 0.25  # one buyer reaches the bound on their records
        return simulated(0 if eager else self.random.randrange(BUYERS))

    def _key(self, who: BuyerId) -> HoldKey:
        keys = self.keys[who]
        at = self.random.randrange(len(keys))
        if self.random.random() < 0.3:
            keys[at] = self._new_key()
        return keys[at]

    def _held_key(self, who: BuyerId) -> HoldKey:
        """Mostly a key that Redis knows, so that commands find something to do."""
        records = self.model.buyers.get(who, [])
        if records and self.random.random() < 0.8:
            return self.random.choice(records).key
        return self._key(who)

    def _lines(self) -> tuple[Line, ...]:
        if self.random.random() < 0.01:
            return (Line(HASH_SLOTS, 1),)  # an offer that Redis does not know
        count = self.random.choice((1, 1, 1, 1, 2, 3))
        slots = self.random.sample(range(HASH_SLOTS), count)
        return tuple(Line(slot, self.random.choice((1, 1, 2, 3))) for slot in slots)

    def _sale_lines(self) -> tuple[Line, ...]:
        """Mostly the offer that is sold to whoever pays first."""
        if self.random.random() < 0.2:
            return self._lines()
        return (Line(HASH_SLOTS - 1, self.random.choice((1, 1, 2, 5))),)

    def _requests(self) -> list[Request]:
        requests = [self._request() for _ in range(self.random.choice((1, 2, 5, 12, 40)))]
        if len(requests) > 4:  # repeats and conflicts inside one batch
            requests[-1] = requests[0]
            requests[-2] = (*requests[1][:2], self._lines())
        return requests

    def _request(self) -> Request:
        who = self._who()
        key = self._key(who)
        waiting = [r for r in self.model.buyers.get(who, []) if r.state == "W"]
        if waiting and self.random.random() < 0.5:  # takes a little while they wait for more
            return who, self._new_key(), (Line(waiting[0].lines[0].slot, 1),)
        known = self.model.find(who, key)
        lines = known.lines if known and self.random.random() < 0.6 else self._lines()
        if self.random.random() < 0.1:  # the same cart, its items in another order
            lines = tuple(reversed(lines))
        return who, key, lines

    def _count(self, command: str, answer: object, operations: int = 1) -> None:
        self.operations += operations
        self.seen[f"{command} {answer}"] += operations
