#!/usr/bin/env bash
# Reads back what load_packages.sh loaded and compares every byte; then counts the keys three ways.
#
#   examples/verify_packages.sh [-p PORT] [FILE]
#
# FILE as for load_packages.sh. The server must hold these keys and no others. Needs bash, awk, cmp
# and redis-cli. Ends with status 0 when everything agrees, else with 1 and a sentence.
set -euo pipefail

port=6379
case "${1:-}" in
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -p) port=$2; shift 2 ;;
esac
load=$(dirname "$0")/load_packages.sh
fail() { echo "verify_packages: $1" >&2; exit 1; }

# Whole replies are compared as one stream of bytes: no shell variable, which could not hold NUL or
# trailing newlines, ever sees a value. QUIT makes the server end the stream.
exec 3<>"/dev/tcp/127.0.0.1/$port" || fail "nothing answers on port $port"
{ "$load" --reads "$@"; printf '*1\r\n$4\r\nQUIT\r\n'; } >&3 &
writer=$!
cmp <(cat <&3) <("$load" --replies "$@"; printf '+OK\r\n') || fail "a value differs"
wait "$writer"

expected=$("$load" --reads "$@" | grep -ac '^package:')
dbsize=$(redis-cli -p "$port" DBSIZE)
scanned=$(redis-cli -p "$port" --scan | sort -u | wc -l)
[ "$dbsize" -eq "$expected" ] || fail "DBSIZE is $dbsize, the list has $expected keys"
[ "$scanned" -eq "$expected" ] || fail "SCAN finds $scanned keys, the list has $expected"
echo "$expected packages: every value is the same byte for byte; DBSIZE and SCAN agree"
