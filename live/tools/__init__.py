"""Engines, demo, benches, the sandbox provider: loaded by the commands that need them alone."""
