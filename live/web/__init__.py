"""HTTP API, RPC methods, viewer page, host console."""
