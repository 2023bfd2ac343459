"""Makes time pass for every show, and brings Redis up to what Postgres says."""
