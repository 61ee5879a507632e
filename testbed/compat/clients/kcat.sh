#!/bin/sh
# kcat, whatever librdkafka it is linked to. It has neither transactions nor admin calls.
set -eu
security=
if [ -n "${SASL_MECHANISM:-}" ]; then
  security="-X security.protocol=sasl_ssl -X sasl.mechanism=$SASL_MECHANISM -X sasl.username=$SASL_USERNAME -X sasl.password=$SASL_PASSWORD -X ssl.ca.location=$CA_FILE"
fi
verb=$1
shift
case $verb in
version)
  kcat -V | sed -n 's/^Version \([^ ]*\).*librdkafka \([0-9][^ ]*\).*/kcat \1 (librdkafka \2)/p'
  ;;
produce)
  prefix=$1 count=$2
  shift 2
  for codec; do
    i=0
    while [ $i -lt "$count" ]; do
      printf 'k-%d:%s-%05d\n' $i "$codec" $i
      i=$((i + 1))
    done | kcat -q -b "$BOOTSTRAP" $security -P -t "$prefix-$codec" -z "$codec" -H "codec=$codec" -K : -X acks=all -X enable.idempotence=true
  done
  ;;
consume)
  group=$1 topic=$2
  kcat -q -u -b "$BOOTSTRAP" $security -X isolation.level="${ISOLATION:-read_uncommitted}" -X session.timeout.ms=6000 \
    -X heartbeat.interval.ms=500 -X auto.offset.reset=earliest -G "$group" "$topic" </dev/null &
  pid=$!
  cat >/dev/null
  kill -INT $pid
  wait $pid
  ;;
*)
  echo "kcat has no $verb" >&2
  exit 2
  ;;
esac
