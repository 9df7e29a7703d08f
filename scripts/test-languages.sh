#!/usr/bin/env bash
# The SDKs' own unit tests, those of the examples and of new plugins without Wasm, and the cases of new plugins on the
# engine: after scripts/build-languages.sh, which has begun and built the plugins. A language whose toolchain is missing was named there.
#   scripts/test-languages.sh [LANGUAGE...]      all, or only: rust python js ts go c
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
guests=$(realpath -m "${SANDBAR_GUESTS:-guests}")

# the program that the SDKs' test kits run
[ -n "${SANDBAR:-}" ] || cargo build --quiet --package sandbar
SANDBAR=$(realpath "${SANDBAR:-${CARGO_TARGET_DIR:-target}/debug/sandbar}")
export SANDBAR
[ $# -gt 0 ] || exec scripts/languages/each scripts/test-languages.sh

# What `sandbar plugin new` has written passes.
cases() { "$SANDBAR" plugin test "$guests/greeter-$1.wasm" --cases "$2/cases.toml"; }

for language; do
  sdk=$language
  [ "$language" != ts ] || sdk=js
  if [ "$language" = rust ]; then
    cases rust target/guests/languages/greeter-rust
    continue
  fi
  lines=$("scripts/languages/$sdk") || continue
  (
    eval "$lines"
    cases "$language" "${WORK:-target/guests/languages}/greeter-$language"
    export GREETER=$guests/greeter-$language.wasm
    case $language in
      python)
        for dir in sdk/python examples/github-router-python target/guests/languages/greeter-python tests/languages/kit; do
          (cd "$dir" && "$PYTHON" -m pytest -q -p no:cacheprovider)
        done
        ;;
      go)
        for dir in sdk/go examples/github-router-go target/guests/languages/greeter-go; do
          (cd "$dir" && "$GO" vet ./... && "$GO" test ./...)
        done
        ;;
      js | ts)
        # where node finds the packages
        ln -sfn "$here/examples/data" "$WORK/data"
        if [ "$language" = js ]; then (cd "$WORK/node_modules/sandbar-sdk" && cp -r "$here/sdk/js/test" . && npm test); fi
        rm -rf "$WORK/kit" && cp -r "$here/tests/languages/kit" "$WORK/kit"
        (cd "$WORK/kit" && node --test)
        for name in github-router greeter; do
          (cd "$WORK/$name-$language" && npm test)
        done
        ;;
    esac
  )
done
