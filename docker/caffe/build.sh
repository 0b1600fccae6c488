#!/usr/bin/env bash
# Real BVLC Caffe 1.0 with pycaffe on Debian 12: for CPUs in about five minutes on two cores, for
# NVIDIA's GPUs in a quarter of an hour and more.
#   build.sh FOLDER [cpu|cuda]
# builds in FOLDER/HASH of this recipe and points FOLDER/install (cpu) or FOLDER/install-cuda (cuda)
# at the result. Built already? Then it does nothing. Missing Debian packages are installed by root,
# named otherwise. In the environment:
#   JOBS            how many compilers at a time (default: one a core)
#   CAFFE_TARBALL   Caffe's source as a file, where the mirror doesn't have it
#   CUDA_HOME, CUDA_ARCHS, CUDNN   for the CUDA variant: see cuda/variant.sh
set -euo pipefail
# The order of the files that the hash is of.
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=source.env
. "$here/source.env"
folder=$(mkdir -p "$1" && cd "$1" && pwd)
variant=${2:-cpu}

# What a variant says: its link, the parts of the recipe and the settings that its hash is of, and what
# it adds to the steps below.
link=install
parts=("$here"/*.*)
settings=
variant_packages() { :; }
variant_settings() { echo 'CPU_ONLY := 1'; }
variant_patch() { :; }
variant_libraries() { :; }
variant_facts() { echo '"cuda": null, "cudnn": null, "nccl": null, "archs": [], "ptx": []'; }
case $variant in
    cpu) ;;
    cuda)
        # shellcheck source=cuda/variant.sh
        . "$here/cuda/variant.sh"
        ;;
    *)
        echo "Caffe is built for cpu or cuda, not for '$variant'." >&2
        exit 1
        ;;
esac
hash=$( (cat "${parts[@]}" && echo "$variant $settings") | sha256sum | cut -c1-12)
work=$folder/$hash
prefix=$work/install

# packages LIST: root installs what is missing.
packages() {
    local missing=() package
    # shellcheck disable=SC2013 # words, not lines
    for package in $(grep -v '^#' "$1"); do
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

compile() {
    local target
    cp "$here/Makefile.config" "$work/src/Makefile.config"
    cp "$work/variant.mk" "$work/src/variant.mk"
    # `proto` before the library and `py` after it: Caffe's Makefile doesn't say that the CUDA files
    # need the one and that pycaffe needs the other.
    for target in proto "lib tools" py; do
        # shellcheck disable=SC2086 # two targets in one word list
        if ! make -C "$work/src" -j"${JOBS:-$(nproc)}" $target >>"$work/build.log" 2>&1; then
            tail -n 30 "$work/build.log" >&2
            echo "Caffe didn't compile; the whole log: $work/build.log" >&2
            exit 1
        fi
    done
}

# build.json says what this Caffe is, to programs that must know before they start it.
facts() {
    local more
    more=$(variant_facts)
    echo "{\"recipe\": \"$hash\", \"version\": \"$CAFFE_VERSION\", \"variant\": \"$variant\", $more}"
}

check() {
    # shellcheck source=env.sh
    (. "$prefix/env.sh" && GLOG_minloglevel=2 "$CAFFE_PYTHON" -c 'import caffe; print("Caffe", caffe.__version__, "with pycaffe")' && caffe --version >/dev/null)
}

packages "$here/packages.txt"
if [ ! -d "$prefix" ]; then
    mkdir -p "$work"
    variant_packages
    variant_settings >"$work/variant.mk"
    bash "$here/fetch.sh" "$work"
    bash "$here/patch.sh" "$work/src"
    variant_patch "$work/src"
    compile
    # Aside, then renamed: an install folder is whole or not there.
    rm -rf "$work/.install"
    bash "$here/install.sh" "$work/src" "$work/.install"
    variant_libraries "$work/.install"
    facts >"$work/.install/build.json"
    mv "$work/.install" "$prefix"
    rm -rf "$work/src"
fi
check
ln -sfn "$hash/install" "$folder/$link"
echo "$folder/$link"
