"""Sending to the shop's own servers: where to, how, and what to do when they do not answer."""
