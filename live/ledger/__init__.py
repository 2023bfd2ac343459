"""Postgres: settlement, queries, migrations, rebuild, audit, notices."""
