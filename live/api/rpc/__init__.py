"""The RPC methods of the WebSocket, and asyncapi.json."""
