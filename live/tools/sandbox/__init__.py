"""The sandbox payment provider: an HTTP service with books of its own."""
