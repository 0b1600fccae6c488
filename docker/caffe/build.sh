#!/usr/bin/env bash
# Real BVLC Caffe 1.0 with pycaffe, for CPUs, on Debian 12: about five minutes on two cores.
#   build.sh FOLDER      builds in FOLDER/HASH of this recipe and points FOLDER/install at the result
# Built already? Then it does nothing. Missing Debian packages are installed by root, named otherwise.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=source.env
. "$here/source.env"
folder=$(mkdir -p "$1" && cd "$1" && pwd)
hash=$(cd "$here" && cat build.sh patch.sh source.env packages.txt Makefile.config env.sh | sha256sum | cut -c1-12)
work=$folder/$hash
prefix=$work/install

packages() {
    local missing=()
    local package
    # shellcheck disable=SC2013 # words, not lines
    for package in $(grep -v '^#' "$here/packages.txt"); do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "Caffe's build needs Debian packages. As root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    apt-get -o DPkg::Lock::Timeout=900 -q update
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 -q install -y --no-install-recommends "${missing[@]}"
}

# The machine's own mirror and Debian's keyring, but an apt of our own: the system's lists stay as they are.
fetch() {
    local apt=$work/apt mirror tarball=$work/caffe_$CAFFE_VERSION.orig.tar.gz
    # URIs: of the deb822 form, or the first line of the old one.
    mirror=$(for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        [ ! -f "$file" ] || awk '/^URIs:/ {print $2} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) print $i}' "$file"
    done | sed -n 1p)
    [ -n "$mirror" ] || { echo "No Debian mirror in /etc/apt/sources.list.d/debian.sources or /etc/apt/sources.list." >&2; exit 1; }
    mkdir -p "$apt/lists/partial" "$apt/state" "$apt/cache/archives/partial"
    : >"$apt/state/status"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $CAFFE_SUITE main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-"; Dir::Etc::preferencesparts "-";
Dir::State "$apt/state"; Dir::State::status "$apt/state/status"; Dir::State::lists "$apt/lists"; Dir::Cache "$apt/cache";
END
    (cd "$work" && export APT_CONFIG=$apt/apt.conf && apt-get -q update && apt-get -q source --download-only caffe)
    echo "$CAFFE_SHA256  $tarball" | sha256sum --check --quiet ||
        { echo "The source of Caffe is not the one this recipe is for: $tarball" >&2; exit 1; }
    rm -rf "$work/src" && mkdir "$work/src"
    tar -xzf "$tarball" -C "$work/src"
}

compile() {
    cp "$here/Makefile.config" "$work/src/Makefile.config"
    # `py` after the library: Caffe's Makefile doesn't say that it needs it.
    for target in "lib tools" py; do
        # shellcheck disable=SC2086 # two targets in one word list
        if ! make -C "$work/src" -j"${JOBS:-$(nproc)}" $target >>"$work/build.log" 2>&1; then
            tail -n 30 "$work/build.log" >&2
            echo "Caffe didn't compile; the whole log: $work/build.log" >&2
            exit 1
        fi
    done
}

# Aside, then renamed: an install folder is whole or not there. Paths inside are relative.
install_() {
    # shellcheck disable=SC2016 # $ORIGIN is the loader's word
    local aside=$work/.install so tool tools='$ORIGIN/../lib' module='$ORIGIN/../../lib'
    rm -rf "$aside" && mkdir -p "$aside/bin" "$aside/lib" "$aside/python"
    so=$(basename "$work"/src/build/lib/libcaffe.so.*)
    install -s -m 755 "$work/src/build/lib/$so" "$aside/lib/$so"
    ln -s "$so" "$aside/lib/libcaffe.so"
    for tool in "$work"/src/build/tools/*.bin; do
        install -s -m 755 "$tool" "$aside/bin/$(basename "$tool" .bin)"
        patchelf --set-rpath "$tools" "$aside/bin/$(basename "$tool" .bin)"
    done
    cp -r "$work/src/python/caffe" "$aside/python/"
    rm -f "$aside/python/caffe/_caffe.cpp"
    strip --strip-unneeded "$aside/python/caffe/_caffe.so"
    patchelf --set-rpath "$module" "$aside/python/caffe/_caffe.so"
    cp "$work/src/LICENSE" "$here/env.sh" "$aside/"
    mv "$aside" "$prefix"
    rm -rf "$work/src" "$work/apt"
}

check() {
    # shellcheck source=env.sh
    (. "$prefix/env.sh" && GLOG_minloglevel=2 "$CAFFE_PYTHON" -c 'import caffe; print("Caffe", caffe.__version__, "with pycaffe")' && caffe --version >/dev/null)
}

packages
if [ ! -d "$prefix" ]; then
    mkdir -p "$work"
    fetch
    bash "$here/patch.sh" "$work/src"
    compile
    install_
fi
check
ln -sfn "$hash/install" "$folder/install"
echo "$folder/install"
