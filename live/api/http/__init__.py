"""The HTTP API: one table of calls (routes.py) drives routing, rights, validation and OpenAPI."""
