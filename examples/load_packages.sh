#!/usr/bin/env bash
# Turns Debian's package list into Redis protocol: one key a package, its stanza as the value.
#
#   examples/load_packages.sh | redis-cli -p 6379 --pipe
#   apt-cache dumpavail > list && examples/load_packages.sh list | redis-cli --pipe
#
# The key is `package:<name>:<version>:<architecture>`; a package that is listed twice with the
# same three keeps its last stanza. Needs apt-cache (or a file) and awk.
set -euo pipefail

if [ "${1:-}" = "-h" ] || [ "${1:-}" = "--help" ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 0
fi
if [ $# -gt 0 ]; then
    [ -r "$1" ] || { echo "cannot read $1" >&2; exit 1; }
    input() { cat -- "$1"; }
else
    command -v apt-cache >/dev/null || { echo "apt-cache is missing: give a file instead" >&2; exit 1; }
    input() { apt-cache dumpavail; }
fi

# LC_ALL=C makes length() count bytes, which is what the protocol wants. Paragraph mode (RS="")
# gives one stanza a record.
input "$@" | LC_ALL=C awk '
    BEGIN { RS = ""; FS = "\n"; ORS = "" }
    {
        name = version = architecture = ""
        for (line = 1; line <= NF; line++) {
            if ($line ~ /^Package: /) name = substr($line, 10)
            else if ($line ~ /^Version: /) version = substr($line, 10)
            else if ($line ~ /^Architecture: /) architecture = substr($line, 15)
        }
        if (name == "") next
        key = "package:" name ":" version ":" architecture
        printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length($0), $0
    }'
