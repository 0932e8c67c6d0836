#!/usr/bin/env bash
# Durable SETs a second with `appendfsync always`, no pipelining: 1 connection against 50, ours beside
# redis-server, interleaved. Prints one line a round.
#
# usage: bench/durable_sets.sh [ROUNDS]      (build first: cargo build --release)
set -euo pipefail
rounds=${1:-3}
dir=$(mktemp -d)
ours=0 theirs=0
trap 'kill $ours $theirs 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
mkdir "$dir/ours" "$dir/redis"
target/release/sluice server --port 7210 --dir "$dir/ours" --appendfsync always >/dev/null 2>&1 & ours=$!
redis-server --port 7211 --dir "$dir/redis" --save '' --appendonly yes --appendfsync always >/dev/null 2>&1 & theirs=$!
for port in 7210 7211; do
  until redis-cli -p "$port" ping >/dev/null 2>&1; do :; done
done
sets() { # port, connections, requests
  redis-benchmark -p "$1" -t set -c "$2" -n "$3" -r 1000000 -d 64 --csv 2>/dev/null |
    awk -F'"' '/^"SET"/ { print int($4) }'
}
for round in $(seq "$rounds"); do
  ours1=$(sets 7210 1 10000) redis1=$(sets 7211 1 10000)
  ours50=$(sets 7210 50 150000) redis50=$(sets 7211 50 150000)
  echo "round $round: ours $ours1 -> $ours50 (x$((ours50 / ours1))), redis $redis1 -> $redis50 (x$((redis50 / redis1)))"
done
