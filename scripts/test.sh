#!/usr/bin/env bash
# Builds everything and runs every test. Starts each broker that can be started; names the missing
# ones, which is a failure under CI=true. Arguments are those of `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
missing=()
cleanup() {
  local status=$? broker name folder
  wait # for those that are still starting
  for broker in "${brokers[@]}"; do
    IFS='|' read -r name folder _ <<<"$broker"
    [ -d "$work/$name" ] || continue
    # a broker that is gone may be why tests failed
    if [ $status -ne 0 ] && ! "scripts/$folder/running" "$(cat "$work/$name/$folder.pid")" 2>/dev/null; then
      echo "BROKER GONE: $name; the end of its log:" >&2
      tail -n 15 "$work/$name"/*.log >&2 || true
    fi
    "scripts/$folder/stop" "$work/$name" || true
  done
  rm -rf "$work"
}
trap cleanup EXIT

brokers=(
  # name, scripts/FOLDER, SANDBAR_VARIABLE, port, address, name for people, what it needs, its environment
  # it is not killed, and to take a starved broker for dead costs positions, too
  "kafka|kafka|KAFKA|29092|127.0.0.1:29092|Apache Kafka|Java 17 and Maven|SANDBAR_KAFKA_BROKER_SESSION_MS=60000"
  # the one that tests kill: see docs/reliability.md for why it is not the newest
  "kafka-3|kafka|KAFKA_3|29192|127.0.0.1:29192|Apache Kafka 3.9|Java 17 and Maven|SANDBAR_KAFKA_VERSION=3.9.2"
  "nats|nats|NATS|24222|127.0.0.1:24222|NATS JetStream|Python with pip"
  "rabbitmq|rabbitmq|RABBITMQ|25672|amqp://guest:guest@127.0.0.1:25672|RabbitMQ|Debian's rabbitmq-server"
  "moto|sqs|SQS|25000|http://127.0.0.1:25000|SQS (moto)|Python with pip and venv"
  "elasticmq|elasticmq|ELASTICMQ|29324|http://127.0.0.1:29324|SQS (ElasticMQ)|Java 17 and Maven"
)

# Brokers that live for minutes: Java's second compiler takes more of the processor than it gives back.
export JDK_JAVA_OPTIONS=${JDK_JAVA_OPTIONS--XX:TieredStopAtLevel=1}
# Fetching and starting them is mostly waiting: side by side, while the tests compile. One that the
# environment names in SANDBAR_VARIABLE is taken as it is; one that is started may be killed by tests,
# which find it in SANDBAR_VARIABLE_DIR.
declare -A starting
for broker in "${brokers[@]}"; do
  IFS='|' read -r name folder variable port _ _ _ environment <<<"$broker"
  variable=SANDBAR_$variable
  [ -z "${!variable:-}" ] || continue
  # shellcheck disable=SC2086 # none, or one NAME=VALUE
  env $environment "scripts/$folder/start" "$work/$name" "$port" >"$work/$name.log" 2>&1 &
  starting[$name]=$!
done

read -ra packages <<<"${TESTED:?run it by make test}"
make test-binaries
SANDBAR_BUILD=$(realpath "${CARGO_TARGET_DIR:-target}/debug/sandbar-build")
export SANDBAR_BUILD
scripts/build-languages.sh
SANDBAR=${CARGO_TARGET_DIR:-target}/debug/sandbar scripts/test-languages.sh

for broker in "${brokers[@]}"; do
  IFS='|' read -r name _ variable port url title needs _ <<<"$broker"
  variable=SANDBAR_$variable
  if [ -z "${starting[$name]:-}" ]; then
    echo "broker: $title at ${!variable} (given)"
  elif wait "${starting[$name]}"; then
    export "$variable=$url" "${variable}_DIR=$work/$name"
    echo "broker: $title at $url (started)"
  else
    cat "$work/$name.log" >&2
    missing+=("$title (needs $needs, or set $variable)")
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
