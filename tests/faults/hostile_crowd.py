"""Hostile buyers at the door of a running service: a few persons with several windows each, and few
keys that they use for everything; whatever they are told, nothing of theirs may break a promise.

Always: what each person sends is drawn from the seed; answers are not believed, not even read.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from live.client import Client, ClientError, Gone

WINDOWS = 2  # of each person
KEYS_EACH = 4
PAUSE_SECONDS = 0.1  # about, between two commands of a window: below the pace that is asked to wait
TOKENS = ("tok_approve", "tok_approve", "tok_decline", "tok_async", "tok_timeout_after_charge")

Command = dict[str, object]


@dataclass
class HostileBuyer:
    """One person. `keys`: every key they ever used."""

    url: str
    token: str
    show: str
    offers: Sequence[str]  # one of holds, one of direct sales
    random: Random
    keys: set[str] = field(default_factory=set)
    sent: int = 0
    _few: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Command after command in each window, until told to stop."""
        self._few = [self._new_key() for _ in range(KEYS_EACH)]
        async with asyncio.TaskGroup() as windows:
            for _ in range(WINDOWS):
                windows.create_task(self._window(stop))

    async def _window(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            # A connection that ends comes back by itself; who was thrown out opens another window.
            data: Command = {"show": self.show}
            async with Client(self.url, token=self.token, data=data) as client:
                with suppress(Gone):
                    while not stop.is_set():
                        await self._command(client)
            await asyncio.sleep(self.random.uniform(0, 0.5))

    async def _command(self, client: Client) -> None:
        method, data = self.random.choice(self._methods())()
        self.sent += 1
        try:
            await client.rpc(method, data)
        except Gone:
            raise
        except ClientError:
            pass  # an answer as good as any
        await asyncio.sleep(self.random.uniform(0, 2 * PAUSE_SECONDS))

    def _methods(self) -> list[Callable[[], tuple[str, Command]]]:
        return [self._hold] * 6 + [self._release] * 3 + [self._pay] * 6 + [self._buy] * 3 + [
            self._cart, self._join, self._leave, self._wrong
        ]  # fmt: skip

    def _new_key(self) -> str:
        key = str(UUID(bytes=self.random.randbytes(16), version=4))
        self.keys.add(key)
        return key

    def _key(self) -> str:
        at = self.random.randrange(KEYS_EACH)
        if self.random.random() < 0.2:
            self._few[at] = self._new_key()
        return self._few[at]

    def _hold(self) -> tuple[str, Command]:
        offer, qty = self.random.choice(self.offers), self.random.randint(1, 3)
        return "offer.hold", {"offer": offer, "qty": qty, "key": self._key()}

    def _cart(self) -> tuple[str, Command]:
        items = [{"offer": offer, "qty": self.random.randint(1, 2)} for offer in self.offers]
        return "offer.hold", {"items": items, "key": self._key()}

    def _release(self) -> tuple[str, Command]:
        return "hold.release", {"hold": self._key()}

    def _pay(self) -> tuple[str, Command]:
        return "hold.checkout", self._payment() | {"hold": self._key()}

    def _buy(self) -> tuple[str, Command]:
        bought = {"offer": self.random.choice(self.offers), "qty": self.random.randint(1, 2)}
        return "hold.checkout", self._payment() | bought

    def _payment(self) -> Command:
        attempt = self._key() if self.random.random() < 0.5 else self._new_key()
        return {"key": attempt, "provider": "sandbox", "token": self.random.choice(TOKENS)}

    def _join(self) -> tuple[str, Command]:
        return "waitlist.join", {"offer": self.offers[0], "qty": 1, "key": self._key()}

    def _leave(self) -> tuple[str, Command]:
        return "waitlist.leave", {"offer": self.offers[0]}

    def _wrong(self) -> tuple[str, Command]:
        """What no client of ours would send."""
        wrong: list[tuple[str, Command]] = [
            ("offer.hold", {"offer": "nothing", "qty": 0, "key": ""}),
            ("hold.checkout", {"hold": self._key(), "key": self._key(), "provider": "nobody"}),
            ("order.get", {"hold": self._key()}),
            ("show.state", {"show": "somewhere-else"}),
        ]
        return self.random.choice(wrong)
