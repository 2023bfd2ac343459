"""A WebSocket connection without an ASGI server around it."""
