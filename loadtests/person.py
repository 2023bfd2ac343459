"""Somebody in the show: the line, what is heard on it, and how requests are named and measured.

Requests are named by command, so Locust's page and CSV read like the protocol: `connect`,
`offer.hold`, `hold.checkout`, `publish`, `react`, `publication latency`. A "no" that the shop means
(sold out, limit reached) is a success under a name of its own, such as `offer.hold: sold_out`;
errors and time-outs are failures.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar
from uuid import uuid4

import gevent
from gevent.event import Event
from locust import User
from locust.exception import StopUser

from live.client import CallFailed, Connected, Gone, NoAnswer, Published
from live.client.events import News
from live.client.green import GreenClient
from live.domain.channels import ChannelKind, personal_name, wire_name
from live.domain.ids import ShowId
from live.tools.demo.seen import (
    AnswerSeen,
    EventSeen,
    OfferSeen,
    read_answer,
    read_event,
    read_snapshot,
)
from loadtests.guard import SHOW, TargetError, token, ws_url

Result = TypeVar("Result")

TRIES_MAX = 5  # of one question, always with the same key


class Person(User):
    """Somebody in the show: connected, listening, coming back when the line breaks."""

    abstract = True
    role = "viewer"
    receive_bytes = 0
    latency_name = "publication latency"
    leaving = False

    def on_start(self) -> None:
        self.sub = f"load-{type(self).__name__.lower()}-{uuid4().hex[:12]}"
        self.offers: dict[str, OfferSeen] = {}
        self.opened = Event()  # an offer of this show is open
        self.news: dict[str, list[EventSeen]] = {}  # of the person's own channel, by hold key
        self.heard = Event()
        try:
            self.client = GreenClient(
                ws_url(self.host),
                token=token(self.role, self.sub, [SHOW]),
                data={"show": SHOW},
                name="loadtest",
                listener=self.hear,
                receive_bytes=self.receive_bytes,
            )
        except TargetError as fault:
            raise StopUser(str(fault)) from fault
        self._enter("connect")

    def on_stop(self) -> None:
        self.leaving = True
        client: GreenClient | None = getattr(self, "client", None)
        if client is not None:
            client.close()

    # -- the line

    def _enter(self, name: str) -> None:
        """Connect and join, as often as it takes, with the pauses of the official SDKs."""
        try:
            self.client.stay(lambda: self.measured(name, self.client.connect))
        except Gone as end:
            raise StopUser(str(end)) from end

    def line(self) -> GreenClient:
        """The client, connected again, with everything missed, where the connection broke."""
        if self.client.closed.is_set():
            self._enter("reconnect")
        return self.client

    # -- what is heard

    def hear(self, news: News) -> None:
        if isinstance(news, Published):
            self._on_publication(news)
        elif isinstance(news, Connected):
            if news.recovered is not None:
                self.fire("recovery" if news.recovered else "recovery: snapshot instead", 0.0)
            snapshot = read_snapshot(news.data)
            if snapshot is not None and snapshot.show is not None:
                for offer in snapshot.show.offers:
                    self._see(offer)

    def _on_publication(self, news: Published) -> None:
        event = read_event(news.data)
        if news.channel == wire_name(ChannelKind.SHOW, ShowId(SHOW)):
            if news.at is not None:
                self.fire(self.latency_name, news.at - event.at, kind="PUSH")
            if event.offer is not None:
                self._see(event.offer)
        elif news.channel == personal_name(self.sub) and event.key:
            self.news.setdefault(event.key, []).append(event)
            self.heard.set()

    def _see(self, offer: OfferSeen) -> None:
        self.offers[offer.id] = offer
        if any(one.phase == "open" for one in self.offers.values()):
            self.opened.set()
        else:
            self.opened.clear()

    def open_offer(self) -> OfferSeen | None:
        """The newest offer that is open, as far as this person has heard."""
        offers = [offer for offer in self.offers.values() if offer.phase == "open"]
        return offers[-1] if offers else None

    # -- measuring

    def fire(
        self,
        name: str,
        ms: float,
        *,
        kind: str = "WS",
        fault: Exception | None = None,
        size: int = 0,
    ) -> None:
        if fault is not None and self.leaving:
            return  # cut off by the end of the run, not by the server
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=max(0.0, ms),
            response_length=size,
            exception=fault,
            context={"user": type(self).__name__},
        )

    def measured(self, name: str, work: Callable[[], Result]) -> Result:
        """Run and fire one request, failed where it raises."""
        start = time.perf_counter()
        try:
            result = work()
        except (NoAnswer, CallFailed) as fault:
            self.fire(name, (time.perf_counter() - start) * 1000, fault=fault)
            raise
        self.fire(name, (time.perf_counter() - start) * 1000)
        return result

    def ask(self, method: str, data: dict[str, object], good: str) -> AnswerSeen | None:
        """Call until answered, with the same key; `good` is the outcome without a name of its own.

        None where nobody answered: the outcome is unknown.
        """
        for tries in range(TRIES_MAX):
            client = self.line()
            start = time.perf_counter()
            try:
                body = client.rpc(method, data)
            except (NoAnswer, CallFailed) as fault:
                self.fire(method, (time.perf_counter() - start) * 1000, fault=fault)
                if isinstance(fault, CallFailed) and not fault.temporary:
                    return None
                gevent.sleep(min(2.0, 0.1 * 2.0**tries) * random.random())
                continue
            answer = read_answer(body)
            name = method if answer.outcome in (good, "") else f"{method}: {answer.outcome}"
            self.fire(name, (time.perf_counter() - start) * 1000, size=len(body))
            return answer
        return None
