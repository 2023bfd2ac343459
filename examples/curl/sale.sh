#!/bin/sh
# A sale from nothing, with curl. Needs: SERVER (http://127.0.0.1:8000) and HOST_TOKEN, of a host of
# all shows: live token --role host --sub me
set -eu
: "${SERVER:=http://127.0.0.1:8000}" "${HOST_TOKEN:?}"
show=show-$$ sku=sku-$$ offer=offer-$$

call() { # METHOD PATH [BODY]; the key makes a repeat harmless
    answer=$(curl --silent --show-error --fail-with-body --request "$1" "$SERVER$2" \
        --header "Authorization: Bearer $HOST_TOKEN" \
        --header "Idempotency-Key: sale-$$-$1-$2" \
        --header 'Content-Type: application/json' --data "${3:-}") || fault=$?
    printf '%s\n' "$answer"
    return "${fault:-0}"
}

call POST /v1/products "{\"sku\": \"$sku\", \"title\": \"Mug\", \"price_minor\": 1500, \"currency\": \"EUR\", \"on_hand\": 100}"
call POST /v1/shows "{\"id\": \"$show\", \"title\": \"A show by curl\", \"currency\": \"EUR\"}"
call POST "/v1/shows/$show/start"

# What every viewer hears, as an event stream; it ends with this script.
curl --silent --no-buffer --get "$SERVER/connection/uni_sse" \
    --data-urlencode "cf_connect={\"token\": \"$HOST_TOKEN\", \"data\": {\"show\": \"$show\"}}" &
trap 'kill $!' EXIT

call POST "/v1/shows/$show/offers" "{\"id\": \"$offer\", \"sku\": \"$sku\", \"price_minor\": 1200, \"quantity\": 10, \"per_buyer_limit\": 2, \"hold_seconds\": 60, \"mode\": \"hold\"}"
call POST "/v1/offers/$offer/open"
sleep "${SECONDS_OPEN:-2}"
call POST "/v1/offers/$offer/close"
call POST "/v1/shows/$show/end"
call GET "/v1/shows/$show/report"
