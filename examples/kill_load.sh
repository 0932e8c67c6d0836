#!/usr/bin/env bash
# Loads Debian's package list and kills the server with SIGKILL at random moments, again and again,
# checking after each restart that every acknowledged package is there.
#
#   examples/kill_load.sh [KILLS] [FILE]
#
# 50 kills and `apt-cache dumpavail` unless told otherwise. The work is done by the test kill_load of
# crates/cli on the release binary. SLUICE_SEED repeats the choices of an earlier run.
set -euo pipefail

case "${1:-}" in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
kills=${1:-50}
shift $(($# > 0 ? 1 : 0))
load=$(mktemp)
trap 'rm -f "$load"' EXIT
"$(dirname "$0")/load_packages.sh" "$@" >"$load"
SLUICE_LOAD=$load SLUICE_KILLS=$kills \
    cargo test --release -p sluice --test kill_load -- --nocapture
