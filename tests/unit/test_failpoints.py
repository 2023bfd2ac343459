"""Every failpoint of the source is one that some fault test dies at.

Method: reads the sources; a name that is put together at run time is listed here.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PUT_TOGETHER = {
    "worker.after_{job.kind}": ("worker.after_capture", "worker.after_void", "worker.after_refund")
}
_CALL = re.compile(r'\bfailpoint\(f?"([^"]+)"\)')


def _failpoints() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "live").rglob("*.py"):
        for name in _CALL.findall(path.read_text()):
            found.update(PUT_TOGETHER.get(name, (name,)))
    return found


def test_every_failpoint_is_died_at() -> None:
    """A boundary that no test dies at is one whose recovery nobody has seen."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "faults").glob("test_*.py"))
    named = set(re.findall(r'"(\w+\.\w+)"', tests))

    points = _failpoints()

    assert len(points) > 20
    assert sorted(points - named) == []


def test_every_phase_has_its_failpoints() -> None:
    """Checkout, settlement, money, closing and rebuild each die at their boundaries."""
    phases = {name.partition(".")[0] for name in _failpoints()}

    assert {"checkout", "settle", "worker", "close", "rebuild"} <= phases
