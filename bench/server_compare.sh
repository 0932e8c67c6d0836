#!/usr/bin/env bash
# Compares Redis-compatible servers with redis-benchmark, interleaved: every round runs every test on
# every server, one after the other, so that a noisy machine is noisy for all of them. Prints the
# median of the rounds: requests a second, the ratio to the first server, and the server's CPU
# microseconds (user + system) a request, which noise moves least.
#
# usage: bench/server_compare.sh [-r ROUNDS] [-s SECONDS] [-p PORT] [-t "TEST…"] NAME=COMMAND…
#   The command gets `--port` and `--dir` appended. A test is COMMAND:PIPELINE, for example set:16.
#
# example:
#   bench/server_compare.sh redis="redis-server --save '' --appendonly yes --appendfsync everysec" \
#                           ours="target/release/sluice server --appendfsync everysec"
set -euo pipefail
rounds=5 seconds=2 port=7200 clients=50 keys=100000
tests="set:1 get:1 incr:1 mset:1 set:16 get:16 incr:16 mset:16"
while getopts r:s:p:t:c:k: option; do
  case $option in
    r) rounds=$OPTARG ;; s) seconds=$OPTARG ;; p) port=$OPTARG ;; t) tests=$OPTARG ;;
    c) clients=$OPTARG ;; k) keys=$OPTARG ;;
    *) sed -n '2,12p' "$0"; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n '2,12p' "$0"; exit 2; }

work=$(mktemp -d)
names=() pids=()
# `exec` below makes the shell's process the server's: the number is the server's own.
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$work"' EXIT
for pair in "$@"; do
  number=${#names[@]}
  names+=("${pair%%=*}")
  mkdir "$work/$number"
  bash -c "exec ${pair#*=} --port $((port + number)) --dir $work/$number" >"$work/$number.log" 2>&1 &
  pids+=($!)
done
for number in "${!names[@]}"; do
  until redis-cli -p $((port + number)) ping >/dev/null 2>&1; do
    kill -0 "${pids[$number]}" || { cat "$work/$number.log"; exit 1; }
    sleep 0.1
  done
done

ticks=$(getconf CLK_TCK)
cpu_ticks() { # user + system of a process; its name may hold anything, so count from the last ')'
  sed 's/.*) //' "/proc/$1/stat" | awk '{print $12 + $13}'
}
measure() { # number, command, pipeline, requests → "requests/s microseconds/request"
  local before after rate
  before=$(cpu_ticks "${pids[$1]}")
  rate=$(redis-benchmark -p $((port + $1)) -c "$clients" -P "$3" -n "$4" ${keys:+-r "$keys"} -t "$2" --csv |
    tail -1 | cut -d, -f2 | tr -d '"')
  after=$(cpu_ticks "${pids[$1]}")
  awk -v r="$rate" -v t=$((after - before)) -v n="$4" -v hz="$ticks" \
    'BEGIN {printf "%.0f %.3f\n", r, t / hz * 1e6 / n}'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

for test in $tests; do
  for number in "${!names[@]}"; do
    # How many requests fill the time: asked of each server, which warms it up, too.
    rate=$(measure "$number" "${test%:*}" "${test#*:}" 20000 | cut -d' ' -f1)
    echo $((rate * seconds)) >"$work/$number.$test.count"
  done
done
for round in $(seq "$rounds"); do
  for test in $tests; do
    for number in "${!names[@]}"; do
      measure "$number" "${test%:*}" "${test#*:}" "$(cat "$work/$number.$test.count")" \
        >>"$work/$number.$test"
    done
  done
done
printf '%-8s' test
for name in "${names[@]}"; do printf ' | %24s' "$name"; done
printf '\n%-8s' ''
for name in "${names[@]}"; do printf ' | %9s %6s %7s' 'req/s' ratio 'cpu us'; done
echo
for test in $tests; do
  printf '%-8s' "$test"
  first=$(cut -d' ' -f1 "$work/0.$test" | median)
  for number in "${!names[@]}"; do
    rate=$(cut -d' ' -f1 "$work/$number.$test" | median)
    cpu=$(cut -d' ' -f2 "$work/$number.$test" | median)
    printf ' | %9.0f %6s %7s' "$rate" "$(awk -v a="$rate" -v b="$first" 'BEGIN {printf "%.2f", a / b}')" "$cpu"
  done
  echo
done
