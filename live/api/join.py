"""What a viewer is given when they join a show, and what pages show of it.

Always: made from the followed show in memory and one Redis read for what the viewer has themselves;
no Postgres query. A viewer sees no drafts, and a rehearsal only with its passcode.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

import msgspec

from live.api.limits import AddressLimit
from live.base.decode import read
from live.base.errors import Busy, Denied, NotFound, Rehearsing
from live.buying.me import MeView
from live.connection.addresses import range_of
from live.domain.caller import Caller
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.show import ShowState, ShowStatus, ShowView, passcode_digest
from live.domain.ways import open_to
from live.hosting.views import view_show
from live.showlog.follower import Follower

# Wrong passcodes of one show, range of addresses and worker: somebody who looks it up and mistypes
# never notices, and six letters would take a thousand years.
PASSCODES_BURST, PASSCODE_SECONDS = 10, 30.0


class Door(Protocol):
    """Keeps banned people out. Raises Banned."""

    async def refuse_banned(self, caller: Caller, show: ShowId) -> None: ...


class Belongings(Protocol):
    async def view(self, caller: Caller, show: ShowId) -> MeView: ...


class RunningShows(Protocol):
    async def list_running(self, *, limit: int = 50) -> list[ShowState]: ...


class _Asked(msgspec.Struct, frozen=True):
    """What of the connect request's `data` concerns joining; its `show` was read before."""

    passcode: str | None = None


_asked = msgspec.json.Decoder(_Asked | None)


class _Passcodes:
    """Lets those into a rehearsal who know its passcode, and nobody who guesses."""

    def __init__(self) -> None:
        self._wrong = AddressLimit(burst=PASSCODES_BURST, per_second=1 / PASSCODE_SECONDS)

    def check(self, state: ShowState, asked: bytes, address: str | None) -> None:
        """Raises Rehearsing for a viewer of a rehearsal who does not know its passcode.

        Raises Busy where too many were wrong. Whoever sends none waits for the show, and guesses
        nothing. This machine counts, too: behind a proxy that was not named all viewers are of it.
        """
        if state.status is not ShowStatus.REHEARSAL:
            return
        given = read(_asked, asked)
        passcode = "" if given is None else given.passcode or ""
        if not passcode:
            raise _rehearsing()
        now = time.monotonic()
        where = f"{state.id} {range_of(address) or 'this machine'}"
        if not self._wrong.has(where, now=now):
            raise Busy(
                "too many wrong passcodes: wait a minute", retry_ms=int(PASSCODE_SECONDS * 1_000)
            )
        if not compare_digest(passcode_digest(state.id, passcode), state.passcode):
            self._wrong.take(where, now=now)
            raise _rehearsing()


def _rehearsing() -> Rehearsing:
    return Rehearsing("the show is being rehearsed: its passcode is needed")


def _check_joined(state: ShowState, *, joined: bool) -> None:
    """Raises Denied for a viewer of a rehearsal who did not join it, which takes its passcode."""
    if state.status is ShowStatus.REHEARSAL and not joined:
        raise Denied("the show is being rehearsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The `data` of a connect answer, and the answer of `show.state`; `time` is Unix ms.

    `providers`: the shop's ways to pay, as far as they are open to this viewer: invoices are not to
    guests. A purchase may use those of them that the show's and its offers' own lists have, too,
    where these are not empty.
    """

    show: ShowView
    me: MeView
    time: int
    providers: tuple[str, ...] = ()


class Join:
    def __init__(
        self,
        follower: Follower,
        me: Belongings,
        door: Door,
        *,
        providers: tuple[str, ...] = (),
    ) -> None:
        self._follower = follower
        self._me = me
        self._door = door
        self._providers = providers
        self._passcodes = _Passcodes()

    async def snapshot(
        self, caller: Caller, show: ShowId, asked: bytes = b"", address: str | None = None
    ) -> Snapshot:
        """For a connect with the data `asked`, from this address.

        Raises NotFound, Banned, Rehearsing, BadField, Busy.
        """
        return await self._snapshot(
            caller, show, lambda state: self._passcodes.check(state, asked, address)
        )

    async def state(self, caller: Caller, show: ShowId, *, joined: bool) -> Snapshot:
        """The same later on, by a connection that `joined` the show or another one."""
        return await self._snapshot(caller, show, lambda state: _check_joined(state, joined=joined))

    async def _snapshot(
        self, caller: Caller, show: ShowId, check: Callable[[ShowState], None]
    ) -> Snapshot:
        await self._shown(show)  # first, so that an unknown show is told as such
        await self._door.refuse_banned(caller, show)
        me = await self._me.view(caller, show)
        # The show last: between it and the reply nothing is awaited, so the snapshot is as new as
        # the offsets that go with it.
        state, stock = await self._shown(show)
        if not caller.may_moderate(show):
            check(state)
        view = view_show(state, stock, drafts=caller.may_moderate(show))
        return Snapshot(
            show=view,
            me=me,
            time=time.time_ns() // 1_000_000,
            providers=open_to(self._providers, guest=caller.guest or caller.buyer is None),
        )

    async def view(self, show: ShowId) -> ShowView:
        """The show with its latest figures. Raises NotFound, Busy."""
        return view_show(*await self._shown(show), drafts=False)

    async def _shown(self, show: ShowId) -> tuple[ShowState, Mapping[int, Stock]]:
        """What is told of the show, and its latest figures. Raises NotFound, Busy."""
        followed = await self._follower.follow(show)
        if followed.state is None:
            await self._follower.refuse_unknown(show)
        return followed.state, followed.stock

    async def public_view(self, show: ShowId) -> ShowView | None:
        """The same for a page; None where there is no such show."""
        try:
            return await self.view(show)
        except NotFound:
            return None

    def running(self, shows: RunningShows) -> Callable[[], Awaitable[Sequence[ShowView]]]:
        """Make the reader of the front page's list; it alone asks Postgres."""

        async def read() -> Sequence[ShowView]:
            return [view_show(state, {}, drafts=False) for state in await shows.list_running()]

        return read
