#!/usr/bin/env bash
# Prints SET commands for COUNT distinct keys of 16 bytes with values of BYTES bytes, as protocol.
#
#   examples/load_keys.sh 30000000 100 | redis-cli --pipe
set -euo pipefail
count=${1:-1000000}
bytes=${2:-100}
# Half of each value is digits that depend on the key, half is filler: LZ4 halves it, as it does
# with much real data. Keys come in an order that is a permutation, not sorted.
LC_ALL=C awk -v count="$count" -v bytes="$bytes" '
    BEGIN {
        while (length(filler) < bytes) filler = filler "abcdefghij"
        for (i = 0; i < count; i++) {
            n = (i * 7368787) % count
            v = sprintf("%012d%012d%012d%012d", n * 7919 % 1000003, n * 104729 % 9999991, n, i)
            v = substr(v substr(filler, 1, bytes), 1, bytes)
            printf "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", n, bytes, v
        }
    }'
