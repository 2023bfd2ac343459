"""Names in the chat: who reads like staff, and what somebody without a name is called."""

import pytest

from live.chat.names import looks_like_staff, neutral_name
from live.domain.ids import ShowId, author_of, buyer_of


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "HOST ✔",
        "The Host",
        "h o s t",
        "h.o.s.t",
        "H0st",
        "ho$t",
        "\u041dо\u0455t",
        "ｈｏｓｔ",
        "Hóst!",
        "h\u200bost",
        "ʜᴏꜱᴛ",
        "Moderator",
        "Customer Support",
        "adm1n",
        "Gastgeberin",
        "Verkäufer",
        "Anfitrión",
        "Moderadora",
        "ホスト",
        "公式ショップ",
        "モデレーター",
        "المشرف",
        "ال\u0640مشرف",
        "الإدارة",
    ],
)
def test_name_like_the_staffs_is_known(name: str) -> None:
    """In the languages of the pages, and whatever letters it is written in."""
    assert looks_like_staff(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Ada",
        "Ghost",
        "Hostel fan",
        "Modesto",
        "Robot",
        "Müller",
        "Администратова",
        "ゴースト",
        "محمد",
        "हाँ",
    ],
)
def test_name_of_anybody_else_is_free(name: str) -> None:
    """Words count, not the letters inside of them."""
    assert not looks_like_staff(name)


def test_neutral_name_stays_and_tells_nothing() -> None:
    """The same person is called the same in a show, and otherwise in the next one."""
    buyer = buyer_of("ann@shop.example", secret="s" * 32)
    names = [neutral_name(author_of(buyer, ShowId(show))) for show in ("a", "a", "b")]

    assert names[0] == names[1] != names[2]
    assert all(name.startswith("Guest ") and len(name) == len("Guest 4821") for name in names)
