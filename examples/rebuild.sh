#!/bin/sh
# Rebuilds every WebAssembly guest that is committed, from the source beside it:
#
#   examples/rebuild.sh          writes the .wasm files and the versions they were built with
#   examples/rebuild.sh --check  builds elsewhere, compares, and exits 1 on a difference
#
# Guests in Go need the standard toolchain only; guests in C need clang and wasm-ld (package lld), those in Rust a
# rustc with the standard library of wasm32-unknown-unknown (packages rustc and libstd-rust-dev-wasm32). They are
# installed with apt-get if they are missing and this runs as root. The output depends on the
# compiler's version, so --check compares only what was built by the same one (examples/toolchain.txt).
set -eu
cd "$(dirname "$0")/.."

check=false
case "${1:-}" in
--check) check=true ;;
"") ;;
*)
	echo "usage: examples/rebuild.sh [--check]" >&2
	exit 2
	;;
esac

recorded=examples/toolchain.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
differs=0

# differing_version TOOL VERSION: says so and succeeds if --check can't compare.
differing_version() {
	$check || return 1
	want=$(sed -n "s/^$1 //p" "$recorded")
	[ "$want" = "$2" ] && return 1
	echo "examples/rebuild.sh: built with $1 $want, but this is $1 $2: its guests are not compared" >&2
}

# place BUILT COMMITTED: keeps what was built, or compares it.
place() {
	if ! $check; then
		cp "$1" "$2"
		chmod 644 "$2"
		echo "built $2 ($(wc -c <"$2") bytes)"
	elif cmp -s "$1" "$2"; then
		echo "same  $2"
	else
		echo "DIFFERS $2: run examples/rebuild.sh and commit it" >&2
		differs=1
	fi
}

build_go() { # PACKAGE OUTPUT
	GOOS=wasip1 GOARCH=wasm GOFLAGS= GOWASM= CGO_ENABLED=0 go build -buildmode=c-shared -trimpath -buildvcs=false \
		-ldflags="-s -w -buildid=" -o "$work/guest.wasm" "$1"
	place "$work/guest.wasm" "$2"
}

build_c() { # SOURCE OUTPUT
	clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wall -Wextra -Werror \
		-Wl,--no-entry -Wl,--stack-first -Wl,-z,stack-size=16384 -Wl,--strip-all -o "$work/guest.wasm" "$1"
	place "$work/guest.wasm" "$2"
}

build_rust() { # SOURCE OUTPUT
	flags="--edition 2021 --target wasm32-unknown-unknown -C opt-level=3 -C panic=abort -C target-feature=+bulk-memory -D warnings"
	if [ ! -f "$work/liblocus.rlib" ]; then
		"$rustc" $flags --remap-path-prefix "$PWD=." --crate-type rlib --crate-name locus --out-dir "$work" udf/guest/rust/src/lib.rs
	fi
	"$rustc" $flags --remap-path-prefix "$PWD=." --crate-type cdylib --extern "locus=$work/liblocus.rlib" -C lto -C codegen-units=1 \
		-C strip=symbols -C link-arg=--stack-first -C link-arg=-zstack-size=16384 -o "$work/guest.wasm" "$1"
	place "$work/guest.wasm" "$2"
}

# find_rustc: the first rustc that has the target, of that on the path and Debian's.
find_rustc() {
	for rustc in rustc /usr/bin/rustc; do
		libdir=$("$rustc" --print target-libdir --target wasm32-unknown-unknown 2>/dev/null) || continue
		if ls "$libdir"/libcore-*.rlib >/dev/null 2>&1; then return 0; fi
	done
	rustc=""
	return 1
}

install() { # PACKAGE...
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 0
	echo "examples/rebuild.sh: installing $*" >&2
	{ apt-get install -y "$@" || { apt-get update && apt-get install -y "$@"; }; } >"$work/apt.log" 2>&1 ||
		tail -5 "$work/apt.log" >&2
}

have_clang() { command -v clang >/dev/null 2>&1 && command -v wasm-ld >/dev/null 2>&1; }

go_version=$(go env GOVERSION)
if ! differing_version go "$go_version"; then
	build_go ./examples/flights/guest examples/flights/flights.wasm
	build_go ./examples/guests/go/square examples/guests/go/square.wasm
	build_go ./examples/guests/go/counter examples/guests/go/counter.wasm
	build_go ./examples/guests/go/find examples/guests/go/find.wasm
	build_go ./examples/guests/go/transfer examples/guests/go/transfer.wasm
	build_go ./examples/guests/go/fixedsum examples/guests/go/fixedsum.wasm
	build_go ./bench/kill/testdata/chain bench/kill/testdata/chain.wasm
fi

have_clang || install clang lld
clang_version=""
if have_clang; then
	clang_version=$(clang -dumpversion)
	if ! differing_version clang "$clang_version"; then
		for source in examples/guests/c/*.c udf/wasm/testdata/*.c bench/functions/guests/*.c; do
			build_c "$source" "${source%.c}.wasm"
		done
	fi
else
	echo "examples/rebuild.sh: no clang with wasm-ld here (apt-get install clang lld): the guests in C are skipped" >&2
	clang_version=$(sed -n "s/^clang //p" "$recorded")
fi

find_rustc || install rustc libstd-rust-dev-wasm32
if find_rustc; then
	rustc_version=$("$rustc" --version | cut -d' ' -f2)
	if ! differing_version rustc "$rustc_version"; then
		for source in examples/guests/rust/*.rs udf/wasm/testdata/*.rs; do
			build_rust "$source" "${source%.rs}.wasm"
		done
	fi
else
	echo "examples/rebuild.sh: no rustc with the target wasm32-unknown-unknown here (apt-get install rustc libstd-rust-dev-wasm32): the guests in Rust are skipped" >&2
	rustc_version=$(sed -n "s/^rustc //p" "$recorded")
fi

$check || printf 'go %s\nclang %s\nrustc %s\n' "$go_version" "$clang_version" "$rustc_version" >"$recorded"
exit $differs
