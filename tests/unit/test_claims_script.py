"""Links in Node: no #token makes a visitor somebody else unnoticed, no address leads elsewhere."""

import json

import pytest

from tests.support.node import Run
from tests.unit.test_links import BAD, GOOD

BROWSER = """
const storage = () => { const kept = new Map(); return {
  getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key) }; };
globalThis.localStorage = storage();
globalThis.location = { hash: "", pathname: "/watch/demo", search: "" };
globalThis.history = { replaceState: () => { location.hash = ""; } };
const asked = [];
let answer = false;
globalThis.confirm = (text) => { asked.push(text); return answer; };
const token = (sub) => `h.${btoa(JSON.stringify({ sub }))}.s`;
const open = (sub) => { location.hash = sub ? `#token=${token(sub)}` : "";
                        return readClaims(takeToken("t"))?.sub ?? null; };
globalThis.sessionStorage = storage();
const newTab = () => tabStorage.remove("t");
const { takeToken, keepToken, forgetToken, expectToken, readClaims } = await import("./claims.js");
const { tabStorage } = await import("./storage.js");
"""


def test_first_link_and_ones_own_are_taken(run: Run) -> None:
    """Nobody is asked who opens the shop's link, or opens it again in another tab."""
    lines = """out([open("ann"), open(""), (newTab(), open("ann")), asked.length]);"""
    assert run(BROWSER + lines) == ["ann", "ann", "ann", 0]


def test_link_of_somebody_else_asks_first(run: Run) -> None:
    """With both names; refused, everything stays, in a new tab as well."""
    lines = """
    open("ann");
    const refused = open("mallory");
    newTab();
    const elsewhere = open("mallory");
    answer = true;
    out([refused, elsewhere, open("mallory"), asked.length,
         asked.every((text) => text.includes("ann") && text.includes("mallory")), location.hash]);
    """
    assert run(BROWSER + lines) == ["ann", None, "mallory", 3, True, ""]


def test_guest_is_somebody(run: Run) -> None:
    """A guest has holds and a place in line: another's link does not take them away."""
    lines = """keepToken("t", token("guest-1")); out([open("mallory"), asked.length]);"""
    assert run(BROWSER + lines) == ["guest-1", 1]


def test_way_back_from_a_sign_in_needs_no_question(run: Run) -> None:
    """The page itself sent the visitor away; the next link after that one asks again."""
    lines = """
    keepToken("t", token("guest-1")); expectToken("t");
    out([open("ann"), open("mallory"), asked.length]);
    """
    assert run(BROWSER + lines) == ["ann", "ann", 1]


def test_who_logged_out_is_nobody(run: Run) -> None:
    """The next link is a log-in like the first."""
    lines = """open("ann"); forgetToken("t"); out([open(""), open("bob"), asked.length]);"""
    assert run(BROWSER + lines) == [None, "bob", 0]


@pytest.mark.parametrize(("links", "good"), [(GOOD, True), (BAD[:-1], False)], ids=["good", "bad"])
def test_pages_follow_what_the_server_calls_a_link(run: Run, links: list[str], good: bool) -> None:
    """The same rule on both sides; a length is the server's to bound."""
    lines = f"""
    const {{ isLink }} = await import("./dom.js");
    out({json.dumps(links)}.filter((text) => isLink(text) !== {json.dumps(good)}));
    """
    assert run(lines) == []
