#!/usr/bin/env bash
# Install Debian packages in an image: those that a list names, and files; no recommended ones, no lists
# left behind.
#   apt.sh LIST [FILE.deb…]
set -euo pipefail
mapfile -t packages < <(grep -v '^#' "$1")
shift
apt-get update
# No sync of each file: a build that is cut off is thrown away anyway.
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Options::=--force-unsafe-io install -y --no-install-recommends "${packages[@]}" "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
