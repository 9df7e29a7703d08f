#!/usr/bin/env bash
# Prints "KEY=VALUE" lines (to eval) that make `cargo build --target wasm32-unknown-unknown` work.
#   lines=$(scripts/wasm-rust.sh) && eval "$lines"      (in a subshell: it may export RUSTC)
# 1. already-installed target  2. rustup target add  3. Debian rustc-web + std built once from rust-web-src
set -euo pipefail
T=wasm32-unknown-unknown
PREFIX=${WASM_RUST_PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbar-wasm-rust}
has_std() { local d; d=$("$@" --print target-libdir --target $T 2>/dev/null) && compgen -G "$d/libstd-*.rlib" >/dev/null; }

if [ -z "${WASM_RUST_FORCE_DEBIAN:-}" ]; then
  if has_std "${RUSTC:-rustc}"; then echo "WASM_RUST=installed"; exit 0; fi
  # WASM_RUST_NO_RUSTUP=1 skips this step (for machines that reach package registries only)
  if [ -z "${WASM_RUST_NO_RUSTUP:-}" ] && command -v rustup >/dev/null && timeout 120 rustup target add $T >&2; then
    echo "WASM_RUST=rustup"; exit 0
  fi
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "wasm-rust.sh: the Rust target $T is missing and this is no Debian: run 'rustup target add $T'" >&2; exit 1
fi

R=$PREFIX/root; TC=$PREFIX/tc
mkdir -p "$(dirname "$PREFIX")"; exec 9>"$PREFIX.lock"; flock 9          # two builds at once install it once
if ! [ -e "$PREFIX/ok" ]; then
  rm -rf "$PREFIX"; mkdir -p "$PREFIX/debs" "$R" "$TC/bin"; chmod 755 "$PREFIX/debs"
  V=$(apt-cache policy rustc-web | awk '/Candidate:/{print $2}')
  if [ -z "$V" ]; then apt-get update >&2; V=$(apt-cache policy rustc-web | awk '/Candidate:/{print $2}'); fi
  if [ -z "$V" ]; then echo "wasm-rust.sh: this Debian has no rustc-web: run 'rustup target add $T'" >&2; exit 1; fi
  S=${V%%.*}.$(cut -d. -f2 <<<"$V")                      # 1.96
  L=$(apt-cache show "libstd-rust-web-$S=$V" | sed -n 's/^Depends:.*\blibllvm\([0-9]\+\)\b.*/\1/p' | head -1)
  echo "debian rustc-web $V, llvm $L" >&2
  (cd "$PREFIX/debs" && apt-get download "rustc-web=$V" "libstd-rust-web-$S=$V" "libstd-rust-web-dev=$V" "rust-web-src=$V" "libllvm$L" "lld-$L" >&2)
  for d in "$PREFIX"/debs/*.deb; do
    case $d in
      */rust-web-src_*) dpkg --fsys-tarfile "$d" | tar -x -C "$R" --wildcards './usr/lib/*' './usr/src/*/library/*' ;;   # 340 MB -> library only
      *) dpkg -x "$d" "$R" ;;
    esac
  done
  rm -rf "$PREFIX/debs"
  M=$(basename "$R"/usr/lib/*-linux-gnu)
  # wrappers, so that no LD_LIBRARY_PATH leaks into cc, build scripts or cargo
  cat >"$TC/bin/rustc" <<W
#!/bin/sh
LD_LIBRARY_PATH="$R/usr/lib/$M:$R/usr/lib/llvm-$L/lib" exec "$R/usr/bin/rustc" "\$@"
W
  cat >"$TC/bin/wasm-ld" <<W
#!/bin/sh
LD_LIBRARY_PATH="$R/usr/lib/$M:$R/usr/lib/llvm-$L/lib" exec "$R/usr/lib/llvm-$L/bin/wasm-ld" "\$@"
W
  chmod +x "$TC/bin/rustc" "$TC/bin/wasm-ld"
  # build std once (with bitcode, so that both lto and non-lto guests link), keep the rlibs in the private sysroot: later builds need no -Z flag and no RUSTC_BOOTSTRAP
  D=$PREFIX/stdbuild; mkdir -p "$D/src"
  printf '[package]\nname="stdbuild"\nversion="0.0.0"\nedition="2021"\n[lib]\n[profile.release]\npanic="abort"\ndebug=0\n[workspace]\n' >"$D/Cargo.toml"
  : >"$D/src/lib.rs"
  (cd "$D" && env -u CARGO_TARGET_DIR -u RUSTUP_TOOLCHAIN RUSTFLAGS=-Cembed-bitcode=yes RUSTC="$TC/bin/rustc" RUSTC_BOOTSTRAP=1 \
     cargo build --release --target $T -Zbuild-std=std,panic_abort >&2)
  LIB=$R/usr/lib/rustlib/$T/lib; mkdir -p "$LIB"
  cp "$D"/target/$T/release/deps/*.rlib "$D"/target/$T/release/deps/*.rmeta "$LIB/"
  rm -f "$LIB"/libstdbuild*; rm -rf "$D"
  touch "$PREFIX/ok"
fi
echo "WASM_RUST=debian"
echo "export RUSTC='$TC/bin/rustc'"
echo "export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER='$TC/bin/wasm-ld'"
