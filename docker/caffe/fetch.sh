#!/usr/bin/env bash
# Caffe's source, checked by its hash, unpacked into WORK/src.
#   fetch.sh WORK
# From the file that CAFFE_TARBALL names; else from an earlier build beside WORK; else from the
# machine's own Debian mirror.
set -euo pipefail
# shellcheck source=source.env
. "$(dirname "$0")/source.env"
work=$1
name=caffe_$CAFFE_VERSION.orig.tar.gz

is_ours() { echo "$CAFFE_SHA256  $1" | sha256sum --check --status; }

# The mirror and Debian's keyring, but an apt of our own: the system's lists stay as they are.
download() {
    local apt=$work/apt mirror
    # URIs: of the deb822 form, or the first line of the old one.
    mirror=$(for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        [ ! -f "$file" ] || awk '/^URIs:/ {print $2} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) print $i}' "$file"
    done | sed -n 1p)
    [ -n "$mirror" ] || { echo "No Debian mirror in /etc/apt/sources.list.d/debian.sources or /etc/apt/sources.list." >&2; return 1; }
    mkdir -p "$apt/lists/partial" "$apt/state" "$apt/cache/archives/partial"
    : >"$apt/state/status"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $CAFFE_SUITE main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-"; Dir::Etc::preferencesparts "-";
Dir::State "$apt/state"; Dir::State::status "$apt/state/status"; Dir::State::lists "$apt/lists"; Dir::Cache "$apt/cache";
END
    (cd "$work" && export APT_CONFIG=$apt/apt.conf && apt-get -q update && apt-get -q source --download-only caffe) || return 1
    rm -rf "$apt"
}

tarball=${CAFFE_TARBALL:-}
if [ -z "$tarball" ]; then
    for earlier in "$work/../"*/"$name"; do
        if [ -f "$earlier" ] && is_ours "$earlier"; then tarball=$earlier; fi
    done
fi
if [ -z "$tarball" ]; then
    tarball=$work/$name
    download || {
        echo "This machine's Debian mirror didn't give Caffe's source. Get $name elsewhere (Debian's snapshot archive keeps it," >&2
        echo "under the source package caffe) and name it: CAFFE_TARBALL=/path/to/$name" >&2
        exit 1
    }
fi
[ -f "$tarball" ] || { echo "There is no $tarball, which CAFFE_TARBALL names." >&2; exit 1; }
if ! is_ours "$tarball"; then
    echo "The source of Caffe is not the one this recipe is for (SHA-256 $CAFFE_SHA256): $tarball" >&2
    exit 1
fi
# Kept beside the build, where the next one finds it.
[ "$tarball" -ef "$work/$name" ] || cp "$tarball" "$work/$name"
rm -rf "$work/src" && mkdir "$work/src"
tar -xzf "$tarball" -C "$work/src"
