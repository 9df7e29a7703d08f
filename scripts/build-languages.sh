#!/usr/bin/env bash
# Builds the plugins in other languages than Rust, and what a new one in Rust is, into guests/ (or SANDBAR_GUESTS), each with its own toolchain: the
# example, what the SDK's tests run, and what `sandbar plugin new` writes. What did not change is not built again. A language whose toolchain is missing is named; that is a failure under CI=true.
#   scripts/build-languages.sh [LANGUAGE...]      all, or only: rust python js ts go c
#   PLUGINS="github-router"                       of those only these
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${SANDBAR_GUESTS:-guests}")
mkdir -p "$out"

tool=${SANDBAR_BUILD:-${CARGO_TARGET_DIR:-target}/debug/sandbar-build}
[ -n "${SANDBAR_BUILD:-}" ] || cargo build --quiet --package sandbar-toolchain --bin sandbar-build
if [ $# -eq 0 ]; then
  SANDBAR_BUILD=$(realpath "$tool") exec scripts/languages/each scripts/build-languages.sh
fi

# What a component depends on.
digest() {
  find "$@" -type f -not -path '*/node_modules/*' -not -path '*/__pycache__/*' -not -path '*/.sandbar/*' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum
}

want() { [[ -z ${PLUGINS:-} || " $PLUGINS " == *" ${1%-*} "* ]]; }

# plugin SDK NAME DIR [OPTION...]: builds DIR, with what the tool is told
plugin() {
  local sdk=$1 name=$2 dir=$3 now
  shift 3
  want "$name" || return 0
  now=$(digest $([ ! -d "$dir" ] || echo "$dir") "sdk/$sdk" $([ ! -f "scripts/languages/$sdk" ] || echo "scripts/languages/$sdk") wit runtime/crates/toolchain)
  [ ! -f "$out/$name.wasm" ] || [ "$(cat "$out/.$name.built" 2>/dev/null)" != "$now" ] || return 0
  # beside the packages that it needs
  local at=${WORK:-target/guests/languages}/$name
  rm -rf "$at"
  mkdir -p "$(dirname "$at")"
  [ ! -d "$dir" ] || cp -r "$dir" "$at"
  echo "building $name" >&2
  "$tool" "$at" --out "$out" "$@"
  echo "$now" >"$out/.$name.built"
}

# A component for another host, made without an SDK from that host's public WIT.
wasmcloud_js() {
  local name=wasmcloud-js dir=tests/languages/fixtures/wasmcloud-js now
  local wit=runtime/crates/wasm/wit/wasmcloud-messaging-0.2.0 at=$WORK/$name
  want "$name" || return 0
  now=$(digest "$dir" "$wit" scripts/languages/js)
  [ ! -f "$out/$name.wasm" ] || [ "$(cat "$out/.$name.built" 2>/dev/null)" != "$now" ] || return 0
  rm -rf "$at"
  cp -r "$dir" "$at"
  mkdir "$at/wit/deps"
  cp -r "$wit" "$at/wit/deps/"
  echo "building $name" >&2
  (cd "$at" && "${NODE:-node}" build.js "$out/$name.wasm")
  echo "$now" >"$out/.$name.built"
}

missing=()
for language; do
  sdk=$language
  [ "$language" != ts ] || sdk=js
  if [ "$language" = rust ]; then
    (
      lines=$(scripts/wasm-rust.sh) && eval "$lines"
      plugin rust greeter-rust begun --begin rust --sdk sdk --target-dir target/guests/new
    )
    continue
  fi
  if lines=$("scripts/languages/$sdk"); then
    (
      eval "$lines"
      plugin "$sdk" "github-router-$language" "examples/github-router-$language"
      plugin "$sdk" "crash-$language" "tests/languages/fixtures/crash-$language"
      plugin "$sdk" "reach-$language" "tests/languages/fixtures/reach-$language"
      case $language in python | js) plugin "$sdk" "fetch-$language" "tests/languages/fixtures/fetch-$language" ;; esac
      plugin "$sdk" "greeter-$language" begun --begin "$language" --sdk sdk
      [ "$language" != js ] || wasmcloud_js
    )
  elif [ $? -eq 3 ]; then
    missing+=("$language")
  else
    exit 1
  fi
done
for language in "${missing[@]}"; do
  echo "MISSING LANGUAGE: $language: see above what it needs; its plugins are not built" >&2
done
if [ ${#missing[@]} -gt 0 ] && [ "${CI:-}" = true ]; then
  echo "a missing language is a failure under CI=true" >&2
  exit 1
fi
