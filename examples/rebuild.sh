#!/bin/sh
# Rebuilds every WebAssembly guest that is committed, from the source beside it:
#
#   examples/rebuild.sh          writes the .wasm files and the versions they were built with
#   examples/rebuild.sh --check  builds elsewhere, compares, and exits 1 on a difference
#
# Guests in Go need the standard toolchain only; guests in C need clang and wasm-ld (package lld), which
# are installed with apt-get if they are missing and this runs as root. The output depends on the
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
		-Wl,--no-entry -Wl,--stack-first -Wl,--strip-all -o "$work/guest.wasm" "$1"
	place "$work/guest.wasm" "$2"
}

have_clang() { command -v clang >/dev/null 2>&1 && command -v wasm-ld >/dev/null 2>&1; }

go_version=$(go env GOVERSION)
if ! differing_version go "$go_version"; then
	build_go ./examples/flights/guest examples/flights/flights.wasm
	build_go ./examples/guests/go/square examples/guests/go/square.wasm
	build_go ./examples/guests/go/counter examples/guests/go/counter.wasm
	build_go ./examples/guests/go/find examples/guests/go/find.wasm
fi

if ! have_clang && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "examples/rebuild.sh: installing clang and lld" >&2
	{ apt-get install -y clang lld || { apt-get update && apt-get install -y clang lld; }; } >"$work/apt.log" 2>&1 ||
		tail -5 "$work/apt.log" >&2
fi
clang_version=""
if have_clang; then
	clang_version=$(clang -dumpversion)
	if ! differing_version clang "$clang_version"; then
		build_c examples/guests/c/fieldsum.c examples/guests/c/fieldsum.wasm
		for source in udf/wasm/testdata/*.c; do
			build_c "$source" "${source%.c}.wasm"
		done
	fi
else
	echo "examples/rebuild.sh: no clang with wasm-ld here (apt-get install clang lld): the guests in C are skipped" >&2
	clang_version=$(sed -n "s/^clang //p" "$recorded")
fi

$check || printf 'go %s\nclang %s\n' "$go_version" "$clang_version" >"$recorded"
exit $differs
