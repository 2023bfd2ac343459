"""Addresses that a shop gives and a page follows: pictures, videos.

Always: a link is an http(s) address with a host and without a user, or a path of this server. What
browsers read as another host - `//evil`, `/\\evil` - is none, and no blank or control character is
in one, so it means the same to everybody who reads it.
"""

import re

LINK_CHARS_MAX = 2_000

_PART = r"[^\s\\\u0000-\u001f\u007f-\u009f]"
LINK = (
    r"https?://[^\s\\/?#@\u0000-\u001f\u007f-\u009f]+([/?#]" + _PART + r"*)?"
    r"|/([^\s\\/\u0000-\u001f\u007f-\u009f]" + _PART + r"*)?"
)
"""As a pattern that means the same in Python and in JSON Schema; without its ends."""

HTTPS = r"https://[^\s\\/?#@\u0000-\u001f\u007f-\u009f]+([/?#]" + _PART + r"*)?"
"""The same for what leaves this shop: https alone."""

_link = re.compile(LINK)


def is_link(text: str) -> bool:
    """Tell whether pages may follow this; an empty text is none."""
    return len(text) <= LINK_CHARS_MAX and _link.fullmatch(text) is not None
