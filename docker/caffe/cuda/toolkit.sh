# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the words of build.sh and of the two scripts beside
# Where the CUDA toolkit is. Both ways set
#   toolkit             the folder with bin/nvcc and include/
#   toolkit_libs        folders of libraries
#   toolkit_includes    folders of headers besides the toolkit's own
#   nccl_version, cudnn_version    empty where there is none

# toolkit_of_wheels FOLDER: installed in FOLDER for this build and the next.
toolkit_of_wheels() {
    local lists=("$cuda/requirements.txt") list options=() site
    [ "$cudnn" = 0 ] || lists+=("$cuda/requirements-cudnn.txt")
    for list in "${lists[@]}"; do options+=(-r "$list"); done
    site=$1/cuda-$(cat "${lists[@]}" | sha256sum | cut -c1-12)
    if [ ! -d "$site" ]; then
        rm -rf "$site.part"
        # A list of constraints from elsewhere would need hashes, too.
        PIP_CONSTRAINT=/dev/null /usr/bin/python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --no-compile --no-deps --require-hashes --target "$site.part" "${options[@]}" >&2
        mv "$site.part" "$site"
    fi
    toolkit=$site/nvidia/cu13
    toolkit_libs=("$toolkit/lib" "$site/nvidia/nccl/lib")
    toolkit_includes=("$site/nvidia/nccl/include")
    if [ "$cudnn" != 0 ]; then
        toolkit_libs+=("$site/nvidia/cudnn/lib")
        toolkit_includes+=("$site/nvidia/cudnn/include")
    fi
    toolkit_versions "${toolkit_includes[@]}"
}

# toolkit_at_home CUDA_HOME: NCCL and cuDNN are there or where Debian's packages put them.
toolkit_at_home() {
    local system file
    system=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
    toolkit=$1
    toolkit_includes=()
    toolkit_libs=()
    for file in "$1/lib64" "$1/lib" "/usr/lib/$system"; do
        [ ! -d "$file" ] || toolkit_libs+=("$file")
    done
    for file in include/cublas_v2.h include/curand.h; do
        [ -e "$1/$file" ] || { echo "The CUDA toolkit that CUDA_HOME names is not whole: there is no $1/$file. Without CUDA_HOME, one is installed as wheels." >&2; exit 1; }
    done
    toolkit_versions "$1/include" /usr/include "/usr/include/$system"
}

# From the headers in these folders.
toolkit_versions() {
    nccl_version=$(version_in NCCL nccl.h "$@")
    cudnn_version=
    [ "$cudnn" != 0 ] || return 0
    cudnn_version=$(version_in CUDNN cudnn_version.h "$@")
    [ -n "$cudnn_version" ] || { echo "CUDNN=1, and there is no cudnn_version.h in $*" >&2; exit 1; }
}

# version_in NAME HEADER FOLDER…: of the first HEADER, its NAME_MAJOR, NAME_MINOR and NAME_PATCH(LEVEL).
version_in() {
    local name=$1 header=$2 folder
    shift 2
    for folder in "$@"; do
        [ -f "$folder/$header" ] || continue
        sed -nE "s/^#define ${name}_(MAJOR|MINOR|PATCH|PATCHLEVEL) ([0-9]+).*/\2/p" "$folder/$header" | paste -sd.
        return
    done
}

# toolkit_links FOLDER: the linker asks for libNAME.so; wheels have only libNAME.so.VERSION.
toolkit_links() {
    local name folder file
    rm -rf "$1" && mkdir "$1"
    for name in cudart cublas curand nccl cudnn; do
        for folder in "${toolkit_libs[@]}"; do
            for file in "$folder/lib$name.so" "$folder/lib$name.so".*; do
                [ -e "$file" ] || continue
                ln -s "$file" "$1/lib$name.so"
                break 2
            done
        done
    done
}
