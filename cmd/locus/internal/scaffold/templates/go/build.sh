#!/bin/sh
# Builds NAME.wasm. It needs Go, 1.25 or later, and no network.
set -eu
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 GOWORK=off GOFLAGS= go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w" -o NAME.wasm .
