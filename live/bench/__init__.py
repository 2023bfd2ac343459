"""The measurements behind `live bench`.

Each is `async run(redis_url, database_url)` on engines that are its own while it runs, prints its
table and progress to standard error and returns the object of `live bench NAME --json`.
"""

from collections.abc import Callable, Coroutine

from live.bench import fanout, floods, purchase, settle, stock

BENCHES: dict[str, Callable[[str, str], Coroutine[object, object, dict[str, object]]]] = {
    "stock": stock.run,
    "fanout": fanout.run,
    "purchase": purchase.run,
    "settle": settle.run,
    "floods": floods.run,
}
