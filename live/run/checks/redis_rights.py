"""Which commands this service sends to Redis, and whether its account may send them.

Always: the list is whole (a sale by an account with exactly these rights is a test) and looking
changes nothing: each command is put into a transaction that is never run, because Redis checks
rights when a command is queued. So it needs no right but those of the list, as ACL DRYRUN would.
"""

from typing import Final

import redis

from live.base.errors import EngineError

KEY: Final = "live:{doctor}:x"
CHANNEL: Final = "live:{doctor}:live"

# One line a command, with as many arguments as Redis wants to see before it looks at rights.
_SAMPLES: Final = f"""
del {KEY}
evalsha {"0" * 40} 1 {KEY}
exec
exists {KEY}
expire {KEY} 1
hdel {KEY} f
hget {KEY} f
hgetall {KEY}
hincrby {KEY} f 1
hlen {KEY}
hmget {KEY} f
hscan {KEY} 0
hset {KEY} f v
hsetnx {KEY} f v
info server
multi
persist {KEY}
pexpire {KEY} 1
ping
pttl {KEY}
rename {KEY} {KEY}
script|exists {"0" * 40}
script|load return
spublish {CHANNEL} x
ssubscribe {CHANNEL}
sunsubscribe {CHANNEL}
time
unlink {KEY}
xack {KEY} g 1-1
xadd {KEY} * f v
xautoclaim {KEY} g c 1 0
xdel {KEY} 1-1
xgroup|create {KEY} g 0
xgroup|delconsumer {KEY} g c
xgroup|setid {KEY} g 0
xinfo|consumers {KEY} g
xinfo|groups {KEY}
xinfo|stream {KEY}
xlen {KEY}
xpending {KEY} g
xrange {KEY} - +
xreadgroup GROUP g c STREAMS {KEY} >
xrevrange {KEY} + -
xtrim {KEY} MAXLEN 1
zadd {KEY} 1 m
zcard {KEY}
zcount {KEY} 0 1
zrange {KEY} 0 1
zrangebyscore {KEY} 0 1
zrem {KEY} m
zremrangebyscore {KEY} 0 1
zscore {KEY} m
"""
_CLUSTER: Final = """
cluster|info
cluster|slots
"""


def rights(*, clustered: bool) -> list[str]:
    """The commands, named as in an ACL rule: `xgroup|create`."""
    text = _SAMPLES + (_CLUSTER if clustered else "")
    return sorted(line.split()[0] for line in text.split("\n") if line)


def acl_rule(*, clustered: bool = False) -> str:
    """What `ACL SETUSER name on >password` must be followed by."""
    return " ".join(["~live:*", "&live:*", *(f"+{one}" for one in rights(clustered=clustered))])


def check_rights(client: redis.Redis, where: str, *, clustered: bool) -> None:
    """Raises EngineError that names what is missing, and what redis-py raises."""
    text = _SAMPLES + (_CLUSTER if clustered else "")
    samples = [line.split() for line in text.split("\n") if line]
    queued = [words for words in samples if words[0] not in ("multi", "exec")]
    commands = [(*words[0].split("|"), *words[1:]) for words in queued]
    steps = _send_all(client, [("MULTI",), ("EXEC",)])  # of nothing, so nothing is run here either
    missing = ["multi"] if _refused(steps[0]) else []
    if not missing and isinstance(steps[1], redis.ResponseError):
        missing.append("exec")  # whatever the words: a transaction of nothing cannot fail
    if "multi" not in missing:
        _, *replies = _send_all(client, [("MULTI",), *commands])
        missing += [
            words[0] for words, reply in zip(queued, replies, strict=True) if _refused(reply)
        ]
    if missing:
        raise EngineError(
            f"Redis at {where} does not let us use {', '.join(missing)} on live:*",
            fix=f"give the account of the URL: {' '.join(f'+{one}' for one in missing)} "
            f"~live:* &live:*",
        )


def _refused(reply: object) -> bool:
    return isinstance(reply, redis.exceptions.NoPermissionError)


def _send_all(client: redis.Redis, commands: list[tuple[str, ...]]) -> list[object]:
    """On a connection of its own, which is closed behind them: nothing of it is run."""
    connection = client.connection_pool.get_connection()
    try:
        # redis-py leaves these untyped.
        packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
        connection.send_packed_command(packed)  # type: ignore[no-untyped-call]
        replies: list[object] = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except redis.ResponseError as refusal:
                replies.append(refusal)
        return replies
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call]
        client.connection_pool.release(connection)
