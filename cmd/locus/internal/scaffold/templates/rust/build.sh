#!/bin/sh
# Builds NAME.wasm. It needs a rustc with the target wasm32-unknown-unknown: rustup target add
# wasm32-unknown-unknown, or Debian's packages rustc and libstd-rust-dev-wasm32. RUSTC names another one.
set -eu
cd "$(dirname "$0")"
target=wasm32-unknown-unknown
has_target() {
	libdir=$("$1" --print target-libdir --target $target 2>/dev/null) && ls "$libdir"/libcore-*.rlib >/dev/null 2>&1
}
rustc=""
for candidate in ${RUSTC:-rustc /usr/bin/rustc}; do
	if [ -z "$rustc" ] && has_target "$candidate"; then rustc=$candidate; fi
done
if [ -z "$rustc" ]; then
	echo "build.sh: no rustc with the target $target: see the first lines of build.sh" >&2
	exit 1
fi
flags="--edition 2021 --target $target -C opt-level=3 -C panic=abort -C target-feature=+bulk-memory"
mkdir -p build
"$rustc" $flags --crate-type rlib --crate-name locus --out-dir build locus/src/lib.rs
"$rustc" $flags --crate-type cdylib --crate-name guest --extern locus=build/liblocus.rlib -C lto -C strip=symbols \
	-C link-arg=--stack-first -C link-arg=-zstack-size=16384 -o NAME.wasm src/lib.rs
