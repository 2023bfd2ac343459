"""Helpers for asyncio that know nothing of shows."""
