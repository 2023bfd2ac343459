"""Figures of HTTP for /metrics."""

from typing import Final

from prometheus_client import Counter

ANSWERS: Final = Counter(
    "live_http_answers",
    "Answers over HTTP by the class of their status; `none`: the client was gone before",
    ["status"],
)
_CLASSES: Final = {0: "none", 1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
for _name in _CLASSES.values():  # there before they count, so that the first error is a change
    ANSWERS.labels(_name)


def answered(status: int) -> None:
    """Count an answer; 0: there was none."""
    ANSWERS.labels(_CLASSES[status // 100]).inc()
