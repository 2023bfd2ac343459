"""The video of the viewer page in a real Chromium: streams that come late, break, stand upright.

Method: the browser makes a short film of its own; what the stream's address answers is decided
here, by taking over the browser's requests to it.
"""

import base64
from typing import Any

import pytest
import pytest_asyncio

from tests.acceptance.browser import (
    TEST_SECONDS,
    Browser,
    Page,
    Route,
    ViewportSize,
    browser,
    chromium,
    expect,
)
from tests.acceptance.page_stage import (
    DESKTOP,
    PHONE,
    TABLET,
    Stage,
    Visitors,
    picture,
    stage,
    visitors,
)
from tests.acceptance.test_viewer_in_browser import scheduled

__all__ = ["browser", "chromium", "stage", "visitors"]  # fixtures: imported to be found

STREAM = "/stream/live.webm"
CONNECTED = "body[data-connection=connected] #status:visible"
LANDSCAPE = {"width": 844, "height": 390}
TALL, WIDE = (54, 96), (96, 54)

FILM = """async ([width, height]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  const paint = (n) => {
    pen.fillStyle = `hsl(${n * 30} 80% 50%)`;
    pen.fillRect(0, 0, width, height);
  };
  paint(0);
  const type = { mimeType: "video/webm;codecs=vp8" };
  const recorder = new MediaRecorder(canvas.captureStream(25), type);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((done) => (recorder.onstop = done));
  recorder.start();
  let n = 0;
  await new Promise((done) => {
    const timer = setInterval(() => {
      paint(n += 1);
      if (n === 20) { clearInterval(timer); done(); }
    }, 40);
  });
  recorder.stop();
  await stopped;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}"""

pytestmark = [pytest.mark.timeout(TEST_SECONDS), pytest.mark.asyncio(loop_scope="module")]


Films = dict[tuple[int, int], bytes]  # by their shape


class Stream:
    """What the stream's address answers: a film, or 404 while there is none."""

    def __init__(self, film: bytes) -> None:
        self.film = film
        self.runs = False
        self.asked = 0

    async def answer(self, route: Route) -> None:
        self.asked += 1
        if self.runs:
            await route.fulfill(body=self.film, content_type="video/webm")
        else:
            await route.fulfill(status=404)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def films(browser: Browser) -> Films:
    page = await browser.new_page()
    made = {}
    for shape in (TALL, WIDE):
        made[shape] = base64.b64decode(await page.evaluate(FILM, list(shape)))
    await page.close()
    return made


async def watch(visitors: Visitors, stage: Stage, stream: Stream, **context: Any) -> Page:
    """Open the viewer page with the stream under our control."""
    visitors.expected = ["404 (Not Found)"]
    page = await visitors.open("/console", wait_for="body", **context)
    await page.route(f"**{STREAM}", stream.answer)
    await page.goto(visitors.url + stage.watch)
    await page.locator(CONNECTED).wait_for()
    return page


async def with_video(stage: Stage) -> Stage:
    return await scheduled(stage, playback_url=STREAM)


async def start(show: Stage) -> None:
    await show.call("POST", f"/v1/shows/{show.show}/start", {})


async def test_stream_that_comes_late_is_seen(
    visitors: Visitors, stage: Stage, films: Films
) -> None:
    """Who waited in the lobby sees the video when the show starts, without a reload."""
    stream = Stream(films[WIDE])
    show = await with_video(stage)
    page = await watch(visitors, show, stream)
    video = page.locator("#video")
    async with page.expect_response(f"**{STREAM}"):
        pass  # asked for again, by itself
    await expect(video).to_be_hidden()
    await expect(page.locator("#still")).to_be_visible()
    stream.runs = True
    await start(show)
    await expect(video).to_be_visible()
    await expect(page.locator("#still")).to_be_hidden()
    assert stream.asked >= 2


@pytest.mark.parametrize("news", ["online", "visibilitychange", "nothing"])
async def test_broken_stream_comes_back(
    visitors: Visitors, stage: Stage, films: Films, news: str
) -> None:
    """After a failure in mid-show the picture returns: at once with news, else after a while."""
    stream = Stream(films[WIDE])
    stream.runs = True
    show = await with_video(stage)
    await start(show)
    page = await watch(visitors, show, stream)
    video = page.locator("#video")
    await expect(video).to_be_visible()
    stream.runs = False
    await video.evaluate("(video) => video.dispatchEvent(new Event('error'))")
    await expect(video).to_be_hidden()
    stream.runs = True
    if news == "online":
        await page.evaluate("dispatchEvent(new Event('online'))")
    elif news == "visibilitychange":
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(video).to_be_visible()


async def test_film_at_its_end_is_asked_for_again(
    visitors: Visitors, stage: Stage, films: Films
) -> None:
    """An encoder that was started again ends the old stream; the page goes on with the new one."""
    stream = Stream(films[WIDE])
    stream.runs = True
    show = await with_video(stage)
    await start(show)
    page = await watch(visitors, show, stream)
    await expect(page.locator("#video")).to_be_visible()
    asked = stream.asked
    async with page.expect_response(f"**{STREAM}"):
        pass
    assert stream.asked > asked
    await expect(page.locator("#video")).to_be_visible()


# A film at its end is loaded again, and has no size until its first bytes are there: null then.
SHOWN = """(video) => {
  if (!video.videoWidth) return null;
  const box = video.getBoundingClientRect();
  const scale = getComputedStyle(video).objectFit === "cover" ? Math.max : Math.min;
  const factor = scale(box.width / video.videoWidth, box.height / video.videoHeight);
  const part = Math.min(1, box.height / (video.videoHeight * factor)) *
               Math.min(1, box.width / (video.videoWidth * factor));
  return { part };
}"""


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
@pytest.mark.parametrize("size", [PHONE, LANDSCAPE, TABLET, DESKTOP], ids=lambda s: s["width"])
async def test_picture_is_shown_whole(
    visitors: Visitors, stage: Stage, films: Films, size: ViewportSize, shape: tuple[int, int]
) -> None:
    """Nothing is cut off; only a tall picture on an upright phone may fill the screen."""
    stream = Stream(films[shape])
    stream.runs = True
    show = await with_video(stage)
    await start(show)
    page = await watch(visitors, show, stream, viewport=size)
    video = page.locator("#video")
    await expect(video).to_be_visible()
    name = "tall" if shape == TALL else "wide"
    await expect(page.locator("#stage")).to_have_attribute("data-shape", name)
    await picture(page, f"viewer-video-{size['width']}-{name}")
    shown = await page.wait_for_function(SHOWN, arg=await video.element_handle())
    part = (await shown.json_value())["part"]
    if shape == TALL and size == PHONE:
        assert part > 0.7
    else:
        assert part == pytest.approx(1, abs=0.01)


async def test_reduced_motion_stands_still(visitors: Visitors, stage: Stage) -> None:
    """Who asked for less motion sees no element that moves by itself."""
    await stage.open_offer()
    page = await visitors.open(stage.watch, wait_for=CONNECTED, reduced_motion="reduce")
    await page.locator(".offer .buy").first.click()
    await expect(page.locator("#sheet-title")).to_be_visible()
    assert await page.evaluate("document.getAnimations().length") == 0
    moves = await page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((one) =>
             ["", "::before", "::after"].some((part) => {
               const style = getComputedStyle(one, part || null);
               return style.animationName !== "none" || style.transitionProperty !== "none" &&
                      style.transitionDuration !== "0s";
             })).length"""
    )
    assert moves == 0
