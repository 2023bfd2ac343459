"""Helpers for asyncio that know nothing of shows: coalescing, loops, tasks, a loop apart."""
