// The part of cuBLASLt that Pleat uses, by plain loops over matrices by columns, as the library defines them. It is
// strict: what the library may refuse (types, strides, alignments other than promised, an algorithm of another product,
// too small a workspace) it refuses.
#include <cublasLt.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <optional>

#include "kernels/dtype.h"
#include "kernels/emulator/runtime.h"

struct cublasLtContext {};

namespace {

std::atomic<int64_t> products = 0;

struct Layout {
  cudaDataType type;
  uint64_t rows, cols;
  int64_t stride;  // elements from column to column
  bool operator==(const Layout&) const = default;
};
struct Operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const float* bias = nullptr;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 0;
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};
// What an algorithm was chosen for, whatever the sizes of d.
struct Algorithm {
  uint32_t depth, epilogue;
  uint32_t alignment_a, alignment_b, alignment_d, workspace;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

const Layout& of(cublasLtMatrixLayout_t layout) { return *reinterpret_cast<const Layout*>(layout); }
Operation& of(cublasLtMatmulDesc_t operation) { return *reinterpret_cast<Operation*>(operation); }
Preference& of(cublasLtMatmulPreference_t preference) { return *reinterpret_cast<Preference*>(preference); }

template <class T>
cublasStatus_t assign(T& to, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

bool is_valid(const Layout& layout) {
  return layout.rows > 0 && layout.cols > 0 && layout.stride >= int64_t(layout.rows);
}

// d [rows, cols] = epilogue(op(a) op(b)), `depth` long sums.
struct Product {
  Layout a, b, d;
  Operation operation;
  uint64_t depth;

  static std::optional<Product> from(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
    Product out{of(a), of(b), of(d), of(operation), 0};
    const Operation& how = out.operation;
    const bool a_turns = how.transpose_a == CUBLAS_OP_T, b_turns = how.transpose_b == CUBLAS_OP_T;
    out.depth = a_turns ? out.a.rows : out.a.cols;
    const bool fits = (a_turns ? out.a.cols : out.a.rows) == out.d.rows &&
                      (b_turns ? out.b.cols : out.b.rows) == out.depth &&
                      (b_turns ? out.b.rows : out.b.cols) == out.d.cols;
    const bool types = out.a.type == CUDA_R_16BF && out.b.type == CUDA_R_16BF && out.d.type == CUDA_R_32F &&
                       how.compute == CUBLAS_COMPUTE_32F && how.scale == CUDA_R_32F;
    const bool has_bias = (how.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
    if (!fits || !types || !is_valid(out.a) || !is_valid(out.b) || !is_valid(out.d) || of(c) != of(d) ||
        has_bias != (how.bias != nullptr))
      return std::nullopt;
    return out;
  }

  float element(const pleat::bf16* data, const Layout& layout, bool turns, uint64_t row, uint64_t col) const {
    return pleat::to_f32(data[turns ? col + row * uint64_t(layout.stride) : row + col * uint64_t(layout.stride)]);
  }
  float after(float sum, uint64_t row) const {
    if (operation.bias != nullptr) sum += operation.bias[row];
    const uint32_t activation = operation.epilogue & ~uint32_t(CUBLASLT_EPILOGUE_BIAS);
    if (activation == CUBLASLT_EPILOGUE_RELU) return std::fmax(sum, 0.0f);
    if (activation != CUBLASLT_EPILOGUE_GELU) return sum;
    return sum / 2 * (1 + std::tanh(0.7978845608f * (sum + 0.044715f * sum * sum * sum)));
  }
  void run(const pleat::bf16* a_data, const pleat::bf16* b_data, float* d_data) const {
    for (uint64_t row = 0; row < d.rows; ++row)
      for (uint64_t col = 0; col < d.cols; ++col) {
        float sum = 0;  // in another order than the kernels', as the library's are
        for (uint64_t k = depth; k-- > 0;)
          sum += element(a_data, a, operation.transpose_a == CUBLAS_OP_T, row, k) *
                 element(b_data, b, operation.transpose_b == CUBLAS_OP_T, k, col);
        d_data[row + col * uint64_t(d.stride)] = after(sum, row);
      }
  }
};

bool is_aligned(const void* data, uint32_t alignment) { return reinterpret_cast<uintptr_t>(data) % alignment == 0; }

}  // namespace

int64_t pleat::emulator::library_products() { return products; }

extern "C" {

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return *handle = new cublasLtContext, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return delete handle, CUBLAS_STATUS_SUCCESS; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    default:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return delete &of(layout), CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *operation = reinterpret_cast<cublasLtMatmulDesc_t>(new Operation{.compute = compute, .scale = scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return delete &of(operation), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  Operation& to = of(operation);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(to.transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(to.transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(to.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(to.bias, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return delete &of(preference), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  Preference& to = of(preference);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(to.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign(to.reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return assign(to.alignment_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return assign(to.alignment_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return assign(to.alignment_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign(to.alignment_d, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  const std::optional<Product> product = Product::from(operation, a, b, c, d);
  if (!product || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const Preference& promised = of(preference);
  if (promised.alignment_c != promised.alignment_d) return CUBLAS_STATUS_NOT_SUPPORTED;
  const Algorithm algorithm{uint32_t(product->depth), product->operation.epilogue,
                            promised.alignment_a,     promised.alignment_b,
                            promised.alignment_d,     uint32_t(std::min(promised.workspace, uint64_t(1) << 20))};
  std::memcpy(&results->algo, &algorithm, sizeof algorithm);
  results->workspaceSize = algorithm.workspace;
  results->state = CUBLAS_STATUS_SUCCESS;
  return *found = 1, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const std::optional<Product> product = Product::from(operation, a_layout, b_layout, c_layout, d_layout);
  if (!product || algo == nullptr || c != d) return CUBLAS_STATUS_INVALID_VALUE;
  if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  Algorithm chosen{};
  std::memcpy(&chosen, algo, sizeof chosen);
  if (chosen.depth != product->depth || chosen.epilogue != product->operation.epilogue ||
      chosen.workspace > workspace_bytes || !is_aligned(a, chosen.alignment_a) || !is_aligned(b, chosen.alignment_b) ||
      !is_aligned(d, chosen.alignment_d))
    return CUBLAS_STATUS_INVALID_VALUE;
  ++products;
  const cudaError_t error = pleat::emulator::enqueue(stream, [=, product = *product] {
    if (chosen.workspace > 0) std::memset(workspace, 0, chosen.workspace);
    product.run(static_cast<const pleat::bf16*>(a), static_cast<const pleat::bf16*>(b), static_cast<float*>(d));
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
