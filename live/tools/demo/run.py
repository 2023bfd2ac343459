"""The simulated sale, from the feed to the verdict, against a service that is already up.

    await perform(service, options) -> exit code

Always: a run makes an offer of its own, so a second run on the same data never meets the ids of the
first; nothing that it started outlives it. Not here: the service's processes (run/supervisor.py).
"""

import asyncio
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, field
from uuid import uuid4

from live.domain.caller import ALL_SHOWS, Role
from live.domain.offer import Phase
from live.domain.order import OrderState
from live.tools.demo.addresses import HOST_SUB, addresses
from live.tools.demo.crowd import CrowdShares, units_on_sale
from live.tools.demo.ear import HostEar
from live.tools.demo.host import Host, HostedShow, LedgerOrder
from live.tools.demo.progress import Display, OfferFigures, Scene
from live.tools.demo.seen import OfferSeen
from live.tools.demo.service import DemoOptions, FeedItem, Service, Timing, timing
from live.tools.demo.troupe import AudienceError, Part, Troupe
from live.tools.demo.verdict import Evidence, final_line, reckon

OFFER_PREFIX = "flash-"  # offers of the demo; a former run's that is still open gets closed
TOKEN_SECONDS = 3_600
PER_BUYER_LIMIT = 2
DISCOUNT_PERCENT = 20
RUN_ORDER_LENGTH = 12
SCENE_SECONDS = 0.2
POLL_SECONDS = 0.5
CONNECT_SECONDS_MIN = 15.0
CONNECTS_PER_SECOND_MIN = 100.0  # slower than that, the sale starts with whoever is there
CLOSE_SECONDS_MAX = 30.0  # beyond the hold time, for payments under way
SETTLE_SECONDS_MAX = 20.0  # until every order of the sale is paid
SAFETY_SECONDS = 120  # an offer left by a killed run ends by itself that long after its sale


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """What was prepared."""

    show: str
    offer: str
    title: str
    quantity: int
    timing: Timing


async def perform(service: Service, options: DemoOptions) -> int:
    """Run one sale and show the verdict: 0 if every promise held, else 1.

    Raises LiveError where the sale could not be run at all.
    """
    stream = sys.stderr if options.json else sys.stdout
    token = service.token(Role.HOST, HOST_SUB, shows=[ALL_SHOWS], ttl_seconds=TOKEN_SECONDS)
    with Display(stream) as display:
        async with Host(service.base_url, token) as host:
            stageplay = _Stageplay(service, options, host, display)
            evidence = await stageplay.play(token)
    reckoning = reckon(evidence)
    display.reckon(reckoning)
    if options.serves_on:
        display.say("", *addresses(service, stageplay.show), "")
        display.say("  guests may buy here (LIVE_GUESTS=buy); Ctrl-C ends it")
    if options.json:
        sys.stdout.write(final_line(evidence, reckoning).decode() + "\n")
        sys.stdout.flush()
    return 0 if reckoning.ok else 1


@dataclass(slots=True)
class _Stageplay:
    service: Service
    options: DemoOptions
    host: Host
    display: Display
    run: str = field(default_factory=lambda: uuid4().hex[:8])
    remarks: list[str] = field(default_factory=list)
    show: str = ""  # until it is on air
    step: str = "preparing"

    async def play(self, token: str) -> Evidence:
        sale = await self._prepare()
        base = self.service.base_url
        url = base.replace("http", "ws", 1) + "/connection/websocket"
        part = Part(
            url=url,
            show=sale.show,
            offer=sale.offer,
            seed=self.options.seed,
            per_buyer_limit=PER_BUYER_LIMIT,
            sale_seconds=sale.timing.sale_seconds,
        )
        async with Troupe(part) as troupe, HostEar(url, token, sale.show, sale.offer) as ear:
            showing = asyncio.create_task(self._show_scenes(troupe, ear))
            try:
                await self._sell(sale, troupe, ear)
                self.step = "the audience leaves"
                tally, told = await troupe.stop()
                self.step = "settling"
                orders = await self._settled_orders(sale)
                self.step = "audit"
                audit = await self.service.audit()
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
        return Evidence(
            offer=sale.offer,
            quantity=sale.quantity,
            audit=audit,
            orders=orders,
            tally=tally,
            told=told,
            remarks=tuple(self.remarks),
        )

    # -- before the sale

    async def _prepare(self) -> Sale:
        options = self.options
        items = list(options.read_feed(options.feed))
        if not items:
            raise ValueError(f"{options.feed} holds no product")
        await self.host.import_products(items)
        item = items[options.seed % len(items)]
        quantity = units_on_sale(CrowdShares(), options.viewers)
        await self.host.ensure_available(item.sku, quantity)
        self.show = show = await self._open_show(items)
        # Now and not only in the end: whoever watches the sale opens the pages before it begins.
        self.display.say(*addresses(self.service, show))
        await self.host.pin(show, [item.sku])
        sale = Sale(
            show=show,
            offer=f"{OFFER_PREFIX}{self.run}",
            title=item.title,
            quantity=quantity,
            timing=timing(options.seconds),
        )
        await self._make_offer(sale, item)
        return sale

    async def _open_show(self, items: list[FeedItem]) -> str:
        """The show, live; a new one where a host has ended the old one for good."""
        show = self.options.show
        found = await self.host.find_show(show)
        if found is not None and found.status == "ended":
            show, found = f"{show}-{self.run}", None
        if found is None:
            title = "Kitchen and home, live"
            await self.host.create_show(show, title=title, currency=items[0].currency)
            await self.host.show_action(show, "start")
            skus = [item.sku for item in items[:RUN_ORDER_LENGTH]]
            await self.host.set_run_order(show, skus)
        elif found.status == "paused":
            await self.host.show_action(show, "resume")
        elif found.status != "live":
            await self.host.show_action(show, "start")
        if found is not None:
            await self._close_leftovers(found)
        return show

    async def _close_leftovers(self, show: HostedShow) -> None:
        """Offers of a run that was killed give their stock back."""
        for offer in show.offers:
            if offer.id.startswith(OFFER_PREFIX) and offer.phase not in (
                Phase.CLOSING,
                Phase.CLOSED,
            ):
                await self.host.offer_action(offer.id, "close")

    async def _make_offer(self, sale: Sale, item: FeedItem) -> None:
        terms: dict[str, object] = {
            "id": sale.offer,
            "sku": item.sku,
            "price_minor": item.price_minor * (100 - DISCOUNT_PERCENT) // 100,
            "quantity": sale.quantity,
            "per_buyer_limit": PER_BUYER_LIMIT,
            "hold_seconds": sale.timing.hold_seconds,
            "mode": "hold",
            "countdown_seconds": sale.timing.countdown_seconds,
            "duration_seconds": sale.timing.sale_seconds + SAFETY_SECONDS,
            "waitlist": True,
            "guests": True,
        }
        await self.host.create_offer(sale.show, terms)

    # -- the sale

    async def _sell(self, sale: Sale, troupe: Troupe, ear: HostEar) -> None:
        self.step = "the audience comes in"
        await troupe.start(self._viewers(sale))
        await self._all_connected(troupe)
        await self.host.announce(sale.show, f"Flash offer in a moment: {sale.title}")
        self.step = "countdown"
        await self.host.offer_action(sale.offer, "open")
        opened = self._reached(sale, ear, Phase.OPEN)
        await self._within(sale.timing.countdown_seconds + CLOSE_SECONDS_MAX, opened, "opened")
        self.step = "the offer is open"
        await self._play_on(sale.timing.sale_seconds, troupe)
        self.step = "closing"
        await self.host.offer_action(sale.offer, "close")
        closed = self._reached(sale, ear, Phase.CLOSED)
        seconds = sale.timing.hold_seconds + CLOSE_SECONDS_MAX
        await self._within(seconds, closed, "closed")

    def _viewers(self, sale: Sale) -> list[tuple[str, str]]:
        subs = [f"demo-{self.run}-{index:05}" for index in range(self.options.viewers)]
        return [
            (
                sub,
                self.service.token(Role.VIEWER, sub, shows=[sale.show], ttl_seconds=TOKEN_SECONDS),
            )
            for sub in subs
        ]

    async def _all_connected(self, troupe: Troupe) -> None:
        wanted = self.options.viewers
        seconds = CONNECT_SECONDS_MIN + wanted / CONNECTS_PER_SECOND_MIN
        try:
            async with asyncio.timeout(seconds):
                while troupe.progress.connected < wanted:
                    troupe.check()
                    await asyncio.sleep(SCENE_SECONDS)
        except TimeoutError:
            there = troupe.progress.connected
            if not there:
                raise AudienceError(f"no viewer could connect in {seconds:.0f} s") from None
            self.remarks.append(f"only {there} of {wanted} viewers were connected at the start")

    async def _play_on(self, seconds: float, troupe: Troupe) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            troupe.check()
            await asyncio.sleep(min(SCENE_SECONDS, max(0.0, end - loop.time())))

    async def _reached(self, sale: Sale, ear: HostEar, phase: Phase) -> None:
        """Return once the offer is in `phase`, by the host's WebSocket or by HTTP."""
        # Beside the loop: a slow answer in the burst must not hide what the event said at once.
        polling = asyncio.create_task(self._poll(sale, ear))
        try:
            while ear.offer is None or ear.offer.phase != phase:
                if polling.done():
                    polling.result()  # raises what ended it
                await asyncio.sleep(SCENE_SECONDS)
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    async def _poll(self, sale: Sale, ear: HostEar) -> None:
        while True:
            ear.note(await self.host.offer(sale.offer))
            await asyncio.sleep(POLL_SECONDS)

    async def _within(self, seconds: float, work: Awaitable[None], what: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            self.remarks.append(f"the offer was not {what} within {seconds:.0f} s")

    # -- after the sale

    async def _settled_orders(self, sale: Sale) -> list[LedgerOrder]:
        """The ledger's orders, once every one is paid (or the patience ends; the audit tells)."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_SECONDS_MAX
        while True:
            orders = await self.host.orders(sale.show, sale.offer)
            waiting = sum(order.state == OrderState.CONFIRMED for order in orders)
            if not waiting or loop.time() > end:
                return orders
            await asyncio.sleep(POLL_SECONDS)

    async def _show_scenes(self, troupe: Troupe, ear: HostEar) -> None:
        while True:
            scene = Scene(
                step=self.step,
                viewers_wanted=self.options.viewers,
                offer=figures(ear.offer),
                audience=troupe.progress,
            )
            self.display.show(scene)
            await asyncio.sleep(SCENE_SECONDS)


def figures(seen: OfferSeen | None) -> OfferFigures:
    if seen is None:
        return OfferFigures()
    return OfferFigures(
        phase=seen.phase,
        quantity=seen.quantity,
        left=seen.left,
        held=seen.held,
        sold=seen.sold,
    )
