"""Chat rules and moderation on real engines: one pace and one ban for all gateways."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from live.base.errors import BadField, Busy, CallError, Conflict, Denied, NotFound
from live.chat.moderation import ModerationCommand
from live.chat.rules import BURST, LINES_PER_SECOND_MAX, TEXT_CHARS_MAX, clean
from live.domain.caller import RANKS, Caller, Role
from live.domain.channels import ChannelKind
from live.domain.events import ChatMessage, StaffMessage
from live.domain.ids import ShowId, author_of, buyer_of
from live.fanout.topic import Entry, Topic
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowPatch, ShowRows
from live.ledger.settle.known_shows import KnownShows
from live.protocol.commands import Publication
from live.showlog import keys
from tests.support.api_kit import SECRET, Stage, open_stage
from tests.support.shows_kit import HOST, set_stage


@pytest.fixture
async def stage(pool: Pool, redis_url: str, show: ShowId) -> AsyncIterator[Stage]:
    """A show on air."""
    async with open_stage(pool, redis_url) as opened:
        await set_stage(pool, show)
        await opened.projector.project(await ShowRows(pool).start(show, HOST), fresh=True)
        yield opened


def person(sub: str, role: Role = Role.VIEWER) -> Caller:
    buyer = buyer_of(sub, secret=SECRET) if sub else None
    return Caller(sub=sub, buyer=buyer, role=role, shows=frozenset({"*"}), expires_at=None)


async def say(stage: Stage, show: ShowId, sub: str, text: str, **more: Any) -> ChatMessage | None:
    data = orjson.dumps({"text": text, **more})
    return await stage.chat.accept(person(sub), show, ChannelKind.CHAT, data)


@asynccontextmanager
async def alone(
    stage: Stage, show: ShowId
) -> AsyncIterator[Callable[[], Awaitable[tuple[str, str, dict[str, Any]]]]]:
    """Hear what one person alone gets: the channel's log, the person and the event."""
    followed = await stage.follower.follow(show)
    stage.follower.topic(followed, "chat", f"chat:{show}")
    told: asyncio.Queue[tuple[str, str, dict[str, Any]]] = asyncio.Queue()

    def take(person: str, topic: Topic, entry: Entry) -> None:
        assert isinstance(entry.body, Publication) and entry.body.offset == 0
        told.put_nowait((topic.log, person, orjson.loads(bytes(entry.body.data))))

    followed.on_alone = take
    async with asyncio.timeout(60):
        yield told.get


async def moderate(stage: Stage, show: ShowId, action: Any, **more: Any) -> None:
    await stage.moderation.run(show, ModerationCommand(action=action, **more), HOST)


async def test_message_gets_an_id_a_time_and_its_author(stage: Stage, show: ShowId) -> None:
    """The author is the token's, whatever the client writes."""
    message = await say(stage, show, "ada", "  Hello\n<b>all</b> ", name="Ada", reply_to="1-0")

    assert message is not None
    assert (message.name, message.text) == ("Ada", "Hello <b>all</b>")
    assert message.author == author_of(buyer_of("ada", secret=SECRET), show)
    assert message.id.startswith(str(message.at)) and message.reply_to == "1-0"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'"hello"',
        b"{}",
        b'{"text": 1}',
        b'{"text": ""}',
        b'{"text": " \\n\\u0007 "}',
        b'{"text": "x", "sub": "eve"}',
        b'{"text": "x", "reply_to": "../../x"}',
        orjson.dumps({"text": "x" * (TEXT_CHARS_MAX + 1)}),
        orjson.dumps({"text": "x", "name": "n" * 41}),
        b'{"text": "\\ud800"}',
        b"\xff",
    ],
)
async def test_malformed_message_is_a_bad_field(stage: Stage, show: ShowId, data: bytes) -> None:
    """Nothing but a text of 1-500 characters gets in."""
    with pytest.raises(BadField):
        await stage.chat.accept(person("ada"), show, ChannelKind.CHAT, data)


async def test_longest_message_is_accepted(stage: Stage, show: ShowId) -> None:
    """500 characters, of whatever length in bytes."""
    message = await say(stage, show, "ada", "字" * TEXT_CHARS_MAX)

    assert message is not None and len(message.text) == TEXT_CHARS_MAX


def test_text_that_would_rewrite_other_lines_is_cleaned() -> None:
    """Direction overrides and control characters go, marks that Arabic needs stay."""
    assert clean("a\u202eb\u0000c\x1b[31m") == "abc[31m"
    assert clean("\u200fسلام") == "\u200fسلام"
    assert clean("e\u0301") == "é"


async def test_only_named_people_write_and_only_to_chat(stage: Stage, show: ShowId) -> None:
    """An anonymous viewer and other channels are refused."""
    for caller, kind in ((person(""), ChannelKind.CHAT), (person("ada"), ChannelKind.SHOW)):
        with pytest.raises(Denied):
            await stage.chat.accept(caller, show, kind, b'{"text": "x"}')


async def test_nobody_writes_to_a_show_that_is_over_or_unknown(stage: Stage, show: ShowId) -> None:
    """The chat ends with the show."""
    await stage.projector.project(await ShowRows(stage.pool).end(show, HOST))

    with pytest.raises(Conflict):
        await say(stage, show, "ada", "hello?")
    with pytest.raises(NotFound):
        await say(stage, ShowId("nowhere"), "ada", "hello?")


async def test_chat_of_a_show_that_redis_lost_is_not_over(stage: Stage, show: ShowId) -> None:
    """What the ledger knows comes back: the line may be said again in a moment."""
    stage.follower.known_elsewhere = KnownShows(stage.pool).knows
    await stage.log.store.expire(show, keys.lasting_keys(show), 0)
    with pytest.raises(Busy):
        await say(stage, show, "ada", "hello?")


async def test_burst_is_bounded_per_person_not_per_connection(stage: Stage, show: ShowId) -> None:
    """Of twenty at once from ten tabs, BURST get through; another person is not concerned."""
    results = await asyncio.gather(
        *(say(stage, show, "ada", f"line {number}") for number in range(20)),
        return_exceptions=True,
    )

    accepted = [one for one in results if isinstance(one, ChatMessage)]
    refused = [one for one in results if isinstance(one, Busy)]
    assert (len(accepted), len(refused)) == (BURST, 20 - BURST)
    assert 0 < refused[0].retry_ms <= 2_000
    assert await say(stage, show, "bob", "hi") is not None


async def test_repeated_text_is_refused(stage: Stage, show: ShowId) -> None:
    """Also with other marks or capitals; a moderator may say it twice."""
    await say(stage, show, "ada", "Buy at example.com!")

    with pytest.raises(Conflict):
        await say(stage, show, "ada", "buy at EXAMPLE.com")
    assert await say(stage, show, "bob", "Buy at example.com!") is not None
    for _ in range(2):
        staff = person("mod", Role.MODERATOR)
        assert await stage.chat.accept(staff, show, ChannelKind.CHAT, b'{"text": "Hi"}')


@pytest.mark.parametrize(
    "words",
    [("हाँ", "है", "हो"), ("की", "का", "के"), ("হ্যাঁ", "হয়"), ("ไม่", "ไม้", "ไหม"), ("இல்லை", "இல்ல")],
    ids=["hindi", "short", "bengali", "thai", "tamil"],
)
async def test_words_that_differ_in_marks_are_two(
    stage: Stage, show: ShowId, words: tuple[str, ...]
) -> None:
    """A vowel sign is no ornament; what is only pointed differently is still said twice."""
    for word in words:
        assert await say(stage, show, "asha", word) is not None
    with pytest.raises(Conflict):
        await say(stage, show, "asha", f"{words[-1]} !!")


async def test_name_of_the_staff_is_the_staffs(stage: Stage, show: ShowId) -> None:
    """A viewer is refused it; a host's line says by its role who they are, whatever their name."""
    with pytest.raises(BadField, match="name"):
        await say(stage, show, "ada", "Write to me", name="Höst ✔")

    said = [orjson.dumps({"text": "hi", "name": name}) for name in ("Ada", "")]
    roles = {Role.HOST: "host", Role.MODERATOR: "moderator", Role.SERVICE: "bot"}
    for role, word in roles.items():
        own, neutral = [
            await stage.chat.accept(person(word, role), show, ChannelKind.CHAT, data)
            for data in said
        ]
        assert isinstance(own, StaffMessage) and isinstance(neutral, StaffMessage)
        assert (own.role, own.name, neutral.name) == (word, "Ada", word.capitalize())
    viewers = orjson.loads(orjson.dumps(await say(stage, show, "eve", "hello")))
    assert "role" not in viewers and viewers["name"].startswith("Guest ")
    assert "eve" not in viewers.values()


async def test_slow_mode_counts_for_viewers(stage: Stage, show: ShowId) -> None:
    """The second message waits; hosts do not."""
    rows = ShowRows(stage.pool)
    await stage.projector.project(await rows.patch(show, ShowPatch(slow_mode_seconds=30), HOST))

    await say(stage, show, "ada", "one")
    with pytest.raises(Busy) as caught:
        await say(stage, show, "ada", "two")

    assert 29_000 < caught.value.retry_ms <= 30_000
    for text in ("a", "b"):
        host = person("host", Role.HOST)
        data = orjson.dumps({"text": text})
        assert await stage.chat.accept(host, show, ChannelKind.CHAT, data) is not None


async def test_muted_person_is_refused_until_unmuted(stage: Stage, show: ShowId) -> None:
    """The mute counts with the next message."""
    assert await say(stage, show, "ada", "one") is not None
    await moderate(stage, show, "mute", sub="ada")
    with pytest.raises(Denied, match="muted"):
        await say(stage, show, "ada", "two")

    await moderate(stage, show, "unmute", sub="ada")

    assert await say(stage, show, "ada", "three") is not None


async def test_shadow_ban_shows_to_nobody_but_the_author(stage: Stage, show: ShowId) -> None:
    """Nothing to publish; the author alone gets it, in the form of any other message."""
    seen = await say(stage, show, "bob", "hi")
    await moderate(stage, show, "shadow_ban", sub="ada")

    async with alone(stage, show) as heard:
        assert await say(stage, show, "ada", "spam") is None
        channel, whose, own = await heard()

    assert (channel, whose) == ("chat", buyer_of("ada", secret=SECRET).hex())
    assert seen is not None and own.keys() == {*orjson.loads(orjson.dumps(seen))}
    assert (own["text"], own["id"].split("-")[1]) == ("spam", "0")
    assert await stage.published(show, "chat") == []
    assert [one["sub"] for one in await stage.published(show, "desk")][:1] == ["bob"]


async def test_banned_person_loses_voice_place_and_sockets(stage: Stage, show: ShowId) -> None:
    """Until unbanned, which lifts a shadow ban as well."""
    await moderate(stage, show, "ban", sub="ada")

    with pytest.raises(Denied):
        await say(stage, show, "ada", "hi")
    with pytest.raises(Denied):
        await stage.chat.refuse_banned(person("ada"), show)
    await stage.chat.refuse_banned(person("bob"), show)
    assert stage.banned == [("ada", show, RANKS[Role.HOST])]
    await moderate(stage, show, "unban", sub="ada")
    await stage.chat.refuse_banned(person("ada"), show)
    assert await say(stage, show, "ada", "thanks") is not None


async def test_ban_survives_the_loss_of_redis(stage: Stage, show: ShowId) -> None:
    """Postgres has it; the next message loads it again."""
    await moderate(stage, show, "mute", sub="ada", seconds=60)
    await stage.redis.delete(f"live:{{{show}}}:chat:bans")

    with pytest.raises(Denied):
        await say(stage, show, "ada", "hi")


async def test_restriction_ends_by_itself(stage: Stage, show: ShowId) -> None:
    """Judged by Redis' clock: a deadline that is over no longer counts."""
    await moderate(stage, show, "mute", sub="ada", seconds=60)
    bans = f"live:{{{show}}}:chat:bans"
    await stage.redis.hset(bans, buyer_of("ada", secret=SECRET).hex(), "mute:1000")

    assert await say(stage, show, "ada", "hi") is not None


async def test_message_is_pinned_and_deleted_by_its_id(stage: Stage, show: ShowId) -> None:
    """The pin carries the text; a deleted message cannot be pinned any more."""
    message = await say(stage, show, "ada", "the best lamp")
    assert message is not None

    await moderate(stage, show, "pin", message=message.id)
    await moderate(stage, show, "unpin", message=message.id)
    await moderate(stage, show, "delete", message=message.id)

    events = await stage.published(show, "chat")
    # The pins told the text as well: where they stood, the log now says that it is gone.
    assert [event["type"] for event in events] == ["chat.deleted"] * 3
    assert {event["id"] for event in events} == {message.id}
    for unknown in (message.id, "nope", "1-1"):
        with pytest.raises(NotFound):
            await moderate(stage, show, "pin", message=unknown)


async def test_huge_room_is_a_sample(stage: Stage, show: ShowId) -> None:
    """One second's lines beyond the budget reach their authors alone; the staff's reach all."""
    store, state = stage.chat, f"live:{{{show}}}:chat:flow"
    second = (await stage.redis.time())[0] + 1
    while (await stage.redis.time())[0] < second:  # noqa: ASYNC110 - Redis' clock has no event
        await asyncio.sleep(0.01)

    async with alone(stage, show) as heard:
        said = [
            await say(stage, show, f"v{n}", f"line {n}") for n in range(LINES_PER_SECOND_MAX + 3)
        ]
        _, whose, own = await heard()
    host = await store.accept(
        person("host-1", Role.HOST), show, ChannelKind.CHAT, orjson.dumps({"text": "hello"})
    )
    assert (await stage.redis.hget(state, "second")) == str(second).encode(), "a slow machine"

    assert [message is not None for message in said] == [True] * LINES_PER_SECOND_MAX + [False] * 3
    assert host is not None
    late = buyer_of(f"v{LINES_PER_SECOND_MAX}", secret=SECRET)
    assert whose == late.hex()
    assert (own["type"], own["text"]) == ("chat.message", f"line {LINES_PER_SECOND_MAX}")
    while (await stage.redis.time())[0] == second:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await say(stage, show, "zoe", "the next second") is not None


async def test_moderation_is_told_on_the_desk(stage: Stage, show: ShowId) -> None:
    """Hosts and moderators see what another one did, on both of the desk's logs."""
    message = await say(stage, show, "ada", "buy at mine")
    assert message is not None
    await moderate(stage, show, "mute", sub="ada")
    await moderate(stage, show, "delete", message=message.id)

    for log in ("desk", "staff"):
        author, mute, delete = await stage.published(show, log)
        assert (author["type"], author["sub"]) == ("chat.author", "ada")
        assert (mute["type"], mute["action"], mute["by"]) == ("moderation", "mute", HOST.sub)
        assert (mute["sub"], mute["seconds"]) == ("ada", 300)
        assert (delete["action"], delete["message"]) == ("delete", message.id)


async def test_moderation_is_in_the_audit_log(stage: Stage, show: ShowId) -> None:
    """Who did what to whom; a command on an unknown show leaves nothing."""
    await moderate(stage, show, "mute", sub="ada", seconds=60)
    await moderate(stage, show, "unmute", sub="ada")
    with pytest.raises(CallError):
        await moderate(stage, ShowId("nowhere"), "mute", sub="ada")

    rows = await stage.pool.fetch("SELECT action, detail FROM host_actions ORDER BY id")
    assert [row["action"] for row in rows][-2:] == ["chat.mute", "chat.lift"]
    assert orjson.loads(rows[-2]["detail"]) == {"seconds": 60, "sub": "ada"}
