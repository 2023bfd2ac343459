"""What the commands of one connection may cost: a bucket of tokens, one a command.

Always: a command is paid for before it runs; an answer that turns out long is charged afterwards,
and the bucket may owe for it. Not here: what happens to who cannot pay (session.py), and frames
that are no whole message (transport/fast/frame_budget.py).
"""

from live.protocol.commands import Body, HistoryRequest
from live.protocol.limits import Limits


class Budget:
    """`excess`: commands refused since the bucket was last full."""

    __slots__ = ("_limits", "_refilled_at", "_tokens", "excess")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._tokens = limits.commands_burst
        self._refilled_at = now
        self.excess = 0

    def pay(self, now: float, price: float = 1.0) -> bool:
        """Take tokens of the bucket; False when they are not there."""
        self._refill(now)
        paid = self._tokens >= price
        if paid:
            self._tokens -= price
        return paid

    def owes(self, now: float) -> bool:
        """Whether answers have cost more than there was."""
        self._refill(now)
        return self._tokens < 0.0

    def charge(self, size: int) -> None:
        """Let an answer of so many bytes cost what it takes to send."""
        unit = self._limits.reply_bytes_per_command
        if size > unit:
            self._tokens -= size / unit - 1.0

    def price(self, body: Body) -> float:
        """What a command costs before it is known how long its answer is."""
        if type(body) is not HistoryRequest:
            return 1.0
        limits = self._limits
        most = limits.history_entries_max
        entries = body.limit if 0 <= body.limit < most else most
        return min(1.0 + entries / limits.history_entries_per_command, limits.commands_burst)

    def _refill(self, now: float) -> None:
        limits = self._limits
        filled = self._tokens + (now - self._refilled_at) * limits.commands_per_second
        self._refilled_at = now
        if filled >= limits.commands_burst:
            filled = limits.commands_burst
            self.excess = 0
        self._tokens = filled
