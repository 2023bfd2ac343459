"""The four kinds of people of a show, as Locust users."""

import random
import time
from uuid import uuid4

import gevent
from locust import between, constant, task
from locust.clients import HttpSession
from locust.exception import StopUser

from live.base.errors import BadField
from live.client import CallFailed, NoAnswer
from live.client.green import GreenClient
from live.domain.channels import ChannelKind, wire_name
from live.domain.ids import ShowId
from live.tools.demo.seen import AnswerSeen
from loadtests.guard import PROVIDER, SHOW, TargetError, http_url, token
from loadtests.person import Person
from loadtests.target import SKU

GRANT_SECONDS = 30.0  # how long a buyer waits in line
VERDICT_SECONDS = 10.0  # after `processing`
CONTACT = {"name": "Load Test", "address": "1 Test Lane"}  # an invoice needs one


class Paying:
    """The provider of all buyers of this process: as told, or invoice where the server has no such.

    Only on engines that it started itself does a server run the sandbox, and it takes invoices only
    where LIVE_PROVIDERS says so.
    """

    provider = PROVIDER
    known = False

    @classmethod
    def ask_once(cls, client: GreenClient) -> None:
        """Ask with a hold that nobody has: the server looks at the provider before the hold."""
        if cls.known:
            return
        key = str(uuid4())
        try:
            client.rpc("hold.checkout", {"hold": key, "provider": cls.provider, "key": key})
        except CallFailed as fault:
            if fault.code == BadField.code and not cls.known:
                cls.provider = "invoice"
            cls.known = not fault.temporary
        except NoAnswer:
            pass  # the next buyer asks


class Viewer(Person):
    """Watches, and taps a heart now and then. Most of an audience."""

    weight = 6
    wait_time = between(2, 10)

    @task(3)
    def watch(self) -> None:
        self.line()

    @task(1)
    def react(self) -> None:
        self.ask("react", {"show": SHOW, "kind": random.choice(("heart", "fire", "clap"))}, "")


class Chatter(Person):
    """Writes a line every few seconds and hears everybody's."""

    weight = 1
    wait_time = between(3, 8)
    lines = ("love it", "which size is that?", "hello from Lisbon", "take my money", "is it heavy?")

    @task
    def say(self) -> None:
        channel = wire_name(ChannelKind.CHAT, ShowId(SHOW))
        self.said = getattr(self, "said", 0) + 1
        text = f"{random.choice(self.lines)} ({self.said})"  # a repeated line is refused
        client = self.line()
        try:
            self.measured("publish", lambda: client.publish(channel, {"text": text}))
        except (NoAnswer, CallFailed):
            pass  # counted as a failure; a chat line is not worth a repeat


class Buyer(Person):
    """Waits for an offer to open, presses Buy in that instant, and mostly pays."""

    weight = 3
    wait_time = between(0.5, 3)
    qty_max = 2
    double_click = 0.3
    abandon = 0.1
    decline = 0.05
    waits = 0.5

    def on_start(self) -> None:
        super().on_start()
        Paying.ask_once(self.client)

    @task
    def buy(self) -> None:
        self.line()
        self.opened.wait(timeout=1.0)
        offer = self.open_offer()
        if offer is None:
            return
        key = str(uuid4())
        qty = random.randint(1, self.qty_max)
        answer = self.click(offer.id, qty, key)
        if answer is None:
            return
        if answer.outcome == "held":
            self.decide(key)
        elif answer.outcome == "sold_out":
            self.refused(offer.id, qty)

    def refused(self, offer: str, qty: int) -> None:
        """Sold out: some wait in line."""
        if random.random() < self.waits:
            self.wait_in_line(offer, qty)

    def click(self, offer: str, qty: int, key: str) -> AnswerSeen | None:
        """Press Buy, nervously sometimes: the same key must get the same hold."""
        request: dict[str, object] = {"offer": offer, "qty": qty, "key": key}
        if random.random() >= self.double_click:
            return self.ask("offer.hold", request, "held")
        both = [gevent.spawn(self.ask, "offer.hold", request, "held") for _ in range(2)]
        gevent.joinall(both)
        answers = [one.value for one in both if one.value is not None]
        held = [answer for answer in answers if answer.outcome == "held"]
        return next(iter(held or answers), None)

    def decide(self, key: str) -> None:
        """Pay, or not."""
        roll = random.random()
        if roll < self.abandon:
            return
        if roll < self.abandon + self.decline:
            self.pay(key, "tok_decline")
            self.ask("hold.release", {"hold": key}, "released")
            return
        self.pay(key, "tok_approve")

    def pay(self, key: str, card: str) -> None:
        request: dict[str, object] = {
            "hold": key,
            "provider": Paying.provider,
            "token": card,
            "contact": CONTACT,
            "key": str(uuid4()),
        }
        answer = self.ask("hold.checkout", request, "confirmed")
        if answer is not None and answer.outcome == "processing":
            start = time.perf_counter()
            found = self.await_news(
                key, VERDICT_SECONDS, ("order.confirmed", "order.rejected", "payment.failed")
            )
            fault = None if found else NoAnswer("no word on the payment")
            self.fire(
                "order verdict", (time.perf_counter() - start) * 1000, kind="PUSH", fault=fault
            )
        self.news.pop(key, None)

    def wait_in_line(self, offer: str, qty: int) -> None:
        key = str(uuid4())
        answer = self.ask("waitlist.join", {"offer": offer, "qty": qty, "key": key}, "waitlisted")
        if answer is None:
            return
        if answer.outcome == "held" or (
            answer.outcome == "waitlisted"
            and self.await_news(key, GRANT_SECONDS, ("hold.granted",), until_closed=offer)
        ):
            self.pay(key, "tok_approve")

    def await_news(
        self, key: str, seconds: float, kinds: tuple[str, ...], *, until_closed: str = ""
    ) -> bool:
        """Wait for an event of these kinds about this key, at most while that offer is open."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if any(event.type in kinds for event in self.news.get(key, ())):
                return True
            if until_closed and self.offers[until_closed].phase != "open":
                return False
            self.heard.clear()
            self.heard.wait(timeout=min(left, 1.0))
            self.line()
        return False


class Host(Person):
    """One host: makes an offer, opens it, closes it, and begins again."""

    fixed_count = 1
    role = "host"
    wait_time = constant(1)
    quantity = 100
    sale_seconds = 12.0
    countdown_seconds = 1
    hold_seconds = 5
    per_buyer_limit = 2
    closing_seconds_max = 30.0

    def on_start(self) -> None:
        try:
            base = http_url(self.host)
            bearer = token("host", "load-host", ["*"])
        except TargetError as fault:
            raise StopUser(str(fault)) from fault
        self.http = HttpSession(base, self.environment.events.request, self)
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"Bearer {bearer}"
        super().on_start()

    @task
    def sell(self) -> None:
        offer = f"load-{uuid4().hex[:12]}"
        terms = {"id": offer, "sku": SKU, "price_minor": 1_200, "mode": "hold"}
        terms |= {"quantity": self.quantity, "per_buyer_limit": self.per_buyer_limit}
        terms |= {"hold_seconds": self.hold_seconds, "countdown_seconds": self.countdown_seconds}
        terms |= {"duration_seconds": round(self.sale_seconds) + 60, "waitlist": True}
        if not self.post(f"/v1/shows/{SHOW}/offers", terms):
            return
        self.post(f"/v1/offers/{offer}/open", {})
        gevent.sleep(self.countdown_seconds + self.sale_seconds)
        self.post(f"/v1/offers/{offer}/close", {})
        end = time.monotonic() + self.closing_seconds_max
        while time.monotonic() < end:
            self.line()
            seen = self.offers.get(offer)
            if seen is not None and seen.phase == "closed":
                return
            gevent.sleep(0.2)

    def post(self, path: str, body: dict[str, object]) -> bool:
        """POST; the name that Locust shows has no ids in it."""
        name = "POST /v1/" + "/".join(path.split("/")[2:3] + path.split("/")[4:])
        headers = {"Idempotency-Key": str(uuid4())}
        with self.http.post(
            path, json=body, headers=headers, name=name, catch_response=True
        ) as answer:
            if answer.ok:
                answer.success()
            else:
                answer.failure(f"{answer.status_code} {answer.text[:200]}")
            return bool(answer.ok)
