"""What all viewers of one audience process share."""

import asyncio
from dataclasses import dataclass, field

from live.domain.ids import ShowId
from live.tools.demo.tally import Tally, Told


@dataclass(slots=True)
class Stage:
    """What all viewers of a process share."""

    url: str
    show: ShowId
    offer: str
    per_buyer_limit: int
    sale_seconds: float
    gate: asyncio.Semaphore  # handshakes under way at once
    tally: Tally = field(default_factory=Tally)
    told: list[Told] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)  # the offer takes no new holds
    stop: asyncio.Event = field(default_factory=asyncio.Event)
