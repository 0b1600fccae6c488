#!/usr/bin/env bash
# What CUDA 13 wants changed in Caffe, besides ../patch.sh. CUDA 12 takes it as well.
#   patch.sh SOURCE_FOLDER
set -euo pipefail
# shellcheck source=../replace.sh
. "$(dirname "$0")/../replace.sh"
cd "$1"

# `caffe device_query` prints three properties of a card that are attributes now.
replace src/caffe/common.cpp 'void Caffe::DeviceQuery() {' \
    'static int DeviceAttribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

void Caffe::DeviceQuery() {'
replace src/caffe/common.cpp prop.clockRate 'DeviceAttribute(cudaDevAttrClockRate, device)'
replace src/caffe/common.cpp prop.deviceOverlap 'DeviceAttribute(cudaDevAttrGpuOverlap, device)'
replace src/caffe/common.cpp prop.kernelExecTimeoutEnabled \
    'DeviceAttribute(cudaDevAttrKernelExecTimeout, device)'
# Each .cu file would be read twice, for a list of headers that a build from scratch has no use for.
# shellcheck disable=SC2016 # make's words
replace Makefile '	$(Q)$(CUDA_DIR)/bin/nvcc $(NVCCFLAGS) $(CUDA_ARCH) -M $< -o ${@:.o=.d} \
		-odir $(@D)
' ''
