"""The measurements behind `live bench`.

Each module has `async run(redis_url, database_url)` on engines that are its own while it runs; it
prints its table and progress to standard error and returns the object of `live bench NAME --json`.
"""

BENCHES = ("stock", "fanout", "purchase", "settle", "floods")
"""Names of the modules that measure; the others of this folder are their parts."""
