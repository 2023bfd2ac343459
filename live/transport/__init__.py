"""From bytes to a connection: the handshake, HTTP with bounds, WebSockets, server-sent events."""
