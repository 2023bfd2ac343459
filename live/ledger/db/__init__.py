"""The way to Postgres: pool, migrations, rights, leases, group commit."""
