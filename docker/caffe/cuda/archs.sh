# shellcheck shell=bash
# Compute capabilities: what they are called, and what a compiler has.

# What CUDA 13 compiles for, as far as Caffe needs it: code for 8.0 also runs on 8.7 and 8.9, for 10.0
# on 10.3, for 12.0 on 12.1. Volta's 7.0 needs a toolkit up to CUDA 12 in CUDA_HOME.
ARCHS_OF_WHEELS="7.5 8.0 8.6 9.0 10.0 12.0"
ARCHS_OF_CARDS="7.0 $ARCHS_OF_WHEELS"

nvcc_version() { "$1" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p'; }

# Those of ARCHS_OF_CARDS that this nvcc has code for.
archs_known() {
    local arch known=() can
    can=$("$1" --list-gpu-code)
    for arch in $ARCHS_OF_CARDS; do
        if grep -qx "sm_${arch/./}" <<<"$can"; then known+=("$arch"); fi
    done
    echo "${known[*]}"
}

# archs_check NVCC "ARCH …": fails where the compiler has none of it.
archs_check() {
    local arch can
    can=$("$1" --list-gpu-code)
    for arch in $2; do
        grep -qx "sm_${arch/./}" <<<"$can" && continue
        echo "CUDA $(nvcc_version "$1")'s compiler has no compute capability $arch; it has $(archs_named <<<"$can")." >&2
        [ "$arch" != 7.0 ] || echo "CUDA 12 is the last for 7.0 (Volta): name its toolkit by CUDA_HOME." >&2
        exit 1
    done
}

# nvcc's flags for machine code for each, and for PTX of the newest.
archs_flags() {
    local arch newest flags=()
    newest=$(tr ' ' '\n' <<<"$1" | sort -V | tail -n 1)
    for arch in $1; do flags+=(-gencode "arch=compute_${arch/./},code=sm_${arch/./}"); done
    echo "${flags[*]} -gencode arch=compute_${newest/./},code=compute_${newest/./}"
}

# sm_75 and sm_120 in a text are 7.5 and 12.0.
archs_named() { grep -oE '\bsm_[0-9]+' | sed -E 's/sm_([0-9]+)([0-9])$/\1.\2/' | sort -uV | xargs; }
