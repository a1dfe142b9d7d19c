// cuBLASLt is half a gigabyte: loading it takes a tenth of a second and 200 MB. So the tool does not link it, but loads
// it once it is asked for, which only a model on a device does. These are the functions that krul::cuda_model calls;
// the linker tells if one is missing.

#include <cublasLt.h>
#include <dlfcn.h>

#include <string>

namespace {

void* library() {
  static void* const opened =
      dlopen(("libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR)).c_str(), RTLD_NOW | RTLD_LOCAL);
  return opened;
}

/// The library's function of the same name and type; null if it cannot be had.
template <auto Function>
auto loaded(const char* name) {
  static const auto found =
      reinterpret_cast<decltype(Function)>(library() != nullptr ? dlsym(library(), name) : nullptr);
  return found;
}

template <auto Function, class... Arguments>
cublasStatus_t call(const char* name, Arguments... arguments) {
  const auto function = loaded<Function>(name);
  return function != nullptr ? function(arguments...) : CUBLAS_STATUS_NOT_INITIALIZED;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return call<&cublasLtCreate>("cublasLtCreate", handle);
}
cublasStatus_t cublasLtDestroy(const cublasLtHandle_t handle) {
  return call<&cublasLtDestroy>("cublasLtDestroy", handle);
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  const auto function = loaded<&cublasLtGetStatusString>("cublasLtGetStatusString");
  return function != nullptr ? function(status) : "libcublasLt cannot be loaded: is its folder in LD_LIBRARY_PATH?";
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  return call<&cublasLtMatmul>("cublasLtMatmul", handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout,
                               d, d_layout, algorithm, workspace, workspace_bytes, stream);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  return call<&cublasLtMatmulAlgoGetHeuristic>("cublasLtMatmulAlgoGetHeuristic", handle, operation, a, b, c, d,
                                               preference, most, results, count);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return call<&cublasLtMatmulDescCreate>("cublasLtMatmulDescCreate", operation, compute, scale);
}
cublasStatus_t cublasLtMatmulDescDestroy(const cublasLtMatmulDesc_t operation) {
  return call<&cublasLtMatmulDescDestroy>("cublasLtMatmulDescDestroy", operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which,
                                              const void* value, size_t bytes) {
  return call<&cublasLtMatmulDescSetAttribute>("cublasLtMatmulDescSetAttribute", operation, which, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return call<&cublasLtMatmulPreferenceCreate>("cublasLtMatmulPreferenceCreate", preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(const cublasLtMatmulPreference_t preference) {
  return call<&cublasLtMatmulPreferenceDestroy>("cublasLtMatmulPreferenceDestroy", preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which, const void* value,
                                                    size_t bytes) {
  return call<&cublasLtMatmulPreferenceSetAttribute>("cublasLtMatmulPreferenceSetAttribute", preference, which, value,
                                                     bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  return call<&cublasLtMatrixLayoutCreate>("cublasLtMatrixLayoutCreate", layout, type, rows, columns, leading);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t layout) {
  return call<&cublasLtMatrixLayoutDestroy>("cublasLtMatrixLayoutDestroy", layout);
}

}  // extern "C"
