#!/usr/bin/env bash
# NVIDIA's libraries that the built ones ask for, into their lib folder, so that a machine needs
# nothing but the driver. Hard links where the file system allows it: they are a gigabyte.
#   bundle.sh INSTALL_FOLDER LIBRARY_FOLDER…
set -euo pipefail
to=$1/lib
queue=("$to/libcaffe.so")
shift

# take NAME: from the first folder that has it.
take() {
    local folder
    [ ! -e "$to/$1" ] || return 0
    for folder in "${folders[@]}"; do
        [ -e "$folder/$1" ] || continue
        ln -L "$folder/$1" "$to/$1" 2>/dev/null || cp -L "$folder/$1" "$to/$1"
        queue+=("$to/$1")
        return
    done
}

folders=("$@")
while [ ${#queue[@]} -gt 0 ]; do
    file=${queue[0]}
    queue=("${queue[@]:1}")
    for name in $(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        case $name in
            libcudart.*|libcublas*|libcurand.*|libnccl.*|libcudnn*) take "$name" ;;
        esac
    done
    # cuDNN opens its parts, and the run-time compiler, when it needs them.
    case $file in
        */libcudnn.so.*)
            for folder in "${folders[@]}"; do
                for part in "$folder"/libcudnn_*.so.[0-9] "$folder"/libnvrtc.so.[0-9]* "$folder"/libnvrtc-builtins.so.[0-9]*; do
                    if [ -e "$part" ]; then take "$(basename "$part")"; fi
                done
            done
            ;;
    esac
done
