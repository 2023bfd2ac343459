"""A live-shopping backend: offers over WebSocket, stock in Redis, a ledger in Postgres."""
