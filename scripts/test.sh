#!/usr/bin/env bash
# Builds everything and runs every test. Starts each broker that can be started; names the missing
# ones, which is a failure under CI=true. Arguments are those of `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
missing=()
cleanup() {
  wait # for those that are still starting
  for script in scripts/*/stop; do
    dir=$work/$(basename "$(dirname "$script")")
    [ ! -d "$dir" ] || "$script" "$dir" || true
  done
  rm -rf "$work"
}
trap cleanup EXIT

brokers=(
  # scripts/FOLDER, SANDBAR_VARIABLE, port, address, name, what it needs
  "kafka|KAFKA|29092|127.0.0.1:29092|Apache Kafka|Java 17 and Maven"
  "nats|NATS|24222|127.0.0.1:24222|NATS JetStream|Python with pip"
  "rabbitmq|RABBITMQ|25672|amqp://guest:guest@127.0.0.1:25672|RabbitMQ|Debian's rabbitmq-server"
  "sqs|SQS|25000|http://127.0.0.1:25000|SQS (moto)|Python with pip and venv"
  "elasticmq|ELASTICMQ|29324|http://127.0.0.1:29324|SQS (ElasticMQ)|Java 17 and Maven"
)

# Fetching and starting them is mostly waiting: side by side, while the tests compile. One that the
# environment names in SANDBAR_VARIABLE is taken as it is; one that is started may be killed by tests,
# which find it in SANDBAR_VARIABLE_DIR.
declare -A starting
for broker in "${brokers[@]}"; do
  IFS='|' read -r folder variable port _ <<<"$broker"
  variable=SANDBAR_$variable
  [ -z "${!variable:-}" ] || continue
  "scripts/$folder/start" "$work/$folder" "$port" >"$work/$folder.log" 2>&1 &
  starting[$folder]=$!
done

read -ra packages <<<"${TESTED:?run it by make test}"
cargo build "${packages[@]}" --bins --tests --examples
SANDBAR_BUILD=$(realpath "${CARGO_TARGET_DIR:-target}/debug/sandbar-build")
export SANDBAR_BUILD
scripts/build-guests.sh
scripts/build-languages.sh
SANDBAR=${CARGO_TARGET_DIR:-target}/debug/sandbar scripts/test-languages.sh

for broker in "${brokers[@]}"; do
  IFS='|' read -r folder variable port url name needs <<<"$broker"
  variable=SANDBAR_$variable
  if [ -z "${starting[$folder]:-}" ]; then
    echo "broker: $name at ${!variable} (given)"
  elif wait "${starting[$folder]}"; then
    export "$variable=$url" "${variable}_DIR=$work/$folder"
    echo "broker: $name at $url (started)"
  else
    cat "$work/$folder.log" >&2
    missing+=("$name (needs $needs, or set $variable)")
  fi
done

for broker in "${missing[@]}"; do
  echo "MISSING BROKER: $broker: its tests do not run" >&2
done
if [ ${#missing[@]} -gt 0 ] && [ "${CI:-}" = true ]; then
  echo "a missing broker is a failure under CI=true" >&2
  exit 1
fi

# `ARGUMENTS of cargo -- ARGUMENTS of the tests`, as cargo takes them
selection=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do selection+=("$1"); shift; done
[ $# -eq 0 ] || shift
# Most tests of brokers wait for them, so more run at once than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-8}
cargo test "${packages[@]}" "${selection[@]}" --no-run --message-format=json-render-diagnostics |
  scripts/run-tests.py "$@"
[ ${#selection[@]} -gt 0 ] || cargo test "${packages[@]}" --doc

for broker in "${missing[@]}"; do
  echo "MISSING BROKER: $broker: its tests did not run" >&2
done
