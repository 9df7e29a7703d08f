#!/usr/bin/env bash
# Builds what is measured, and measures it: `make bench`. Needs what `make test` needs for Kafka and, for the languages and the
# peer, their toolchains; what is missing is named in the results and not measured.
#   QUICK=1       under five minutes once everything is built; its figures are not to be quoted
#   ONLY=a,b      those suites (`target/release/sandbar-bench --list`)
#   INTO=FILE     puts the tables into FILE too, between its marks
# Further arguments go to sandbar-bench.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# beside the runtime, whose last crates leave processors idle
peers=
if command -v go >/dev/null; then
  (cd tests/bench/peers && go build -o "$target/release/bench-benthos" .) &
  peers=$!
fi
# what is not measured, as the other brokers, is not built
cargo build --release --no-default-features --package sandbar --package sandbar-bench --package sandbar-toolchain
export SANDBAR_BUILD=$target/release/sandbar-build
scripts/build-guests.sh github-router programs bench
PLUGINS=github-router scripts/build-languages.sh ${QUICK:+python}
if [ -n "$peers" ]; then
  # the sums of go.sum hold; a proxy that lacks a module is no reason to measure nothing else
  wait "$peers" || echo "MISSING PEER: Benthos could not be built: it is not measured" >&2
else
  echo "MISSING PEER: Benthos takes Go 1.26 to build: it is not measured" >&2
fi
exec "$target/release/sandbar-bench" ${QUICK:+--quick} ${ONLY:+--only "$ONLY"} ${INTO:+--into "$INTO"} "$@"
