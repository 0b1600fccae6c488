#!/usr/bin/env bash
# The Debian mirror that this machine's apt uses: of the deb822 form, or of the old one.
set -euo pipefail
shopt -s nullglob
mirror=$(cat /dev/null /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.lis[t] |
    awk '$1 == "URIs:" || $1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /:\/\/.*\/debian\/?$/) print $i}' | sed -n 1p)
[ -n "$mirror" ] || { echo "No Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d/." >&2; exit 1; }
echo "$mirror"
