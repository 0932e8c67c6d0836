#!/usr/bin/env bash
# Turns Debian's package list into Redis protocol: one key a package, its stanza as the value.
#
#   examples/load_packages.sh | redis-cli -p 6379 --pipe
#   apt-cache dumpavail > list && examples/load_packages.sh list | redis-cli --pipe
#
# The key is `package:<name>:<version>:<architecture>`; a package that is listed twice with the
# same three keeps its last stanza. Needs apt-cache (or a file) and awk. To check a load:
# examples/verify_packages.sh, which asks this script for the other two forms of the list,
# `--reads` (a GET for each key) and `--replies` (what a server answers to them).
set -euo pipefail

form=writes
case "${1:-}" in
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --reads | --replies) form=${1#--}; shift ;;
esac
if [ $# -gt 0 ]; then
    [ -r "$1" ] || { echo "cannot read $1" >&2; exit 1; }
    input() { cat -- "$1"; }
else
    command -v apt-cache >/dev/null || { echo "apt-cache is missing: give a file instead" >&2; exit 1; }
    input() { apt-cache dumpavail; }
fi

# LC_ALL=C makes length() count bytes, which is what the protocol wants. Paragraph mode (RS="")
# gives one stanza a record. Reads and replies come once a key, in the order of its first stanza.
input "$@" | LC_ALL=C awk -v form="$form" '
    BEGIN { RS = ""; FS = "\n"; ORS = "" }
    function bulk(text) { return "$" length(text) "\r\n" text "\r\n" }
    {
        name = version = architecture = ""
        for (line = 1; line <= NF; line++) {
            if ($line ~ /^Package: /) name = substr($line, 10)
            else if ($line ~ /^Version: /) version = substr($line, 10)
            else if ($line ~ /^Architecture: /) architecture = substr($line, 15)
        }
        if (name == "") next
        key = "package:" name ":" version ":" architecture
        if (form == "writes") {
            print "*3\r\n" bulk("SET") bulk(key) bulk($0)
            next
        }
        if (!(key in stanza)) keys[++count] = key
        stanza[key] = $0
    }
    END {
        for (at = 1; at <= count; at++) {
            if (form == "reads") print "*2\r\n" bulk("GET") bulk(keys[at])
            else print bulk(stanza[keys[at]])
        }
    }'
