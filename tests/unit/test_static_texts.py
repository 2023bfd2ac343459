"""The pages' money and languages in Node."""

import json

import pytest

from live.domain import money
from live.domain.outcomes import Outcome
from live.domain.show import ShowStatus
from live.pages import structured_data
from live.pages.assets import FOLDER
from tests.support.node import Run


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
    codes = [*money.MINOR_DIGITS, "EUR", "USD", "XXX"]
    script = f"""import {{ minorDigits }} from "./money.js";
        out({json.dumps(codes)}.map(minorDigits));"""
    assert run(script) == [money.minor_digits(code) for code in codes]


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
    german, english, japanese, iraqi = run(script)
    assert german.split() == ["1.299,00", "€"]
    assert english == "€1,299.00"
    assert japanese in ("￥1,299", "¥1,299")
    assert iraqi.split() == ["IQD", "1.500"]


def test_amount_keeps_its_order_inside_arabic(run: Run) -> None:
    """From left to right, fenced off: else a page in Arabic shows "$US 39.90"."""
    script = """import { formatMoney } from "./money.js";
        out([formatMoney(3990, "USD", "ar"), formatMoney(3990, "USD", "en")]);"""
    arabic, english = run(script)
    assert (arabic[0], arabic[-1]) == ("\u2066", "\u2069")
    assert english == "$39.90"


LANGUAGES = ["en", "de", "es", "ja", "ar"]
SOURCES = ["texts", "texts/orders", "quote-texts.js"]


def all_texts(source: str) -> str:
    """Lines that bring in `all`, by language, and `en`."""
    if source.endswith(".js"):
        return f'import {{ TEXTS as all }} from "./{source}"; const {{ en }} = all;'
    imports = "".join(f'import {tag} from "./{source}/{tag}.js";\n' for tag in LANGUAGES)
    return f"{imports}const all = {{ {', '.join(LANGUAGES)} }};\n"


@pytest.mark.parametrize("source", SOURCES)
def test_every_language_has_every_text(run: Run, source: str) -> None:
    """No language lacks a text, has one too many, or forgets a value that the text carries."""
    script = (
        all_texts(source)
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


@pytest.mark.parametrize("source", SOURCES)
def test_plural_texts_have_every_form_of_their_language(run: Run, source: str) -> None:
    """Arabic counts in six forms: a text that has forms has all that the language asks for."""
    script = (
        all_texts(source)
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


@pytest.mark.parametrize("folder", ["texts", "texts/orders"])
def test_every_text_that_code_asks_for_exists(run: Run, folder: str) -> None:
    """A key in the code that no language has would be shown as the key."""
    texts = run(f'import en from "./{folder}/en.js"; out(Object.keys(en));')
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
