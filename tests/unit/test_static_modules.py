"""The pages' other pure modules in Node: time, reconnect rules, charts, the console's words."""

import pytest

from live.pages.assets import FOLDER
from tests.support.node import Run


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.js")))
def test_module_parses(run: Run, name: str) -> None:
    """A syntax error in a page's module would leave an empty page."""
    script = f"""import {{ readFileSync }} from "node:fs";
        import vm from "node:vm";
        const source = readFileSync(new URL("./{name}", import.meta.url), "utf8");
        out(typeof new vm.SourceTextModule(source));"""
    assert run(script) == "object"


def test_countdown_never_says_zero_early(run: Run) -> None:
    """Remaining time is rounded up: 0:00 means that the deadline has passed."""
    script = """import { formatRemaining } from "./clock.js";
        out([0, -5000, 1, 1000, 1001, 59999, 60000, 3599001, 3725000].map(formatRemaining));"""
    assert run(script) == [
        "0:00",
        "0:00",
        "0:01",
        "0:01",
        "0:02",
        "1:00",
        "1:00",
        "1:00:00",
        "1:02:05",
    ]


def test_clock_takes_the_fastest_answer(run: Run) -> None:
    """The offset comes from the sample with the shortest way, and not from a slow one."""
    script = """import { ServerClock } from "./clock.js";
        let local = 1_000_000;
        const clock = new ServerClock(() => local);
        clock.hint(1_700_000);
        const hinted = clock.now();
        const ways = [[400, 0], [10, 10], [0, 300]]; // ms there and back
        await clock.measure(async () => {
          const [there, back] = ways.shift();
          local += there;
          const time = local + 500_000;
          local += back;
          return { time };
        });
        const known = clock.now() - local;
        clock.hint(1); // a later hint is worse than what was measured
        out([hinted, known, clock.now() - local, clock.due]);"""
    assert run(script) == [1_700_000, 500_000, 500_000, False]


def test_close_codes_say_who_may_come_back(run: Run) -> None:
    """No reconnect exactly for 3500-3999, 4500-4999 and 1009, as in every SDK."""
    script = """import { mayReconnect } from "./client.js";
        out([1000, 1006, 1009, 1011, 3000, 3001, 3008, 3499, 3500, 3503, 3999, 4000, 4499, 4500,
             4999].map(mayReconnect));"""
    assert run(script) == [
        *(True, True, False, True, True, True, True, True),
        *(False, False, False, True, True, False, False),
    ]


def test_reconnects_spread_over_the_whole_delay(run: Run) -> None:
    """Full jitter: from nearly nothing up to a ceiling that doubles and ends at 20 s."""
    script = """import { reconnectDelay } from "./client.js";
        out([reconnectDelay(0, () => 0), reconnectDelay(0, () => 1), reconnectDelay(3, () => 1),
             reconnectDelay(50, () => 1), reconnectDelay(50, () => 0.5)]);"""
    assert run(script) == [50, 500, 4000, 20000, 10000]


def test_key_is_a_uuid_without_the_secure_function(run: Run) -> None:
    """On plain http beyond localhost there is no randomUUID; keys are version 4 all the same."""
    script = """import { newKey } from "./client.js";
        Object.defineProperty(crypto, "randomUUID", { value: undefined });
        const keys = new Set(Array.from({ length: 100 }, newKey));
        const shape = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
        out([keys.size, [...keys].every((key) => shape.test(key))]);"""
    assert run(script) == [100, True]


def test_rate_counts_the_last_minute_only(run: Run) -> None:
    """Orders a minute: growth since a minute ago, and since the start in the first minute."""
    script = """import { perMinute } from "./rates.js";
        const samples = [[0, 5], [30_000, 9], [60_000, 20], [90_000, 26]]
          .map(([at, value]) => ({ at, value }));
        out([perMinute([], 0), perMinute(samples.slice(0, 2), 30_000),
             perMinute(samples, 90_000)]);"""
    assert run(script) == [0, 4, 17]


def test_chart_stays_in_its_box(run: Run) -> None:
    """The highest value touches the top, nothing leaves the box, nothing divides by zero."""
    script = """import { linePoints } from "./charts.js";
        out([[0, 5, 10], [0, 0], [7]].map((values) => linePoints(values, 100, 40)));"""
    assert run(script) == [
        ["0.0,38.0", "50.0,20.0", "100.0,2.0"],
        ["0.0,38.0", "100.0,38.0"],
        ["0.0,2.0"],
    ]


def test_log_says_in_words_what_was_done(run: Run) -> None:
    """Titles for ids, spans for seconds, money for minor units; nothing twice, nothing empty."""
    script = """import { detailTexts } from "./desk-log.js";
        import { moderationText } from "./desk-feed.js";
        const ways = { titleOf: () => "Moon lamp", money: (minor) => `EUR ${minor / 100}` };
        out([detailTexts({ offer: "o1", sku: "p1", price_minor: 1950, hold_seconds: 120,
                           waitlist: true, until: null, skus: [], seconds: 90 }, ways),
             moderationText({ action: "mute", sub: "bob", seconds: 300 }),
             moderationText({ action: "delete", message: "m1" })]);"""
    assert run(script) == [
        ["Moon lamp", "price EUR 19.5", "hold 2 min", "waitlist: yes", "none", "90 s"],
        "muted bob for 5 min",
        "deleted a chat line",
    ]


def test_token_is_found_in_a_pasted_link(run: Run) -> None:
    """A link, a link with a show, or the bare token."""
    script = """import { tokenIn } from "./claims.js";
        out(["http://h/console#token=a.b.c", " http://h/console?show=s#x&token=a.b.c ", " a.b.c "]
          .map(tokenIn));"""
    assert run(script) == ["a.b.c"] * 3


def test_clock_that_was_set_is_measured_anew(run: Run) -> None:
    """Server time goes on with the monotonic clock; a wall clock that jumps asks for a new look."""
    script = """import { ServerClock } from "./clock.js";
        let [local, wall] = [5_000, 900_000];
        const clock = new ServerClock(() => local, () => wall);
        await clock.measure(async () => ({ time: 777_000 }));
        local += 10_000;
        wall += 10_000;
        const calm = [clock.now(), clock.due];
        wall -= 7_200_000;
        out([...calm, clock.now(), clock.due]);"""
    assert run(script) == [787_000, False, 787_000, True]


def test_stream_is_asked_for_again_in_bounds(run: Run) -> None:
    """Waits grow to 20 seconds, and half of each is chance."""
    script = """import { retryDelay } from "./player.js";
        out([0, 1, 3, 50].map((n) => [retryDelay(n, () => 0), retryDelay(n, () => 1)]));"""
    assert run(script) == [[500, 1000], [1000, 2000], [4000, 8000], [10_000, 20_000]]


def test_storage_that_refuses_is_replaced(run: Run) -> None:
    """What a browser will not keep is kept for the life of the page."""
    script = """
        const refuse = () => { throw new Error("denied"); };
        Object.defineProperty(globalThis, "sessionStorage", { get: refuse });
        Object.defineProperty(globalThis, "localStorage",
          { value: { getItem: () => null, setItem: refuse, removeItem: () => {} } });
        const { tabStorage, deviceStorage } = await import("./storage.js");
        const told = [tabStorage, deviceStorage].map((storage) => {
          storage.set("a", "1");
          const kept = storage.get("a");
          storage.remove("a");
          return [kept, storage.get("a")];
        });
        out(told);"""
    assert run(script) == [["1", None], ["1", None]]
