# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the words of build.sh and of the two scripts beside
# The CUDA variant of build.sh, which sources this. In the environment:
#   CUDA_HOME    a CUDA toolkit with nvcc, cuBLAS and cuRAND, wherever it came from. Unset:
#                the wheels of requirements.txt, CUDA 13.0.
#   CUDA_ARCHS   the compute capabilities to compile for, such as "8.6 9.0". The newest also gets PTX,
#                which the driver compiles for cards that are newer still.
#   CUDNN=1      cuDNN's layers, too. They compile and link, and have never been run on a card.
# shellcheck source=archs.sh
. "$here/cuda/archs.sh"
# shellcheck source=toolkit.sh
. "$here/cuda/toolkit.sh"
cuda=$here/cuda
cudnn=${CUDNN:-0}
link=install-cuda
parts+=("$cuda"/*.*)

if [ -n "${CUDA_HOME:-}" ]; then
    [ -x "$CUDA_HOME/bin/nvcc" ] || { echo "CUDA_HOME names no CUDA toolkit: there is no $CUDA_HOME/bin/nvcc" >&2; exit 1; }
    cuda_archs=${CUDA_ARCHS:-$(archs_known "$CUDA_HOME/bin/nvcc")}
    settings="$CUDA_HOME $(nvcc_version "$CUDA_HOME/bin/nvcc") archs $cuda_archs cudnn $cudnn"
else
    cuda_archs=${CUDA_ARCHS:-$ARCHS_OF_WHEELS}
    settings="wheels archs $cuda_archs cudnn $cudnn"
fi

# Without CUDA_HOME: pip, for the wheels.
variant_packages() { [ -n "${CUDA_HOME:-}" ] || packages "$cuda/packages.txt"; }

# The Makefile's lines, and where everything is for the steps after.
variant_settings() {
    local name
    if [ -n "${CUDA_HOME:-}" ]; then
        toolkit_at_home "$CUDA_HOME"
    else
        toolkit_of_wheels "$folder"
    fi
    archs_check "$toolkit/bin/nvcc" "$cuda_archs"
    toolkit_links "$work/link"
    echo "CUDA_DIR := $toolkit"
    echo "CUDA_ARCH := $(archs_flags "$cuda_archs")"
    # The sources call constexpr functions of the host's in kernels; CUDA 13 has much to say about
    # defaulted functions in Boost and thrust.
    echo "NVCCFLAGS += --expt-relaxed-constexpr -Wno-deprecated-gpu-targets -diag-suppress 20012"
    echo "LIBRARY_DIRS += $work/link"
    for name in "${toolkit_includes[@]}"; do echo "INCLUDE_DIRS += $name"; done
    for name in "${toolkit_libs[@]}"; do echo "LDFLAGS += -Wl,-rpath-link,$name"; done
    [ -z "$nccl_version" ] || echo "USE_NCCL := 1"
    [ "$cudnn" = 0 ] || echo "USE_CUDNN := 1"
}

variant_patch() {
    bash "$cuda/patch.sh" "$1"
    [ "$cudnn" = 0 ] || bash "$cuda/patch-cudnn.sh" "$1"
}

variant_libraries() {
    bash "$cuda/bundle.sh" "$1" "${toolkit_libs[@]}"
}

# From the library itself, not from what was asked for.
variant_facts() {
    local library=$work/.install/lib/libcaffe.so sass ptx
    sass=$(/usr/bin/python3 "$cuda/archs.py" sass "$library")
    ptx=$(/usr/bin/python3 "$cuda/archs.py" ptx "$library")
    if [ "$sass" != "$(tr ' ' '\n' <<<"$cuda_archs" | sort -uV | xargs)" ]; then
        echo "libcaffe.so has machine code for '$sass', not for '$cuda_archs'." >&2
        exit 1
    fi
    printf '"cuda": "%s", "cudnn": %s, "nccl": %s, "archs": [%s], "ptx": [%s]' \
        "$(nvcc_version "$toolkit/bin/nvcc")" "$(quoted "${cudnn_version:-}")" "$(quoted "$nccl_version")" \
        "$(quoted_list "$sass")" "$(quoted_list "$ptx")"
}

quoted() { [ -n "$1" ] && echo "\"$1\"" || echo null; }
quoted_list() { tr ' ' '\n' <<<"$1" | sed '/^$/d; s/.*/"&"/' | paste -sd, | sed 's/,/, /g'; }
