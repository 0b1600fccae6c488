# shellcheck shell=bash
# Docker, podman and buildah by one set of words, for images.sh and the tests.
# Podman and buildah build without a namespace of their own, which works inside containers, too.

# Sets `builder` to $BUILDER or the first that works; fails where there is none.
pick_builder() {
    builder=${BUILDER:-}
    [ -z "$builder" ] || return 0
    if docker info >/dev/null 2>&1; then
        builder=docker
    elif command -v podman >/dev/null; then
        builder=podman
    elif command -v buildah >/dev/null; then
        builder=buildah
    else
        return 1
    fi
}

# image_label NAME LABEL: nothing where there is no such image.
image_label() {
    if [ "$builder" = buildah ]; then
        buildah inspect --type image --format "{{index .OCIv1.Config.Labels \"$2\"}}" "$1" 2>/dev/null || true
    else
        "$builder" image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true
    fi
}

# image_id NAME: fails where there is no such image.
image_id() {
    if [ "$builder" = buildah ]; then
        buildah inspect --type image --format '{{.FromImageID}}' "$1" 2>/dev/null
    else
        "$builder" image inspect --format '{{.Id}}' "$1" 2>/dev/null
    fi
}

# image_build NAME OPTIONS…: of the Dockerfile, with the clone as its context.
image_build() {
    local name=$1
    shift
    case $builder in
        docker) docker build --network host --tag "$name" --file docker/Dockerfile "$@" . ;;
        podman) podman build --isolation chroot --format docker --layers --pull=missing --tag "$name" --file docker/Dockerfile "$@" . ;;
        buildah) buildah build --isolation chroot --format docker --layers --pull=missing --tag "$name" --file docker/Dockerfile "$@" . ;;
    esac
}

# image_run NAME COMMAND…: without a network.
image_run() {
    local name=$1 container
    shift
    if [ "$builder" != buildah ]; then
        "$builder" run --rm --network none "$name" "$@"
        return
    fi
    container=$(buildah from --pull-never "$name")
    buildah run --isolation chroot "$container" -- "$@" || {
        buildah rm "$container" >/dev/null
        return 1
    }
    buildah rm "$container" >/dev/null
}

image_rename() {
    "$builder" tag "$1" "$2"
    # Of a name only: the image has its other one.
    "$builder" rmi "$1" >/dev/null
}

# image_save NAME FILE: as `docker save` writes it.
image_save() {
    if [ "$builder" = buildah ]; then
        buildah push --quiet "$1" "docker-archive:$2:$1"
    else
        "$builder" save --output "$2" "$1"
    fi
}

# base_image NAME: its id; pulled where it isn't here, and made of packages where it can't be.
base_image() {
    if image_id "$1"; then return; fi
    if [[ $1 != localhost/* ]] && timeout 300 "$builder" pull --quiet "$1" >&2; then
        image_id "$1"
        return
    fi
    echo "Making $1 from Debian's packages" >&2
    [ "$(id -u)" = 0 ] || {
        echo "images.sh: the base image $1 can't be pulled, and only root can make one (docker/base.sh)" >&2
        return 1
    }
    local folder container
    folder=$(mktemp -d)
    docker/base.sh "$folder/base.tar" >&2
    if [ "$builder" = buildah ]; then
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$folder/base.tar" / >/dev/null
        buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
        buildah commit --quiet --rm --format docker "$container" "$1" >/dev/null
    else
        "$builder" import --change 'CMD ["bash"]' "$folder/base.tar" "$1" >/dev/null
    fi
    rm -rf "$folder"
    image_id "$1"
}
