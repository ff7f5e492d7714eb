#!/bin/sh
# Builds NAME.wasm. It needs clang and wasm-ld (Debian: apt-get install clang lld).
set -eu
cd "$(dirname "$0")"
"${CLANG:-clang}" --target=wasm32 -O2 -mbulk-memory -nostdlib -Wall -Wextra \
	-Wl,--no-entry -Wl,--stack-first -Wl,-z,stack-size=16384 -Wl,--strip-all -o NAME.wasm NAME.c
