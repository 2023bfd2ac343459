"""Names in the chat: what somebody without one is called, and which names only staff may bear.

Always: a viewer's name does not read like one of the staff's, in whatever letters it is written. It
is a hurdle and no proof: what marks staff is the `role` of a line, which nobody can type.
"""

import unicodedata

from live.domain.ids import AuthorId

GUEST_NUMBERS = 9_000  # 1000-9999: short enough to be answered, and two are seldom the same

# In the languages of the pages. Words that stand alone in a name; a name may contain their letters.
_WORDS = """
    host hosts hostess moderator moderators moderation mod mods admin admins administrator staff
    support official presenter bot system helpdesk
    gastgeber gastgeberin moderatorin moderatoren moderatorinnen offiziell kundendienst
    kundenservice verkaufer verkauferin
    anfitrion anfitriona moderador moderadora presentador presentadora soporte oficial
    administrador administradora
    مضيف المضيف مضيفة المضيفة مشرف المشرف مشرفة المشرفة مقدم المقدم الدعم الادارة ادارة رسمي
"""
# Written without blanks between words, so that they count anywhere in a name.
_PARTS = "ホスト モデレーター モデレータ 司会 司会者 運営 公式 管理人 管理者 サポート スタッフ"

# Letters that look like Latin ones, and figures and signs that are read as letters: pairs.
_LETTERS = """
    аa бb вb гr еe ѕs іi кk мm нh оo рp сc тt уy хx јj һh ԁd
    αa βb γy εe ιi κk νv οo ρp τt υu χx ωw
    ɑa ɡg ɩi ıi øo ʜh ᴏo ꜱs ᴛt ᴍm ᴅd ᴇe ʀr ᴀa ɪi ɴn ꜰf ᴄc ᴜu ᴘp ʙb ʏy ʟl ᴠv
    0o 1i 3e 4a 5s 7t 8b
"""
_SIGNS = "$s @a |i !i"


def neutral_name(author: AuthorId) -> str:
    """What somebody is called who gave no name; the same for all of their lines in a show."""
    return f"Guest {1_000 + int(author, 16) % GUEST_NUMBERS}"


def looks_like_staff(name: str) -> bool:
    """Tell whether viewers would take the bearer of this name for one of the staff."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return any(_is_reserved(_words(folded.translate(table))) for table in _READINGS)


def _is_reserved(words: list[str]) -> bool:
    joined = "".join(words)
    spelled = "".join(word for word in words if len(word) == 1)  # "The H O S T"
    alone = not _RESERVED.isdisjoint((*words, joined, spelled))
    return alone or any(part in joined for part in _RESERVED_PARTS)


def _words(folded: str) -> list[str]:
    """Words without marks, and without what is not seen."""
    return "".join(_kept(char) for char in unicodedata.normalize("NFKD", folded)).split()


def _kept(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] == "M" or category == "Cf" or char == _STRETCH:
        return ""
    return char if category[0] in "LN" else " "


def _table(pairs: str) -> dict[int, str]:
    return {ord(pair[0]): pair[1] for pair in pairs.split()}


_STRETCH = "\u0640"  # lengthens an Arabic word for its looks
_READINGS: tuple[dict[int, str], ...] = ({}, _table(_LETTERS), _table(_LETTERS + _SIGNS))
_RESERVED = frozenset(_words(_WORDS))
_RESERVED_PARTS = tuple(_words(_PARTS))
