#!/usr/bin/env bash
# What a compiler and libraries of today want changed in the source of 2018. Each edit must hit.
#   patch.sh SOURCE_FOLDER
set -euo pipefail
# shellcheck source=replace.sh
. "$(dirname "$0")/replace.sh"
cd "$1"

# protobuf 3.11 dropped the second argument, a threshold for a warning.
replace src/caffe/util/io.cpp 'SetTotalBytesLimit(kProtoReadBytesLimit, 536870912)' \
    'SetTotalBytesLimit(kProtoReadBytesLimit)'
# OpenCV 4 dropped the names of its C interface.
for file in src/caffe/util/io.cpp src/caffe/layers/window_data_layer.cpp; do
    replace "$file" CV_LOAD_IMAGE_COLOR cv::IMREAD_COLOR
done
replace src/caffe/util/io.cpp CV_LOAD_IMAGE_GRAYSCALE cv::IMREAD_GRAYSCALE
# scikit-image renamed an argument.
replace python/caffe/io.py 'as_grey=' 'as_gray='
