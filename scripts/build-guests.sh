#!/usr/bin/env bash
# Builds every plugin of this repository from source into guests/: the examples, the SDK's examples, the test programs.
# Fast when nothing changed; a component whose bytes did not change is not touched.
#   scripts/build-guests.sh [NAME...]      all, or only: github-router github-router-v2 github-notifier flight-delays aircraft-delays sdk programs bench
set -euo pipefail
cd "$(dirname "$0")/.."
out=${SANDBAR_GUESTS:-guests}
want() { local name=$1; shift; [ $# -eq 0 ] || [[ " $* " == *" $name "* ]]; }

# the host's own compiler builds the tool; the guests' compiler is chosen afterwards
tool=${SANDBAR_BUILD:-${CARGO_TARGET_DIR:-target}/debug/sandbar-build}
[ -n "${SANDBAR_BUILD:-}" ] || cargo build --quiet --package sandbar-toolchain --bin sandbar-build

lines=$(scripts/wasm-rust.sh) && eval "$lines"
build() { "$tool" . --profile guest --out "$out" "$@"; }

libraries=()
for name in github-router github-notifier flight-delays aircraft-delays; do
  if want "$name" "$@"; then libraries+=(--package "$name"); fi
done
if [ ${#libraries[@]} -gt 0 ]; then build --target-dir target/guests "${libraries[@]}"; fi
# its own target folder: cargo keeps one cdylib per name and would link both versions anew each time
if want github-router-v2 "$@"; then build --package github-router --features v2 --suffix=-v2 --target-dir target/guests/v2; fi
if want sdk "$@"; then build --target-dir target/guests --package sandbar-sdk --examples --prefix sdk-; fi
if want programs "$@"; then build --target-dir target/guests --package sandbar-programs --examples --prefix program-; fi
if want bench "$@"; then build --target-dir target/guests --package sandbar-bench-guests --examples --prefix bench-; fi
