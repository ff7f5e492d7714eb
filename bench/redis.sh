#!/usr/bin/env bash
# Installs what `locus bench functions` compares itself with, redis-server and redis-benchmark, on Debian and its like. It needs root.
# No server is started: the benchmark starts its own, on a free port of loopback.
set -euo pipefail
if command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null; then
	redis-server --version
	exit 0
fi
install() { RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server redis-tools >/dev/null; }
install || { apt-get update >/dev/null && install; }
redis-server --version
