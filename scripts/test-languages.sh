#!/usr/bin/env bash
# The SDKs' own unit tests, and those of the examples and of new plugins, without Wasm: after scripts/build-languages.sh,
# which has begun the plugins. A language whose toolchain is missing was named there.
#   scripts/test-languages.sh [LANGUAGE...]      all, or only: python js ts go
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python js ts go
here=$PWD

for language; do
  sdk=$language
  [ "$language" != ts ] || sdk=js
  lines=$("scripts/languages/$sdk") || continue
  (
    eval "$lines"
    case $language in
      python)
        for dir in sdk/python examples/github-router-python target/guests/languages/greeter-python; do
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
        for name in github-router greeter; do
          (cd "$WORK/$name-$language" && npm test)
        done
        ;;
    esac
  )
done
