#!/bin/sh
# Run once, when the cluster is made: two roles, neither a superuser. `live_owner` owns the database
# and runs migrations; `live` serves, with what `live migrate --grant live` gives it.
# Passwords go by standard input: a command line can be read by others.
set -eu
psql --set=ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<SQL
CREATE ROLE live_owner LOGIN PASSWORD '$POSTGRES_PASSWORD';
CREATE ROLE live LOGIN PASSWORD '$LIVE_DATABASE_PASSWORD';
ALTER DATABASE "$POSTGRES_DB" OWNER TO live_owner;
REVOKE ALL ON DATABASE "$POSTGRES_DB" FROM PUBLIC;
GRANT CONNECT ON DATABASE "$POSTGRES_DB" TO live;
SQL
