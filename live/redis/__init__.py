"""The way to Redis: clients, cluster nodes, pub/sub, one raw pipelined connection, Lua scripts."""
