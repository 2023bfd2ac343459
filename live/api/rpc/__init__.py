"""The RPC methods of the WebSocket."""
