"""The measurements behind `live bench`; each of its names is a module, the others are their parts.

A module has `async run(redis_url, database_url)` on engines that are its own while it runs; it
prints its table and progress to standard error and returns the object of `live bench NAME --json`.
"""
