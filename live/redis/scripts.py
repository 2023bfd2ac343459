"""The Lua scripts: read once, known by their SHA-1, loaded on each new connection.

Always: a script is run by EVALSHA only. NOSCRIPT means that this is another server than the one
we loaded them on, so the connection is dropped and checked anew, never reloaded silently.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_NEEDS = re.compile(r"^-- Needs:\s+(.+)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- Flags:\s+(.+)$", re.MULTILINE)
NAMES: Final = (
    "hold",
    "begin",
    "revert",
    "confirm",
    "release",
    "cancel",
    "retake",
    "refuse",
    "peek",
    "sell",
    "look",
    "join",
    "leave",
    "buyer",
    "reap",
    "apply",
    "drain",
    "close",
    "figures",
    "install",
    "stop",
    "swap",
    "trim",
    "forget",
    "retire",
)


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Read lua/<name>.lua with the shared parts that its header asks for in front.

    Its flags are Redis': with `allow-oom` it goes on where memory is full, because it frees more
    than it writes, or because what it ends must not wait.
    """
    own = _read(name)
    needs = _NEEDS.search(own)
    if needs is None:
        raise ValueError(f"lua/{name}.lua does not say what it needs")
    shared = [part for part in needs.group(1).split() if part.startswith("_")]
    flags = _FLAGS.search(own)
    first = f"#!lua flags={flags.group(1)}\n" if flags else ""
    text = "".join([first, *(_read(part) for part in shared), own]).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _read(name: str) -> str:
    return (resources.files("live.stock") / "lua" / f"{name}.lua").read_text()
