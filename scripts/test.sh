#!/usr/bin/env bash
# Runs every test. Starts each broker that can be started; names the missing ones,
# which is a failure under CI=true. Further arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
missing=()
cleanup() {
  [ ! -d "$work/kafka" ] || scripts/kafka/stop "$work/kafka" || true
  rm -rf "$work"
}
trap cleanup EXIT

if [ -n "${SANDBAR_KAFKA:-}" ]; then
  echo "broker: Apache Kafka at $SANDBAR_KAFKA (given)"
elif scripts/kafka/start "$work/kafka" 29092; then
  export SANDBAR_KAFKA=127.0.0.1:29092 SANDBAR_KAFKA_DIR=$work/kafka
  echo "broker: Apache Kafka at $SANDBAR_KAFKA (started)"
else
  missing+=("Apache Kafka (needs Java 17 and Maven, or set SANDBAR_KAFKA=host:port)")
fi

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
