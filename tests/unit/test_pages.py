"""The pages over HTTP: what they forbid, what they escape, how their files are cached and weigh.

Method: the routes in an application of their own, with a show made here; no engine is needed.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from live.base.errors import Busy
from live.base.settings import Guests
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Mode, OfferView, Phase
from live.domain.show import ShowStatus, ShowView
from live.pages.assets import FOLDER, Assets
from live.pages.pages import TEMPLATES, PageSources, routes
from live.pages.structured_data import json_ld

PAGE_BYTES_MAX = 60_000  # issue 6: before images, as sent to a browser that takes gzip
EVIL = "<script>alert(1)</script></title> & \"quotes\" 'too'"

OFFER = OfferView(
    id=OfferId("lamp-1"),
    show=ShowId("evening"),
    sku=Sku("lamp"),
    title=f"Lamp {EVIL}",
    image_url="/static/-/demo/lamp-desk-fold.svg",
    price_minor=1999,
    currency="EUR",
    mode=Mode.HOLD,
    phase=Phase.OPEN,
    quantity=10,
    left=3,
    held=2,
    sold=5,
    per_buyer_limit=2,
    hold_seconds=60,
    waitlist=True,
    guests=True,
    opens_at=1_700_000_000_000,
    closes_at=1_700_000_600_000,
    version=4,
    sold_out=False,
)
SHOW = ShowView(
    id=ShowId("evening"),
    title=f"Evening {EVIL}",
    status=ShowStatus.LIVE,
    language="de",
    currency="EUR",
    playback_url="",
    pins=(),
    run_order=(),
    offers=(OFFER, replace(OFFER, id=OfferId("draft-1"), phase=Phase.DRAFT)),
    announcement=None,
    paid_partnership=False,
    slow_mode_seconds=0,
    version=7,
)
REHEARSAL = replace(SHOW, id=ShowId("secret"), status=ShowStatus.REHEARSAL, title="Top secret")
PAGES = ["/", "/watch/evening", "/watch/secret", "/watch/unknown", "/console", "/console/orders"]


async def read_show(show: ShowId) -> ShowView | None:
    return {SHOW.id: SHOW, REHEARSAL.id: REHEARSAL}.get(show)


async def running_shows() -> Sequence[ShowView]:
    return [SHOW, REHEARSAL]


@pytest.fixture
def client() -> httpx.AsyncClient:
    sources = PageSources(read_show=read_show, running_shows=running_shows)
    app = Starlette(routes=routes(sources))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://live.example")


class Page(HTMLParser):
    """What a page consists of, as far as these tests look at it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1][0] if self.tags else ""
        self.texts[tag] = self.texts.get(tag, "") + data

    def links(self) -> list[str]:
        found = [attrs.get("src") or attrs.get("href") for _, attrs in self.tags]
        return [link for link in found if link]


@pytest.mark.parametrize("path", PAGES)
async def test_page_forbids_everything_it_does_not_need(
    client: httpx.AsyncClient, path: str
) -> None:
    """Every page has the strict policy and the headers beside it, and sets no cookie."""
    headers = (await client.get(path)).headers
    parts = headers["content-security-policy"].split(";")
    policy = dict(part.strip().split(" ", 1) for part in parts)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["connect-src"] == "'self' ws://live.example wss://live.example"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "set-cookie" not in headers


async def test_viewer_page_knows_how_guests_sign_in() -> None:
    """The page is told what guests may do and where the shop's log-in is, as text."""
    sources = PageSources(read_show=read_show, running_shows=running_shows)
    login = 'https://shop.example/in?to={return}&x="'
    made = routes(sources, guests=Guests.BUY, login_url=login)
    transport = httpx.ASGITransport(Starlette(routes=made))
    async with httpx.AsyncClient(transport=transport, base_url="http://live.example") as client:
        page = Page((await client.get("/watch/evening")).text)
    (body,) = (attributes for tag, attributes in page.tags if tag == "body")
    assert (body["data-guests"], body["data-login"]) == ("buy", login)


async def test_https_page_asks_for_https_for_good(client: httpx.AsyncClient) -> None:
    """HSTS is sent where the request came by https, and only there."""
    assert "strict-transport-security" not in (await client.get("/console")).headers
    secure = await client.get("https://live.example/console")
    assert "max-age" in secure.headers["strict-transport-security"]


@pytest.mark.parametrize("host", ["evil.example; script-src *", "a b", "x" * 300, "ü.example"])
async def test_strange_host_does_not_reach_the_policy(client: httpx.AsyncClient, host: str) -> None:
    """A Host header that is no host name cannot add to the policy."""
    response = await client.get("/console", headers={b"host": host.encode()})
    assert "connect-src 'self';" in response.headers["content-security-policy"]


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.glob("*.html")))
def test_template_has_no_inline_code(template: str) -> None:
    """No inline script, style or handler, which the policy would block; every id is unique."""
    page = Page((TEMPLATES / template).read_text())
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert tag != "style" and "style" not in attrs
        assert not any(name.startswith("on") for name in attrs)
        if tag == "script":
            assert "src" in attrs or attrs["type"] == "application/ld+json"


@pytest.mark.parametrize("path", PAGES)
async def test_page_loads_only_files_of_its_own(client: httpx.AsyncClient, path: str) -> None:
    """Whatever a page names is served from here, and is there."""
    page = Page((await client.get(path)).text)
    for link in page.links():
        assert link.startswith(("/", "#")), link
        if link.startswith("/static/"):
            assert (await client.get(link)).status_code == 200, link


async def test_title_is_shown_as_text(client: httpx.AsyncClient) -> None:
    """Markup in a show's title stays text, in the page, in its list and in the JSON-LD."""
    for path in ("/watch/evening", "/"):
        text = (await client.get(path)).text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


async def test_json_ld_tells_price_and_stock(client: httpx.AsyncClient) -> None:
    """Search engines read the show, its public offers, decimal prices and availability."""
    page = Page((await client.get("/watch/evening")).text)
    data = json.loads(page.texts["script"])
    assert data["@type"] == "BroadcastEvent"
    assert data["name"] == SHOW.title
    assert data["isLiveBroadcast"] is True
    (offer,) = data["offers"]  # the draft is nobody's business yet
    assert offer["price"] == "19.99"
    assert offer["priceCurrency"] == "EUR"
    assert offer["availability"] == "https://schema.org/InStock"
    assert offer["availabilityEnds"] == "2023-11-14T22:23:20+00:00"
    assert offer["itemOffered"]["name"] == OFFER.title
    image = offer["itemOffered"]["image"]
    assert image == f"http://live.example{OFFER.image_url}"  # addresses are absolute there
    assert (await client.get(image)).headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize("status", [one for one in ShowStatus if one is not ShowStatus.REHEARSAL])
def test_json_ld_tells_when_the_show_begins(status: ShowStatus) -> None:
    """The start as ISO 8601, and a status that schema.org knows, in every state of the show."""
    show = replace(SHOW, status=status, starts_at=1_700_000_000_000)
    data = json.loads(json_ld(show, "http://live.example/watch/evening"))
    assert data["startDate"] == "2023-11-14T22:13:20+00:00"
    # There is no "completed": an event that took place as planned stays a scheduled one.
    assert data["eventStatus"] == "https://schema.org/EventScheduled"
    assert data["isLiveBroadcast"] is (status is ShowStatus.LIVE)
    assert "startDate" not in json.loads(json_ld(SHOW, "http://live.example/watch/evening"))


async def test_rehearsal_tells_nothing(client: httpx.AsyncClient) -> None:
    """A rehearsal's page has neither its title nor JSON-LD, and no list names it."""
    text = (await client.get("/watch/secret")).text
    assert "Top secret" not in text
    assert 'content="noindex"' in text
    assert "Top secret" not in (await client.get("/")).text
    assert [show["id"] for show in (await client.get("/shows.json")).json()["shows"]] == ["evening"]


async def test_server_without_guests_tells_nothing_of_shows() -> None:
    """No title, no price, no stock, and not even whether a show exists; nobody asks for it, too."""

    async def never(*_: object) -> None:
        raise AssertionError("a page asked for a show")

    sources = PageSources(read_show=never, running_shows=never)  # type: ignore[arg-type]  # raises
    transport = httpx.ASGITransport(Starlette(routes=routes(sources, guests=Guests.OFF)))
    async with httpx.AsyncClient(transport=transport, base_url="http://live.example") as client:
        known, unknown = [await client.get(f"/watch/{name}") for name in ("evening", "unknown")]
        index, shows = await client.get("/"), await client.get("/shows.json")
        impossible = await client.get("/watch/%7Bevil%7D")

    assert (known.status_code, shows.status_code, impossible.status_code) == (200, 403, 404)
    assert known.text.replace("evening", "unknown") == unknown.text
    assert 'content="noindex"' in known.text and "schema.org" not in known.text
    assert "show-card" not in index.text


@pytest.mark.parametrize("name", ["unknown", "a%2Fb", "%7Bevil%7D", "x" * 65])
async def test_unknown_show_is_a_404_page(client: httpx.AsyncClient, name: str) -> None:
    """A show that does not exist, or could not, is answered with a page that says so."""
    response = await client.get(f"/watch/{name}")
    assert response.status_code == 404
    if "/" not in response.url.path.removeprefix("/watch/"):
        assert "No such show" in response.text


@pytest.mark.parametrize("path", ["/", "/watch/evening", "/shows.json"])
async def test_engine_that_is_away_is_told_kindly(path: str) -> None:
    """Without an engine a page says "one moment", with the same headers, and when to return."""

    async def busy(*_: object) -> None:
        raise Busy("rebuilding")

    sources = PageSources(read_show=busy, running_shows=busy)  # type: ignore[arg-type]  # raises
    transport = httpx.ASGITransport(Starlette(routes=routes(sources)))
    async with httpx.AsyncClient(transport=transport, base_url="http://live.example") as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert "One moment" in response.text
    assert response.headers["retry-after"] == "2"
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_list_of_shows_is_asked_once_for_many() -> None:
    """A crowd on the front page costs the ledger one question."""
    asked = 0

    async def count() -> Sequence[ShowView]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return [SHOW]

    sources = PageSources(read_show=read_show, running_shows=count)
    transport = httpx.ASGITransport(Starlette(routes=routes(sources)))
    async with httpx.AsyncClient(transport=transport, base_url="http://live.example") as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert asked == 1


async def test_current_file_may_be_kept_for_ever(client: httpx.AsyncClient) -> None:
    """A file under its own version is immutable; under another version it must be asked again."""
    link = Assets().url("viewer.js")
    current = await client.get(link)
    assert current.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert current.headers["content-type"] == "text/javascript; charset=utf-8"
    older = await client.get("/static/000000000000/viewer.js")
    assert older.headers["cache-control"] == "public, no-cache"
    assert older.content == current.content
    again = await client.get(link, headers={"if-none-match": current.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


async def test_file_is_sent_small_to_those_who_can_read_it(client: httpx.AsyncClient) -> None:
    """gzip where the browser takes it, the plain bytes where it does not."""
    link = Assets().url("base.css")
    plain = await client.get(link, headers={"accept-encoding": "identity"})
    packed = await client.get(link, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.content == plain.content == (FOLDER / "base.css").read_bytes()


@pytest.mark.parametrize("name", ["..%2Fpages.py", "%2e%2e/pages.py", "texts", "nothing.js", ""])
async def test_no_path_leads_out_of_the_folder(client: httpx.AsyncClient, name: str) -> None:
    """Only files that were there at the start have an address."""
    response = await client.get(f"/static/x/{name}")
    assert response.status_code == 404


def test_version_changes_with_any_file(tmp_path: Path) -> None:
    """One changed byte in one file gives every file a new address."""
    folder = tmp_path
    (folder / "a.js").write_text("1")
    (folder / "b.css").write_text("2")
    before = Assets(folder).version
    (folder / "b.css").write_text("3")
    assert Assets(folder).version != before


def loaded_by(name: str) -> set[str]:
    """A module with all that it imports, one language beside English included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += re.findall(r'from "\./(.+?)"', (FOLDER / one).read_text())
    return found | ({"texts/ar.js"} if "i18n.js" in found else set())


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("/watch/evening", "viewer.js"),
        ("/console", "console.js"),
        ("/console/orders", "orders.js"),
    ],
)
async def test_page_is_light(client: httpx.AsyncClient, path: str, module: str) -> None:
    """A page with everything it loads stays under 60 KB before images, as sent."""
    response = await client.get(path)
    links = {link for link in Page(response.text).links() if link.startswith("/static/")}
    links |= {Assets().url(name) for name in loaded_by(module)}
    sizes = []
    for link in links:
        sent = await client.get(link, headers={"accept-encoding": "gzip"})
        sizes.append(int(sent.headers["content-length"]))
    assert len(response.content) + sum(sizes) < PAGE_BYTES_MAX


def test_packed_files_unpack_to_the_files() -> None:
    """What is kept compressed is the file, byte for byte."""
    for name, asset in Assets().files.items():
        assert gzip.decompress(asset.packed) == (FOLDER / name).read_bytes()
