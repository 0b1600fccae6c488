#!/usr/bin/env bash
# A minimal Debian 12 as a tar file, made from Debian's packages: a base of the images where the
# published one can't be pulled. Root, and the package mmdebstrap, which it installs.
#   base.sh FILE.tar
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v mmdebstrap >/dev/null; then
    apt-get -o DPkg::Lock::Timeout=900 -q update
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 -q install -y --no-install-recommends mmdebstrap
fi
# As Debian's own slim image: no manuals, no translations, but the licences.
mmdebstrap --quiet --variant=apt \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$1" "deb $("$here/mirror.sh") bookworm main"
