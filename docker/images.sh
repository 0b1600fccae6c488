#!/usr/bin/env bash
# The images recaffe:cpu and recaffe:gpu, and of each a SIF for Apptainer, docker/recaffe-TARGET.sif.
#   images.sh [cpu] [gpu]        default: cpu
# What didn't change isn't built again; what is built is tried before it gets its name. In the
# environment:
#   BUILDER       docker, podman or buildah (default: the first that works)
#   BASE          the Debian 12 to start from (default debian:bookworm-slim; pin it by its digest).
#                 A localhost/ name, or what can't be pulled, is made of Debian's packages.
#   TORCH_INDEX   the index of torch's wheels of this kind (default: where pip looks anyway)
#   CAFFE         where `make caffe` builds (default .caffe): what it built is taken
#   PIP           the host's pip that fetches wheels (default .venv/bin/pip); none: the build fetches them
#   SIF=0         no SIFs
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=docker/builders.sh
. docker/builders.sh
base=${BASE:-debian:bookworm-slim}
caffe=${CAFFE:-.caffe}
pip=${PIP:-.venv/bin/pip}

fail() {
    echo "images.sh: $*" >&2
    exit 1
}

# All that an image is made of.
contents() {
    local target=$1
    find Snakefile constraints.txt pyproject.toml config models profiles recaffe rules scripts docker \
        \( -name __pycache__ -o -path docker/kept -o -name '*.sif' \) -prune -o -type f -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum
    echo "$target $base_id ${TORCH_INDEX:-}"
}

# Caffe as it was built outside; its recipe's hash is compared in the image's own build.
take_caffe() {
    local link=$caffe/install
    [ "$1" = cpu ] || link=$caffe/install-cuda
    rm -rf docker/kept/caffe/*
    if [ -f "$link/build.json" ]; then
        cp -r "$(dirname "$(realpath "$link")")" docker/kept/caffe/.part
        find docker/kept/caffe/.part -mindepth 1 -maxdepth 1 ! -name install ! -name '*.orig.tar.gz' -exec rm -rf {} +
        mv docker/kept/caffe/.part "docker/kept/caffe/$(basename "$(dirname "$(realpath "$link")")")"
    fi
}

# By the host's pip, so that its indexes, mirrors and certificates count and the build needs none.
take_wheels() {
    local folder=docker/kept/$1 pins torch
    [ -x "$pip" ] && [ "$(uname -sm)" = "Linux x86_64" ] || return 0
    pins=$(sha256sum constraints.txt pyproject.toml | sha256sum)
    [ "$(cat "$folder/pins" 2>/dev/null)" != "$pins" ] || return 0
    torch=$(grep '^torch==' constraints.txt)
    rm -rf "${folder:?}"/*
    echo "Fetching the Python packages of recaffe:$1"
    # shellcheck disable=SC2086 # none or one
    "$pip" download --quiet --dest "$folder" --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
    mapfile -t packages < <("$(dirname "$pip")/python" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
print(*project["build-system"]["requires"], *project["project"]["dependencies"], sep="\n")')
    "$pip" download --quiet --dest "$folder" --find-links "$folder" --constraint constraints.txt "${packages[@]}"
    echo "$pins" >"$folder/pins"
}

image() {
    local target=$1 name=recaffe:$1 key recipe
    key=$(contents "$target" | sha256sum | cut -c1-16)
    if [ "$(image_label "$name" recaffe.key)" = "$key" ]; then
        echo "$name is up to date"
    else
        take_caffe "$target"
        take_wheels "$target"
        # Caffe's stage keeps its name: it is what takes minutes, and the next build finds it.
        image_build "recaffe:caffe-$target" --target "caffe-$target" --build-arg BASE="$base"
        recipe=$(image_run "recaffe:caffe-$target" sed 's/.*"recipe": "\([^"]*\)".*/\1/' /opt/caffe/build.json)
        image_build "$name-new" --target "$target" --build-arg BASE="$base" \
            --build-arg RECIPE="$recipe" \
            --build-arg TORCH_INDEX="${TORCH_INDEX:-}" \
            --build-arg COMMIT="$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)" \
            --build-arg VERSION="$(sed -n 's/^__version__ = "\(.*\)"/\1/p' recaffe/__init__.py)" \
            --build-arg CAFFE="$(sed -n 's/^CAFFE_VERSION=//p' docker/caffe/source.env)" \
            --build-arg TORCH="$(sed -n 's/^torch==//p' constraints.txt)" \
            --build-arg KEY="$key"
        image_run "$name-new" /opt/recaffe/docker/selftest.sh
        image_rename "$name-new" "$name"
    fi
    [ "${SIF:-1}" = 0 ] || sif "$target" "$key"
}

sif() {
    local target=$1 key=$2 file=docker/recaffe-$1.sif aside
    if ! command -v apptainer >/dev/null; then
        echo "No $file: that takes Apptainer (on Debian 12, docker/apptainer.sh installs it)."
        return 0
    fi
    # Not by a pipe: grep would close it at its hit, and the writer would fail.
    if [ -f "$file" ] && grep -q "^recaffe.key: $key\$" <<<"$(apptainer inspect --labels "$file" 2>/dev/null)"; then
        echo "$file is up to date"
        return 0
    fi
    aside=$(mktemp -d docker/.sif.XXXXXX)
    # shellcheck disable=SC2064 # this folder, as it's called now
    trap "rm -rf '$aside'" EXIT
    image_save "recaffe:$target" "$aside/image.tar"
    APPTAINER_TMPDIR=$PWD/$aside APPTAINER_CACHEDIR=$PWD/$aside/cache \
        apptainer --quiet build --mksquashfs-args "-comp zstd -Xcompression-level 3" "$aside/new.sif" "docker-archive:$aside/image.tar"
    apptainer --quiet exec --containall "$aside/new.sif" /opt/recaffe/docker/selftest.sh
    mv "$aside/new.sif" "$file"
    rm -rf "$aside"
    trap - EXIT
    echo "$file, $(du -m "$file" | cut -f1) MB"
}

[ $# -gt 0 ] || set -- cpu
for target in "$@"; do
    [[ $target == cpu || $target == gpu ]] || fail "the images are cpu and gpu; '$target' is none"
done
pick_builder || fail "it takes docker with its daemon running, podman or buildah (Debian: apt-get install buildah)"
base_id=$(base_image "$base") || exit 1
for target in "$@"; do
    image "$target"
done
