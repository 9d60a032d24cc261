// cuBLASLt's entry points, which load the library when one is first called: half a gigabyte that only a program which
// multiplies by it maps, and which need not be on the machine.
#include <cublasLt.h>
#include <dlfcn.h>

#include <string>
#include <type_traits>

namespace {

// Where the system looks for libraries, then where the toolkit is.
void* load() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  return library != nullptr ? library : dlopen(("/usr/local/cuda/lib64/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
}

void* symbol(const char* name) {
  static void* const library = load();
  return library == nullptr ? nullptr : dlsym(library, name);
}

// The library's function of this name, or what `missing` says where there is none.
template <class Result, class... Parameters>
Result call(Result (*)(Parameters...), const char* name, Result missing,
            std::type_identity_t<Parameters>... arguments) {
  const auto function = reinterpret_cast<Result (*)(Parameters...)>(symbol(name));
  return function == nullptr ? missing : function(arguments...);
}

constexpr cublasStatus_t kMissing = CUBLAS_STATUS_NOT_INITIALIZED;

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return call(cublasLtGetVersion, __func__, size_t(0)); }
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return call(cublasLtGetStatusString, __func__, "the library is not there", status);
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return call(cublasLtCreate, __func__, kMissing, handle); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return call(cublasLtDestroy, __func__, kMissing, handle); }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return call(cublasLtMatrixLayoutCreate, __func__, kMissing, layout, type, rows, cols, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return call(cublasLtMatrixLayoutDestroy, __func__, kMissing, layout);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return call(cublasLtMatmulDescCreate, __func__, kMissing, operation, compute, scale);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return call(cublasLtMatmulDescDestroy, __func__, kMissing, operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return call(cublasLtMatmulDescSetAttribute, __func__, kMissing, operation, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return call(cublasLtMatmulPreferenceCreate, __func__, kMissing, preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return call(cublasLtMatmulPreferenceDestroy, __func__, kMissing, preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  return call(cublasLtMatmulPreferenceSetAttribute, __func__, kMissing, preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  return call(cublasLtMatmulAlgoGetHeuristic, __func__, kMissing, handle, operation, a, b, c, d, preference, wanted,
              results, found);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  return call(cublasLtMatmul, __func__, kMissing, handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout,
              d, d_layout, algo, workspace, workspace_bytes, stream);
}
}
