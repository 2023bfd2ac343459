"""Sans-I/O Centrifuge client protocol: codec, commands, one connection's state machine."""
