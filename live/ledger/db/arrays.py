"""Arrays in arrays: unnest() flattens them, so an inner one travels as Postgres' text for it."""

from collections.abc import Iterable


def array_text(numbers: Iterable[int]) -> str:
    """`{1,2}`, for a cast to integer[] or bigint[]."""
    return f"{{{','.join([str(number) for number in numbers])}}}"
