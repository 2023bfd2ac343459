"""Quotes as clients keep them: signed, so that what was quoted needs no row until it is paid.

Always: nobody but the holder of LIVE_SECRET makes one; none serves as anybody's token, and no token
serves as one (their audience differs). During a rotation both keys open, the first seals.
"""

from collections.abc import Sequence

import jwt
import msgspec

from live.base.errors import BadField
from live.domain.orders.quote import Quote

AUDIENCE = "live-quote"
QUOTE_CHARS_MAX = 20_000  # the longest that the hook may answer: 16 characters a letter, escaped


class QuoteSeal:
    """`keys`: those of tokens, the one that signs first."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)

    def seal(self, quote: Quote) -> str:
        claims = {"aud": AUDIENCE, "quote": msgspec.to_builtins(quote)}
        return jwt.encode(claims, self._keys[0], algorithm="HS256")

    def open(self, text: str) -> Quote:
        """Raises BadField for what we did not make."""
        for key in self._keys:
            try:
                claims = jwt.decode(text, key, algorithms=["HS256"], audience=AUDIENCE)
                return msgspec.convert(claims["quote"], Quote)
            except (jwt.InvalidTokenError, KeyError, msgspec.ValidationError):
                continue
        raise BadField("quote", "is none of ours")
