#!/bin/sh
# A viewer's token, with nothing but sh and openssl: LIVE_SECRET=... token.sh SUB SHOW
# SUB and SHOW are letters and digits here: they become a part of JSON as they stand.
set -eu
part() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
now=$(date +%s)
head=$(printf '{"alg":"HS256","typ":"JWT"}' | part)
body=$(printf '{"sub":"%s","role":"viewer","shows":["%s"],"aud":"live","iat":%d,"exp":%d}' \
    "$1" "$2" "$now" "$((now + 3600))" | part)
# Of two secrets, the first one signs. -hmac shows it to whoever may see this machine's processes.
sign=$(printf '%s.%s' "$head" "$body" | openssl dgst -sha256 -hmac "${LIVE_SECRET%%,*}" -binary | part)
echo "$head.$body.$sign"
