"""Workers that die or stop under load: every viewer has every publication exactly once."""

import asyncio
import json
import signal
from collections.abc import Callable

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from live.domain.ids import ShowId
from live.showlog.store import Retention, Store
from tests.support.realtime_app import Spawned

VIEWERS = 20
PUBLICATIONS = 200
GOES_AFTER, GONE_AFTER = 40, 60  # so the last to come back have missed 140
CHANNEL = "longhistory:room"  # all of them can be recovered


class Resuming:
    """A client that goes to the next server when its connection ends, with its position."""

    def __init__(self, *urls: str, comes_back: asyncio.Event) -> None:
        self.urls = list(urls)
        self._comes_back = comes_back  # not before it is set
        self.offsets: list[int] = []
        self.epoch = ""
        self.lost_positions = 0
        self.ended_with: list[int | None] = []

    @property
    def complete(self) -> bool:
        return bool(self.offsets) and self.offsets[-1] == PUBLICATIONS

    async def run(self, ready: Callable[[], None]) -> None:
        for url in self.urls:
            try:
                async with connect(url, compression=None) as connection:
                    subscribe = {
                        "channel": CHANNEL,
                        "recover": True,
                        "epoch": self.epoch,
                        "offset": self.offsets[-1] if self.offsets else 0,
                    }
                    await connection.send('{"id":1,"connect":{}}')
                    await connection.send(json.dumps({"id": 2, "subscribe": subscribe}))
                    while not self.complete:
                        for line in str(await connection.recv()).split("\n"):
                            self.take(json.loads(line), ready)
                    return
            except ConnectionClosed as end:
                self.ended_with.append(end.rcvd.code if end.rcvd else None)
                await self._comes_back.wait()

    def take(self, message: dict[str, dict[str, object]], ready: Callable[[], None]) -> None:
        if "subscribe" in message:
            result = message["subscribe"]
            self.epoch = str(result["epoch"])
            self.lost_positions += "recovered" not in result
            publications = result.get("publications", [])
            assert isinstance(publications, list)
            self.offsets += [publication["offset"] for publication in publications]
            ready()
        publication = message.get("push", {}).get("pub")
        if isinstance(publication, dict):
            self.offsets.append(publication["offset"])


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGTERM])
async def test_viewers_resume_on_another_worker_without_a_gap(
    redis_url: str, show: ShowId, signal_sent: signal.Signals
) -> None:
    """One of two workers goes in the middle of it: recovered: true, nothing missing or twice.

    Half of the viewers come back among the publications, half when all are out.
    """
    first, second = Spawned(redis_url, show), Spawned(redis_url, show)
    store = Store(redis_url)
    await store.open()
    at_once, at_last = asyncio.Event(), asyncio.Event()
    at_once.set()
    viewers = [
        Resuming(first.url, second.url, comes_back=at_last if number % 2 else at_once)
        for number in range(VIEWERS)
    ]
    all_in = asyncio.Semaphore(0)
    running = [asyncio.create_task(viewer.run(all_in.release)) for viewer in viewers]
    try:
        for _ in range(VIEWERS):
            await asyncio.wait_for(all_in.acquire(), 60)
        for count in range(PUBLICATIONS):
            await store.append(
                show, f"x:{CHANNEL}", b'{"n":%d}' % count, retention=Retention(1_000)
            )
            if count == GOES_AFTER:
                first.process.send_signal(signal_sent)
            if count == GONE_AFTER:
                await asyncio.to_thread(first.process.wait, 20)
        at_last.set()
        await asyncio.wait_for(asyncio.gather(*running), 60)
    finally:
        for task in running:
            task.cancel()
        await store.close()
        second.close()
        first.close()

    for viewer in viewers:
        assert viewer.offsets == list(range(1, PUBLICATIONS + 1))
        assert viewer.lost_positions == 0
    told = {code for viewer in viewers for code in viewer.ended_with}
    # Who has seen everything before the spread drain reaches them was told nothing.
    assert told <= ({None} if signal_sent is signal.SIGKILL else {3001})
