"""The pages: running shows, a show's viewer page, console, its orders, and the files they load.

Always: every page forbids inline script and style, foreign scripts and frames; no page sets a
cookie; what people wrote is escaped. Pages ask the ledger nothing by themselves: what they show of
a show comes from the two callables of `PageSources`, which the composition root gives.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from live.api.problems import NotAllowedHere, answer_problem
from live.base.errors import Busy
from live.base.settings import Guests
from live.domain.ids import ShowId, is_id
from live.domain.show import ShowStatus, ShowView
from live.hosting.projector import UNREACHABLE
from live.ledger.db.pool import DATABASE_ERRORS
from live.pages.assets import Assets
from live.pages.structured_data import json_ld

log = structlog.get_logger()
LIST_SECONDS = 1.0  # how old the list of running shows may be
TEMPLATES = Path(__file__).parent / "templates"
# What the page's checkout can do, in the order in which it offers it. Others (a card form of the
# provider's own) need the shop's page.
PAGE_PROVIDERS = ("sandbox", "external", "invoice")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class PageSources:
    """What pages want from above: one show's public view, and the shows that run now.

    Both may raise Busy, or what an engine raises that cannot be reached.
    """

    read_show: Callable[[ShowId], Awaitable[ShowView | None]]
    running_shows: Callable[[], Awaitable[Sequence[ShowView]]]


def routes(
    sources: PageSources,
    *,
    providers: Sequence[str] = PAGE_PROVIDERS,
    guests: Guests = Guests.WATCH,
    login_url: str = "",
    quotes: bool = False,
) -> list[Route]:
    """Make the routes.

    `providers`: what this service can pay with. `guests`: what viewers without a token may do;
    where that is nothing, pages know nothing of shows, and whoever has a token is told by the
    connection that they show it to. `login_url`: where the shop signs people in ("{return}" in it:
    where to bring them back), or "". `quotes`: whether the shop quotes shipping and tax, so
    that the page asks for an address before it pays.
    """
    offered = tuple(name for name in PAGE_PROVIDERS if name in providers)
    settings = {"providers": " ".join(offered), "guests": guests, "login": login_url}
    settings["quotes"] = "yes" if quotes else ""
    pages = _Pages(sources, settings, private=guests is Guests.OFF)
    return [
        Route("/", pages.index, methods=["GET"]),
        Route("/shows.json", pages.shows, methods=["GET"]),
        Route("/watch/{show}", pages.watch, methods=["GET"]),
        Route("/console", pages.console, methods=["GET"]),
        Route("/console/orders", pages.orders, methods=["GET"]),
        Route("/favicon.ico", pages.icon, methods=["GET"]),
        Route("/static/{version}/{name:path}", pages.assets.serve, methods=["GET"]),
    ]


class _Pages:
    def __init__(self, sources: PageSources, settings: dict[str, str], *, private: bool) -> None:
        self.sources = sources
        self.private = private
        self.settings = {name: escape(value) for name, value in settings.items()}
        self.assets = Assets()
        self.asking = asyncio.Lock()
        self.listed: Sequence[ShowView] = ()
        self.listed_until = 0.0  # by the monotonic clock
        self.templates = {
            path.stem: _template(path, self.assets) for path in TEMPLATES.glob("*.html")
        }

    async def index(self, request: Request) -> Response:
        if self.private:
            return self.page(request, "index", {"shows": _INVITED_ONLY})
        try:
            shows = await self.running()
        except _NO_ANSWER as error:
            return self.one_moment(request, error)
        body = "".join(_card(show) for show in shows) or _EMPTY
        return self.page(request, "index", {"shows": body})

    async def shows(self, request: Request) -> Response:
        if self.private:
            return answer_problem(NotAllowedHere("this server does not take guests"))
        try:
            shows = await self.running()
        except _NO_ANSWER as error:
            return self.one_moment(request, error)
        rows = [{"id": show.id, "title": show.title, "status": show.status} for show in shows]
        return JSONResponse({"shows": rows}, headers={"cache-control": "no-store"})

    async def watch(self, request: Request) -> Response:
        name = request.path_params["show"]
        if self.private and is_id(name):
            return self.page(request, "watch", self.watch_values(name) | _UNTOLD)
        try:
            show = await self.sources.read_show(ShowId(name)) if is_id(name) else None
        except _NO_ANSWER as error:
            return self.one_moment(request, error)
        if show is None:
            return self.page(request, "notice", _MISSING, status=404)
        # A rehearsal is for those who know the passcode: its page tells nothing to search engines.
        public = _is_public(show)
        told = {
            "title": escape(show.title if public else "Rehearsal"),
            "language": escape(show.language),
            "robots": "index" if public else "noindex",
            "rehearsal": "no" if public else "yes",
            "json_ld": json_ld(show, str(request.url.replace(query=""))) if public else "{}",
        }
        return self.page(request, "watch", self.watch_values(name) | told)

    def watch_values(self, name: str) -> dict[str, str]:
        """What a viewer page is told whatever its show is."""
        return {"show": escape(name), **self.settings}

    async def console(self, request: Request) -> Response:
        return self.page(request, "console", {})

    async def orders(self, request: Request) -> Response:
        return self.page(request, "orders", {})

    async def running(self) -> Sequence[ShowView]:
        """Public shows on air. Anybody may ask as often as they like, so the ledger is asked once
        in LIST_SECONDS, and by one of those who wait."""
        async with self.asking:
            if time.monotonic() >= self.listed_until:
                shows = await self.sources.running_shows()
                self.listed = [show for show in shows if _is_public(show)]
                self.listed_until = time.monotonic() + LIST_SECONDS
        return self.listed

    def one_moment(self, request: Request, error: Exception) -> Response:
        log.warning("page_unavailable", path=request.url.path, error=repr(error))
        response = self.page(request, "notice", _ONE_MOMENT, status=503)
        response.headers["retry-after"] = "2"
        return response

    async def icon(self, request: Request) -> Response:
        return RedirectResponse(self.assets.url("icon.svg"), status_code=307)

    def page(
        self, request: Request, name: str, values: dict[str, str], *, status: int = 200
    ) -> HTMLResponse:
        html = self.templates[name].substitute(values)
        return HTMLResponse(html, status_code=status, headers=security_headers(request))


def security_headers(request: Request) -> dict[str, str]:
    """Name what this page may load and do; everything else is forbidden.

    The host's own WebSocket is named beside 'self': some browsers do not count ws: to it.
    """
    host = request.headers.get("host", "")
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; "
        f"media-src 'self' https: blob:; connect-src 'self'{sockets}; "
        "manifest-src 'none'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'self'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        # Not "no-referrer": with it browsers send "Origin: null", and posts are checked by Origin.
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "cache-control": "no-cache",
    }
    if request.url.scheme == "https":
        headers["strict-transport-security"] = "max-age=31536000"
    return headers


def _is_public(show: ShowView) -> bool:
    return show.status is not ShowStatus.REHEARSAL


def _template(path: Path, assets: Assets) -> Template:
    """Read a template and fill in the addresses of files: `{{viewer.js}}` gets its version.

    Its indentation is for us, and no phone's to load.
    """
    text = re.sub(r"(?m)^ +", "", path.read_text())
    return Template(re.sub(r"\{\{(.+?)\}\}", lambda found: assets.url(found[1]), text))


_NO_ANSWER = (Busy, *DATABASE_ERRORS, *UNREACHABLE)
_MISSING = {
    "title": "No such show",
    "text": "This show does not exist, or its address was mistyped.",
}
_ONE_MOMENT = {
    "title": "One moment",
    "text": "The shows cannot be reached right now. Please reload this page in a moment.",
}
_INVITED_ONLY = '<p class="empty">These shows are for invited viewers.</p>'
_UNTOLD = {
    "title": "Live",
    "language": "en",
    "robots": "noindex",
    "rehearsal": "no",
    "json_ld": "{}",
}
_EMPTY = '<p class="empty">No show is running right now.</p>'


def _card(show: ShowView) -> str:
    return (
        f'<a class="show-card" href="/watch/{escape(show.id)}">'
        f'<span class="chip" data-status="{escape(show.status)}">{escape(show.status)}</span>'
        f'<strong lang="{escape(show.language)}" dir="auto">{escape(show.title)}</strong></a>'
    )
