#!/usr/bin/env bash
# Runs every test. Starts each broker that can be started; names the missing ones,
# which is a failure under CI=true. Further arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
missing=()
cleanup() {
  for script in scripts/*/stop; do
    dir=$work/$(basename "$(dirname "$script")")
    [ ! -d "$dir" ] || "$script" "$dir" || true
  done
  rm -rf "$work"
}
trap cleanup EXIT

# broker FOLDER VARIABLE PORT URL NAME NEEDS: takes the broker that SANDBAR_VARIABLE names, or starts
# scripts/FOLDER on PORT, where tests may kill it in SANDBAR_VARIABLE_DIR.
broker() {
  local folder=$1 variable=SANDBAR_$2 port=$3 url=$4 name=$5 needs=$6
  if [ -n "${!variable:-}" ]; then
    echo "broker: $name at ${!variable} (given)"
  elif "scripts/$folder/start" "$work/$folder" "$port"; then
    export "$variable=$url" "${variable}_DIR=$work/$folder"
    echo "broker: $name at $url (started)"
  else
    missing+=("$name (needs $needs, or set $variable)")
  fi
}
broker kafka KAFKA 29092 127.0.0.1:29092 "Apache Kafka" "Java 17 and Maven"
broker nats NATS 24222 127.0.0.1:24222 "NATS JetStream" "Python with pip"
broker rabbitmq RABBITMQ 25672 amqp://guest:guest@127.0.0.1:25672 RabbitMQ "Debian's rabbitmq-server"
broker sqs SQS 25000 http://127.0.0.1:25000 "SQS (moto)" "Python with pip and venv"
broker elasticmq ELASTICMQ 29324 http://127.0.0.1:29324 "SQS (ElasticMQ)" "Java 17 and Maven"

for broker in "${missing[@]}"; do
  echo "MISSING BROKER: $broker: its tests do not run" >&2
done
if [ ${#missing[@]} -gt 0 ] && [ "${CI:-}" = true ]; then
  echo "a missing broker is a failure under CI=true" >&2
  exit 1
fi

# Builds the binaries that the end-to-end tests run, too. The test programs are guests: their
# exports have names that no linker of a host takes.
cargo test --workspace --exclude sandbar-programs "$@"

for broker in "${missing[@]}"; do
  echo "MISSING BROKER: $broker: its tests did not run" >&2
done
