"""Reads of a show's stock that change nothing, but for the snapshot of all of it (snapshot.py)."""

from live.base.errors import Busy
from live.domain.hold import LiveHold, Waiting
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Stock
from live.domain.stock import BuyerState, ShowFigures
from live.stock.calls import StockCalls
from live.stock.keys import show_keys
from live.stock.letters import Kept
from live.stock.records import STATES, read_records, read_stock
from live.stock.replies import as_bytes, as_list, as_number


async def read_figures(calls: StockCalls, show: ShowId) -> ShowFigures:
    """Raises Busy, too, where Redis lost any part of the show's stock."""
    k = show_keys(show)
    keys = (k.meta, k.offers, k.outbox, k.wait, k.buyers, k.deadlines, k.guests, k.refused)
    at, last, *rest = as_list(await calls.run("figures", show, keys))
    offers: dict[int, Stock] = {}
    waiting: dict[int, int] = {}
    for slot_bytes, packed, count in zip(rest[0::3], rest[1::3], rest[2::3], strict=True):
        slot = int.from_bytes(as_bytes(slot_bytes), "big")
        offers[slot] = read_stock(as_bytes(packed))
        waiting[slot] = as_number(count)
    return ShowFigures(as_number(at), as_bytes(last).decode(), offers, waiting)


async def read_missing(calls: StockCalls, show: ShowId) -> tuple[str, ...]:
    """Which parts of the show's stock Redis has lost, by the names of its keys.

    Raises Busy where it does not answer. None, although the show is not known: the whole
    server is another one, or restarted.
    """
    k = show_keys(show)
    looks = {
        "meta": (b"HGET", k.meta, b"stock_epoch"),
        "buyers": (b"HGET", k.buyers, b"mark"),
        "deadlines": (b"ZSCORE", k.deadlines, b"mark"),
        "wait": (b"ZSCORE", k.wait, b"mark"),
        "guests": (b"HGET", k.guests, b"mark"),
        "refused": (b"ZSCORE", k.refused, b"mark"),
    }
    found = {name: await calls.send(*look, show=show) for name, look in looks.items()}
    lost = [name for name, value in found.items() if value is None]
    wanted = await calls.send(b"HGET", k.meta, b"offers", show=show)
    known = as_number(await calls.send(b"HLEN", k.offers, show=show))
    if wanted is not None and known < int(as_bytes(wanted)):
        lost.append("offers")
    if not await _has_group(calls, show):
        lost.append("outbox")
    return tuple(lost)


async def _has_group(calls: StockCalls, show: ShowId) -> bool:
    try:
        groups = await calls.send(
            b"XINFO", b"GROUPS", show_keys(show).outbox, show=show
        )  # fmt: skip
    except Busy as error:
        if "ERR" not in str(error):  # no such key
            raise
        return False
    return bool(as_list(groups))


async def read_buyer(calls: StockCalls, show: ShowId, buyer: BuyerId) -> BuyerState:
    """Live holds, places in waitlists, and what was sold; one read."""
    k = show_keys(show)
    reply = as_list(await calls.run("buyer", show, (k.meta, k.buyers, k.wait), buyer))
    now, positions = as_number(reply[0]), iter(reply[2:])
    holds: list[LiveHold] = []
    waiting: list[Waiting] = []
    sold: list[HoldKey] = []
    for record in read_records(as_bytes(reply[1])):
        if record.state == Kept.WAITING:
            line = record.lines[0]
            place = as_number(next(positions))
            waiting.append(Waiting(line.slot, record.key, line.qty, place))
        elif record.state == Kept.PAYING or (record.state == Kept.HELD and record.time > now):
            state = STATES[record.state]
            holds.append(LiveHold(record.key, state, record.lines, record.time))
        elif record.state == Kept.SOLD:
            sold.append(record.key)
    return BuyerState(tuple(holds), tuple(waiting), tuple(sold))
