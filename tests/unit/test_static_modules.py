"""The pages' pure modules, run by Node: folding events, money, languages, time, reconnect rules.

Method: a copy of `live/web/static` beside a package.json that says "module"; each test runs a few
lines in Node and compares what they print as JSON.
"""

import json
import shutil
import subprocess
from collections.abc import Callable

import pytest

from live.domain.outcomes import Outcome
from live.domain.show import ShowStatus
from live.web import structured_data
from live.web.assets import FOLDER

NODE = shutil.which("node")
NODE_SECONDS = 30

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on PATH: static modules not run")

Run = Callable[[str], object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run lines of JavaScript; `out(value)` at the end is the result."""
    folder = tmp_path_factory.mktemp("static")
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')

    def run_lines(lines: str) -> object:
        script = folder / "test.js"
        script.write_text(f"const out = (v) => console.log(JSON.stringify(v));\n{lines}")
        assert NODE is not None
        done = subprocess.run(
            [NODE, "--experimental-vm-modules", "--no-warnings", str(script)],
            capture_output=True,
            text=True,
            timeout=NODE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_lines


MODEL = """
import { ShowModel } from "./state.js";
const offer = (over) => ({id: "a", sku: "mug", phase: "open", version: 1, left: 5, held: 0,
                          sold: 0, ...over});
const model = new ShowModel();
model.welcome({time: 1000, show: {id: "s", version: 1, title: "T", status: "live", pins: [],
  run_order: ["mug", "tea"], offers: [offer(), offer({id: "b", sku: "tea"})]},
  me: {holds: [], waitlist: [], orders: []}});
"""


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.js")))
def test_module_parses(run: Run, name: str) -> None:
    """A syntax error in a page's module would leave an empty page."""
    script = f"""import {{ readFileSync }} from "node:fs";
        import vm from "node:vm";
        const source = readFileSync(new URL("./{name}", import.meta.url), "utf8");
        out(typeof new vm.SourceTextModule(source));"""
    assert run(script) == "object"


def test_older_offer_is_ignored(run: Run) -> None:
    """An offer event with a lower version than the known one changes nothing."""
    result = run(
        MODEL
        + """
        const of = (version, phase) => ({type: "offer.updated", at: 2000,
                                         offer: offer({version, phase})});
        model.fold(of(3, "paused"));
        model.fold(of(2, "open"));
        out(model.offers.get("a").phase);"""
    )
    assert result == "paused"


def test_event_folded_twice_changes_nothing_more(run: Run) -> None:
    """Objects are whole and absolute: replaying recovered events is harmless."""
    result = run(
        MODEL
        + """
        const events = [
          {type: "offer.updated", at: 2000, offer: offer({version: 2, left: 3})},
          {type: "chat.message", at: 2001, id: "1-1", sub: "x", name: "X", text: "hi"},
          {type: "product.pinned", at: 2002, skus: ["tea"]},
          {type: "announcement", at: 2003, text: "Hello", until: null},
        ];
        const look = () => JSON.stringify([[...model.offers], model.chat, model.show]);
        for (const event of events) model.fold(event);
        const once = look();
        for (const event of events) model.fold(event);
        out(once === look());"""
    )
    assert result is True


def test_figures_follow_the_newest_time(run: Run) -> None:
    """A pulse that is older than an offer event's figures does not bring the old stock back."""
    result = run(
        MODEL
        + """
        const pulse = (at, left) => ({type: "pulse", at, viewers: 9, reactions: {},
                                      offers: [{id: "a", left, held: 1, sold: 2}]});
        model.fold(pulse(3000, 2));
        model.fold({type: "offer.updated", at: 2500, offer: offer({version: 2, left: 4})});
        const later = model.offers.get("a");
        model.fold(pulse(2900, 3));
        out([later.left, later.version, model.offers.get("a").left, model.viewers]);"""
    )
    assert result == [2, 2, 2, 9]


def test_snapshot_replaces_what_has_gone(run: Run) -> None:
    """After a reconnect, offers and holds that the snapshot lacks are gone."""
    result = run(
        MODEL
        + """
        model.takeHold({hold: "k", state: "held", items: [], expires_at: 9});
        model.welcome({time: 5000, show: {id: "s", version: 2, status: "live", pins: [],
          run_order: [], offers: [offer({version: 2})]},
          me: {holds: [], waitlist: [], orders: []}});
        out([[...model.offers.keys()], model.holds.size]);"""
    )
    assert result == [["a"], 0]


def test_snapshot_brings_orders(run: Run) -> None:
    """Orders of the snapshot are known after a reload, and their holds are over."""
    result = run(
        MODEL
        + """
        const order = {order: "o", hold: "k", state: "confirmed", items: []};
        model.welcome({time: 5000, me: {waitlist: [], orders: [order],
          holds: [{hold: "k", state: "paying", items: [], expires_at: 9}]}});
        out([[...model.orders.keys()], model.holds.size]);"""
    )
    assert result == [["o"], 0]


def test_replayed_hold_does_not_come_back(run: Run) -> None:
    """Recovery replays a grant that is over: the newer snapshot knows better."""
    result = run(
        MODEL
        + """
        const hold = {hold: "k", state: "held", expires_at: 900, items: [{offer: "a", qty: 1}]};
        model.fold({type: "hold.granted", at: 800, hold});
        const replayed = model.holds.size;
        model.fold({type: "hold.granted", at: 1100, hold});
        const fresh = model.holds.size;
        model.fold({type: "hold.expired", at: 1200, hold});
        out([replayed, fresh, model.holds.size]);"""
    )
    assert result == [0, 1, 0]


def test_deleted_chat_line_leaves_page_and_pin(run: Run) -> None:
    """A deleted message is gone from the list and from the pinned place; the list is bounded."""
    result = run(
        MODEL
        + """
        for (let i = 0; i < 300; i += 1)
          model.fold({type: "chat.message", at: i, id: `${i}-0`, sub: "x", name: "X", text: "t"});
        model.fold({type: "chat.pinned", at: 1, id: "299-0", text: "t"});
        const full = model.chat.length;
        model.fold({type: "chat.deleted", at: 2, id: "299-0"});
        out([full, model.chat.length, model.pinned]);"""
    )
    assert result == [200, 199, None]


def test_offers_that_can_be_bought_come_first(run: Run) -> None:
    """Open before scheduled before closed; among equals the pinned one, then the run of show."""
    result = run(
        MODEL
        + """
        for (const [id, sku, phase] of [["c", "x", "closed"], ["d", "x", "scheduled"]])
          model.takeOffer(offer({id, sku, phase}), 1);
        const before = model.sortedOffers().map((one) => one.id);
        model.fold({type: "product.pinned", at: 1, skus: ["tea"]});
        out([before, model.sortedOffers().map((one) => one.id)]);"""
    )
    assert result == [["a", "b", "d", "c"], ["b", "a", "d", "c"]]


REHEARSED = """
        model.fold({type: "show.started", at: 1500, show: {version: 2, status: "rehearsal",
          offers: [offer({version: 2}), offer({id: "b", sku: "tea"})]}});
        model.takeHold({hold: "k", state: "held", items: [{offer: "a", qty: 1}], expires_at: 9});
        model.waiting.set("b", {offer: "b", key: "w", qty: 1, position: 1});
        model.takeOrder({order: "o", hold: "h", state: "confirmed", items: []}, 1600);
        model.takeOffer(offer({id: "d", phase: "draft"}), 1600);
"""


def test_nothing_of_a_rehearsal_stays_on_the_page(run: Run) -> None:
    """Its offers are drafts again: only who has drafts keeps them; nothing was held or bought."""
    result = run(
        MODEL
        + REHEARSED
        + """
        const before = [model.holds.size, model.waiting.size, model.orders.size];
        model.fold({type: "show.ended", at: 2000, show: {version: 3, status: "scheduled",
          offers: []}});
        out([before, model.show.status, [...model.offers.keys()], model.holds.size,
             model.waiting.size, model.orders.size]);"""
    )
    assert result == [[1, 1, 1], "scheduled", ["d"], 0, 0, 0]


def test_late_show_event_forgets_no_newer_offer(run: Run) -> None:
    """A show event that is older than the known show changes neither it nor its offers."""
    result = run(
        MODEL
        + """
        model.fold({type: "show.updated", at: 2000, show: {version: 5, title: "New",
          offers: [offer({version: 5}), offer({id: "c", version: 5})]}});
        model.fold({type: "show.updated", at: 1900, show: {version: 4, title: "Old",
          offers: []}});
        out([model.show.title, [...model.offers.keys()]]);"""
    )
    assert result == ["New", ["a", "c"]]


def test_pinned_product_without_an_offer_comes_up(run: Run) -> None:
    """Until viewers know an offer of it; what is closed belongs to earlier."""
    result = run(
        MODEL
        + """
        const card = (sku) => ({sku, title: sku, image_url: "", price_minor: 1, currency: "EUR"});
        model.fold({type: "product.pinned", at: 1, skus: ["mug", "pan"],
          products: [card("mug"), card("pan")]});
        const coming = model.coming().map((one) => one.sku);
        model.takeOffer(offer({id: "p", sku: "pan", phase: "closed"}), 2);
        const ids = (list) => list.map((one) => one.id);
        out([coming, model.coming().length, ids(model.shelf()), ids(model.earlier())]);"""
    )
    assert result == [["pan"], 0, ["a", "b"], ["p"]]


def test_own_units_are_held_and_bought_ones(run: Run) -> None:
    """A hold counts, its order counts once, and what was cancelled counts for nobody."""
    result = run(
        MODEL
        + """
        const items = (qty) => [{offer: "a", qty}, {offer: "b", qty: 7}];
        model.takeHold({hold: "h", state: "held", items: items(2), expires_at: 9});
        const held = [model.unitsOf("a"), model.holdOf("a").hold];
        const order = {order: "o", hold: "h", state: "paid", items: items(2)};
        model.orders.set("o", order);
        const both = model.unitsOf("a");
        model.takeOrder(order, 2000);
        const bought = [model.unitsOf("a"), model.holdOf("a")];
        model.takeOrder({...order, state: "refunded"}, 2001);
        const refunded = model.unitsOf("a");
        model.takeOrder({...order, state: "cancelled"}, 2002);
        out([held, both, bought, refunded, model.unitsOf("a")]);"""
    )
    assert result == [[2, "h"], 2, [2, None], 2, 0]


def test_few_is_a_part_of_all(run: Run) -> None:
    """A full offer of five units is not "few"; one of twenty is; nothing is none."""
    result = run(
        """import { isFew } from "./offer-card.js";
        const few = (left, sold) => isFew({left, held: 0, sold});
        out([few(5, 0), few(1, 3), few(2, 3), few(1, 19), few(6, 94), few(5, 95), few(0, 9),
             few(1, 0)]);"""
    )
    assert result == [False, True, False, True, False, True, False, False]


@pytest.mark.parametrize(
    ("minor", "currency", "decimal"),
    [
        (1999, "EUR", "19.99"),
        (5, "USD", "0.05"),
        (0, "EUR", "0.00"),
        (1500, "JPY", "1500"),
        (1234567, "KWD", "1234.567"),
        (7, "IQD", "0.007"),
        (12345, "CLF", "1.2345"),
    ],
)
def test_minor_units_become_decimals(run: Run, minor: int, currency: str, decimal: str) -> None:
    """Page and JSON-LD write the same decimal number for an amount, without rounding."""
    script = f"""import {{ toDecimal, toMinor }} from "./money.js";
        const text = toDecimal({minor}, "{currency}");
        out([text, toMinor(text, "{currency}")]);"""
    assert run(script) == [decimal, minor]
    assert structured_data.decimal_price(minor, currency) == decimal


def test_currency_digits_are_the_same_in_both_languages(run: Run) -> None:
    """The table of minor units in JavaScript is the one in Python."""
    codes = [*structured_data.MINOR_DIGITS, "EUR", "USD", "XXX"]
    script = f"""import {{ minorDigits }} from "./money.js";
        out({json.dumps(codes)}.map(minorDigits));"""
    assert run(script) == [structured_data.MINOR_DIGITS.get(code, 2) for code in codes]


def test_typed_price_must_fit_the_currency(run: Run) -> None:
    """A host's price has a comma or a point, and no more decimals than the currency."""
    script = """import { toMinor } from "./money.js";
        out([toMinor("19,9", "EUR"), toMinor("19.999", "EUR"), toMinor("1.5", "JPY"),
             toMinor("", "EUR"), toMinor("-1", "EUR"), toMinor(" 7 ", "EUR"),
             toMinor("1e3", "EUR")]);
    """
    assert run(script) == [1990, None, None, None, None, 700, None]


def test_money_reads_as_the_language_writes_it(run: Run) -> None:
    """The browser's own formats, with the digits of ISO 4217."""
    script = """import { formatMoney } from "./money.js";
        out([formatMoney(129900, "EUR", "de"), formatMoney(129900, "EUR", "en"),
             formatMoney(1299, "JPY", "ja"), formatMoney(1500, "IQD", "en")]);"""
    german, english, japanese, iraqi = run(script)  # type: ignore[misc]  # a list of four texts
    assert german.split() == ["1.299,00", "€"]
    assert english == "€1,299.00"
    assert japanese in ("￥1,299", "¥1,299")
    assert iraqi.split() == ["IQD", "1.500"]


def test_amount_keeps_its_order_inside_arabic(run: Run) -> None:
    """From left to right, fenced off: else a page in Arabic shows "$US 39.90"."""
    script = """import { formatMoney } from "./money.js";
        out([formatMoney(3990, "USD", "ar"), formatMoney(3990, "USD", "en")]);"""
    arabic, english = run(script)  # type: ignore[misc]  # a list of two texts
    assert (arabic[0], arabic[-1]) == ("\u2066", "\u2069")
    assert english == "$39.90"


LANGUAGES = ["en", "de", "es", "ja", "ar"]
ALL_TEXTS = (
    "".join(f'import {tag} from "./texts/{tag}.js";\n' for tag in LANGUAGES)
    + f"const all = {{ {', '.join(LANGUAGES)} }};\n"
)


def test_every_language_has_every_text(run: Run) -> None:
    """No language lacks a text, has one too many, or forgets a value that the text carries."""
    script = (
        ALL_TEXTS
        + """
        const found = (text) => JSON.stringify(text).match(/\\{\\w+\\}/g) || [];
        const holes = (text) => [...new Set(found(text))].sort();
        const faults = [];
        for (const [tag, texts] of Object.entries(all)) {
          for (const key of new Set([...Object.keys(en), ...Object.keys(texts)])) {
            if (!texts[key] || !en[key]) faults.push([tag, key]);
            else if (String(holes(texts[key])) !== String(holes(en[key]))) faults.push([tag, key]);
          }
        }
        out(faults);"""
    )
    assert run(script) == []


def test_plural_texts_have_every_form_of_their_language(run: Run) -> None:
    """Arabic counts in six forms: a text that has forms has all that the language asks for."""
    script = (
        ALL_TEXTS
        + """
        const faults = [];
        for (const [tag, texts] of Object.entries(all)) {
          // Millions take a form of their own in Spanish ("many"); a show sells no millions.
          const forms = new Intl.PluralRules(tag).resolvedOptions().pluralCategories
            .filter((form) => !(tag === "es" && form === "many"));
          for (const [key, text] of Object.entries(texts))
            if (typeof text === "object" && forms.some((form) => !text[form]))
              faults.push([tag, key]);
        }
        out(faults);"""
    )
    assert run(script) == []


def test_every_refusal_and_status_has_words(run: Run) -> None:
    """Each outcome that the server may answer to Buy is said in words, and so is each status."""
    refusals = [
        Outcome.SOLD_OUT,
        Outcome.LIMIT_REACHED,
        Outcome.NOT_OPEN,
        Outcome.CLOSED,
        Outcome.PAUSED,
    ]
    keys = [f"say_{outcome}" for outcome in refusals]
    keys += [f"status_{status}" for status in ShowStatus]
    keys += [f"{outcome}_title" for outcome in ("confirmed", "expired", "hold_lost", "rejected")]
    missing = run(
        f'import en from "./texts/en.js"; out({json.dumps(keys)}.filter((key) => !en[key]));'
    )
    assert missing == []


def test_every_text_that_code_asks_for_exists(run: Run) -> None:
    """A key in the code that no language has would be shown as the key."""
    texts = run('import en from "./texts/en.js"; out(Object.keys(en));')
    assert isinstance(texts, list)
    sources = [path.read_text() for path in FOLDER.glob("*.js")]
    templates = (FOLDER.parent / "templates" / "watch.html").read_text()
    for key in texts:
        stem = key.partition("_")[0]
        named = any(f'"{key}"' in source or f"{stem}_${{" in source for source in sources)
        assert named or f'data-text="{key}"' in templates or key.endswith("_title"), key


@pytest.mark.parametrize(
    ("wishes", "language"),
    [
        (["de-AT", "en"], "de"),
        (["zh-Hant-TW", "ja-JP"], "ja"),
        (["AR-eg"], "ar"),
        (["pt-BR"], "en"),
        ([None, "", "es-419"], "es"),
        ([], "en"),
    ],
)
def test_language_falls_back_by_bcp_47(run: Run, wishes: list[str], language: str) -> None:
    """The nearest language that there is, wish by wish, and English at the end."""
    script = f"""import {{ chooseLanguage, direction }} from "./i18n.js";
        const language = chooseLanguage({json.dumps(wishes)});
        out([language, direction(language)]);"""
    assert run(script) == [language, "rtl" if language == "ar" else "ltr"]


def test_text_is_filled_and_counted(run: Run) -> None:
    """Numbers are written by the language, plural forms chosen by it, braces in values kept."""
    script = """import { Translator } from "./i18n.js";
        const en = await Translator.load("en");
        const ar = await Translator.load("ar");
        const de = await Translator.load("de");
        out([en.say("left_count", {n: 1}), en.say("left_count", {n: 12000}),
             de.say("left_count", {n: 12000}), ar.say("left_count", {n: 2}),
             en.say("say_failed", {reason: "{n} <b>"}), en.say("no_such_text")]);"""
    assert run(script) == [
        "Only 1 left",
        "12,000 left",
        "Noch 12.000 da",
        "بقيت قطعتان فقط",
        "That did not work: {n} <b>",
        "no_such_text",
    ]


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
