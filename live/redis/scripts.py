"""Lua scripts: read once from the lua/ folder of a package, known to servers by their SHA-1.

Always: a script is run by EVALSHA. Who runs it says what NOSCRIPT means: `Clients.run_script` loads
it and runs it again, which suits scripts that find all they need in their keys; a `Wire` loads its
scripts when it connects and is dropped and checked anew afterwards, because a server that knows
none of them may be another one, and nothing may be decided there blindly.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_NEEDS: Final = re.compile(r"^-- Needs:\s+(.+)$", re.MULTILINE)
_FLAGS: Final = re.compile(r"^-- Flags:\s+(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: bytes
    sha: bytes


@cache
def read_scripts(package: str) -> dict[str, Script]:
    """All lua/<name>.lua of a package by name; files named _<name>.lua are parts that they share.

    A header's `Needs:` names the parts to put in front. Its `Flags:` are Redis': with `allow-oom`
    a script goes on where memory is full, because it frees more than it writes, or because what it
    ends must not wait.
    """
    folder = resources.files(package) / "lua"
    names = sorted(file.name.removesuffix(".lua") for file in folder.iterdir())
    return {name: _assemble(package, name) for name in names if not name.startswith("_")}


def _assemble(package: str, name: str) -> Script:
    own = read_source(package, name)
    needs = _NEEDS.search(own)
    shared = [part for part in needs.group(1).split() if part.startswith("_")] if needs else []
    flags = _FLAGS.search(own)
    first = f"#!lua flags={flags.group(1)}\n" if flags else ""
    text = "".join([first, *(read_source(package, part) for part in shared), own]).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def read_source(package: str, name: str) -> str:
    """One file as it stands."""
    return (resources.files(package) / "lua" / f"{name}.lua").read_text()
