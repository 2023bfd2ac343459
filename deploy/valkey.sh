#!/bin/sh
# Starts Valkey with two accounts: `live`, which may do what the service does, and `default`, off.
# Needs VALKEY_PASSWORD, and /run/live, a directory that is gone with the container.
set -eu
umask 077
digest=$(printf %s "$VALKEY_PASSWORD" | sha256sum | cut -d' ' -f1)
sed "s/PASSWORD_SHA256/$digest/" "${LIVE_ACL:-/etc/live/valkey.acl}" >"${LIVE_RUN:-/run/live}/users.acl"
exec "$@" --aclfile "${LIVE_RUN:-/run/live}/users.acl"
