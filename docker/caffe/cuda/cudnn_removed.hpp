// What cuDNN 8 removed and Caffe's convolution layers call, said with what took its place.
#ifndef CAFFE_UTIL_CUDNN_REMOVED_HPP_
#define CAFFE_UTIL_CUDNN_REMOVED_HPP_

enum CudnnWorkspacePreference {
  CUDNN_CONVOLUTION_FWD_SPECIFY_WORKSPACE_LIMIT,
  CUDNN_CONVOLUTION_BWD_FILTER_SPECIFY_WORKSPACE_LIMIT,
  CUDNN_CONVOLUTION_BWD_DATA_SPECIFY_WORKSPACE_LIMIT
};

namespace caffe {
namespace cudnn {

// The first, and so by cuDNN's heuristics the fastest, that works in single precision without tensor
// cores and with at most limit bytes; else plain, which needs none.
template <typename Perf, typename Algo>
inline void FirstWithin(const Perf* found, int count, size_t limit, Algo plain, Algo* algo) {
  *algo = plain;
  for (int i = 0; i < count; ++i) {
    const bool tensor_cores = found[i].mathType == CUDNN_TENSOR_OP_MATH ||
        found[i].mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
    if (found[i].status == CUDNN_STATUS_SUCCESS && found[i].memory <= limit && !tensor_cores) {
      *algo = found[i].algo;
      return;
    }
  }
}

}  // namespace cudnn
}  // namespace caffe

inline cudnnStatus_t cudnnGetConvolutionForwardAlgorithm(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnFilterDescriptor_t filter,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t top,
    CudnnWorkspacePreference, size_t limit, cudnnConvolutionFwdAlgo_t* algo) {
  cudnnConvolutionFwdAlgoPerf_t found[CUDNN_CONVOLUTION_FWD_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionForwardAlgorithm_v7(handle, bottom, filter, conv,
      top, CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, found);
  caffe::cudnn::FirstWithin(found, count, limit, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, algo);
  return status;
}

inline cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnTensorDescriptor_t top_diff,
    cudnnConvolutionDescriptor_t conv, cudnnFilterDescriptor_t filter_diff,
    CudnnWorkspacePreference, size_t limit, cudnnConvolutionBwdFilterAlgo_t* algo) {
  cudnnConvolutionBwdFilterAlgoPerf_t found[CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, bottom,
      top_diff, conv, filter_diff, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, found);
  caffe::cudnn::FirstWithin(found, count, limit, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, algo);
  return status;
}

inline cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm(cudnnHandle_t handle,
    cudnnFilterDescriptor_t filter, cudnnTensorDescriptor_t top_diff,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t bottom_diff,
    CudnnWorkspacePreference, size_t limit, cudnnConvolutionBwdDataAlgo_t* algo) {
  cudnnConvolutionBwdDataAlgoPerf_t found[CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, filter,
      top_diff, conv, bottom_diff, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, found);
  caffe::cudnn::FirstWithin(found, count, limit, CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, algo);
  return status;
}

#endif  // CAFFE_UTIL_CUDNN_REMOVED_HPP_
