#!/usr/bin/env bash
# What cuDNN 9 wants changed in Caffe's cuDNN layers, which were written for cuDNN 4 to 7.
#   patch-cudnn.sh SOURCE_FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../replace.sh
. "$here/../replace.sh"
cd "$1"
header=include/caffe/util/cudnn.hpp

# The calls that choose an algorithm.
cp "$here/cudnn_removed.hpp" include/caffe/util/
# The names of errors: cuDNN has its own function of that name, and dropped some of the names.
perl -0pi -e 's/inline const char\* cudnnGetErrorString.*?\n}\n/#include "caffe\/util\/cudnn_removed.hpp"\n/s
    or die "cudnn.hpp has no cudnnGetErrorString\n"' "$header"
# Without this cuDNN rounds a float's factors to TF32 on cards that can; Caffe's own layers don't.
replace "$header" '      dataType<Dtype>::type));
#else' '      dataType<Dtype>::type));
  CUDNN_CHECK(cudnnSetConvolutionMathType(*conv, CUDNN_FMA_MATH));
#else'
# The workspaces of groups lie side by side; sizes that cuDNN asks for needn't keep the next aligned.
for file in src/caffe/layers/cudnn_conv_layer.cpp src/caffe/layers/cudnn_deconv_layer.cpp; do
    replace "$file" 'max_workspace = std::max(max_workspace, total_workspace_bwd_filter);' \
        'max_workspace = std::max(max_workspace, total_workspace_bwd_filter);
  max_workspace = (max_workspace + 255) / 256 * 256;'
done
# Unused, and where CUDA 13 has it only nvcc looks.
replace src/caffe/layers/cudnn_softmax_layer.cpp '#include "thrust/device_vector.h"
' ''
