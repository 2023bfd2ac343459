"""Quotes: what a purchase comes to with shipping, tax and duty, as the shop says it."""
