"""Bounds of one connection, in one place so that a test can lower them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, commands and counts; the protocol's reference server agrees where it has them."""

    ping_seconds: float = 25.0
    pong_seconds: float = 8.0
    stale_seconds: float = 15.0  # from the handshake to an accepted connect
    expired_grace_seconds: float = 25.0  # a late refresh is still welcome
    commands_per_second: float = 50.0  # a busy viewer sends two; a chat storm of one person, five
    commands_burst: float = 200.0  # connect with 128 subscriptions in one message, and some more
    # A short question for a long log must be no lever: beyond the first so many bytes of an answer,
    # as many again cost a command.
    reply_bytes_per_command: int = 4_096
    history_entries_per_command: int = 4  # paid in advance; 300 entries are 76 commands
    history_entries_max: int = 300
    excess_max: int = 500  # refused commands before the flood is cut off (3013)
    outstanding_max: int = 32  # calls of one connection that run at once
    queued_max: int = 256  # ordered commands that wait for the one before
    errors_max: int = 20
    errors_window_seconds: float = 60.0
    channels_max: int = 128
    channel_chars_max: int = 255

    def __post_init__(self) -> None:
        if self.pong_seconds >= self.ping_seconds:
            raise ValueError("a pong must be due before the next ping")


DEFAULT = Limits()
