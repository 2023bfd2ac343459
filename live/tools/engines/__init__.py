"""Embedded Valkey and Postgres: find, start, adopt, stop."""
