#include "kernels/cuda/blas_lt.h"

#include <cublasLt.h>

#include <algorithm>
#include <map>

#include "kernels/cuda/activation.h"

namespace pleat::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(ErrorKind::failed, concat("cuBLASLt: ", what, ": ", cublasLtGetStatusString(status)));
}

template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* descriptor) const {
    kDestroy(descriptor);
  }
};
using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<cublasLtMatrixLayoutDestroy>>;
using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy<cublasLtMatmulPreferenceDestroy>>;

// Of a row-major matrix, which the library takes for its transpose by columns.
Layout layout_of(cudaDataType_t type, int64_t rows, int64_t cols, int64_t stride) {
  cublasLtMatrixLayout_t out = nullptr;
  check(cublasLtMatrixLayoutCreate(&out, type, uint64_t(cols), uint64_t(rows), stride), "a matrix's layout");
  return Layout(out);
}

// A power of two up to what an allocation has.
uint32_t alignment_of(const void* data) {
  uint32_t alignment = 256;
  while (reinterpret_cast<uintptr_t>(data) % alignment != 0) alignment /= 2;
  return alignment;
}

cublasLtEpilogue_t epilogue_of(const GemmProduct& product) {
  const bool bias = product.bias != nullptr;
  if (product.activation == Activation::relu) return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  if (product.activation == Activation::gelu_new) return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

constexpr int kManyRows = 512;       // that one algorithm for all is chosen for
constexpr uint32_t kAlignment = 16;  // of its operands

// All that an algorithm is chosen by.
struct Shape {
  int64_t rows, outputs, width, x_stride, w_stride, y_stride;  // strides in elements
  uint32_t x_alignment, w_alignment, y_alignment, bias_alignment;
  cublasLtEpilogue_t epilogue;
  int all_outputs;  // 0: of w; else one algorithm for any rows
  auto operator<=>(const Shape&) const = default;
};

Shape shape_of(const GemmInput& x, const GemmProduct& product, int all_outputs) {
  Shape shape{.rows = x.x.rows,
              .outputs = product.w.rows,
              .width = product.w.width,
              .x_stride = x.stride / 2,
              .w_stride = product.w.stride / 2,
              .y_stride = product.y.stride,
              .x_alignment = alignment_of(x.operand),
              .w_alignment = alignment_of(product.w.data),
              .y_alignment = alignment_of(product.y.data),
              .bias_alignment = alignment_of(product.bias),
              .epilogue = epilogue_of(product),
              .all_outputs = all_outputs};
  if (all_outputs == 0) return shape;
  PLEAT_ASSERT(std::min({shape.x_alignment, shape.w_alignment, shape.y_alignment}) >= kAlignment &&
               shape.y_stride * sizeof(float) % kAlignment == 0);
  shape.x_alignment = shape.w_alignment = shape.y_alignment = kAlignment;
  return shape;
}

// y^T = w x^T by columns: w is what the library transposes, and the bias has an element for each of its rows.
struct Plan {
  Operation operation;
  Layout x, w, y;
  cublasLtMatmulAlgo_t algorithm;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value), "a product's attribute");
  }

  Plan(cublasLtHandle_t handle, const Shape& shape, const float* bias, size_t workspace_bytes) {
    cublasLtMatmulDesc_t created = nullptr;
    check(cublasLtMatmulDescCreate(&created, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product's description");
    operation.reset(created);
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(CUBLAS_OP_T));
    set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t(CUBLAS_OP_N));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(shape.epilogue));
    if (bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);  // f32 as y is
    if (shape.all_outputs > 0) {
      take_layouts(shape, kManyRows, shape.all_outputs, shape.all_outputs);
      choose_algorithm(handle, shape, workspace_bytes);
      take_layouts(shape, shape.rows, shape.outputs, shape.y_stride);
    } else {
      take_layouts(shape, shape.rows, shape.outputs, shape.y_stride);
      choose_algorithm(handle, shape, workspace_bytes);
    }
  }

  void take_layouts(const Shape& shape, int64_t rows, int64_t outputs, int64_t y_stride) {
    x = layout_of(CUDA_R_16BF, rows, shape.width, shape.x_stride);
    w = layout_of(CUDA_R_16BF, outputs, shape.width, shape.w_stride);
    y = layout_of(CUDA_R_32F, rows, outputs, y_stride);
  }

  void choose_algorithm(cublasLtHandle_t handle, const Shape& shape, size_t workspace_bytes) {
    cublasLtMatmulPreference_t created = nullptr;
    check(cublasLtMatmulPreferenceCreate(&created), "a preference");
    const Preference preference(created);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value), "a preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(workspace_bytes));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.w_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.x_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.y_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.y_alignment);
    if (shape.all_outputs > 0)
      prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE));
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, operation.get(), w.get(), x.get(), y.get(),
                                                                 y.get(), preference.get(), 1, &best, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0 || best.state != CUBLAS_STATUS_SUCCESS)
      throw Error(ErrorKind::failed, concat("cuBLASLt has no algorithm for ", shape.rows, " rows by [", shape.outputs,
                                            ", ", shape.width, "]: ", cublasLtGetStatusString(status)));
    algorithm = best.algo;
  }
};

}  // namespace

struct BlasLt::State {
  explicit State(size_t workspace_bytes) : workspace(workspace_bytes) {
    check(cublasLtCreate(&handle), "it did not start");
  }
  ~State() { cublasLtDestroy(handle); }
  State(const State&) = delete;

  cublasLtHandle_t handle = nullptr;
  void multiply(cudaStream_t stream, const GemmInput& x, const GemmProduct& product, int all_outputs);

  DeviceArray<unsigned char> workspace;
  std::map<Shape, Plan> plans;
};

bool has_blas_lt() { return cublasLtGetVersion() > 0; }

BlasLt::BlasLt(size_t workspace_bytes) : state_(std::make_unique<State>(workspace_bytes)) {}
BlasLt::~BlasLt() = default;

void BlasLt::gemm(cudaStream_t stream, const GemmInput& x, const GemmProduct& product) {
  state_->multiply(stream, x, product, 0);
}
void BlasLt::gemm_by_one_algorithm(cudaStream_t stream, const GemmInput& x, const GemmProduct& product,
                                   int all_outputs) {
  state_->multiply(stream, x, product, all_outputs);
}

void BlasLt::State::multiply(cudaStream_t stream, const GemmInput& x, const GemmProduct& product, int all_outputs) {
  PLEAT_ASSERT(x.bits == 16 && product.w.bits == 16, "x in ", x.bits, " bits, w in ", product.w.bits);
  PLEAT_ASSERT(x.x.cols == product.w.width && product.y.rows == x.x.rows && product.y.cols == product.w.rows);
  if (product.w.rows == 0) return;
  const Shape shape = shape_of(x, product, all_outputs);
  auto plan = plans.find(shape);
  if (plan == plans.end()) plan = plans.try_emplace(shape, handle, shape, product.bias, workspace.size()).first;
  Plan& of = plan->second;
  if (product.bias != nullptr) of.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  const float one = 1, zero = 0;
  check(cublasLtMatmul(handle, of.operation.get(), &one, product.w.data, of.w.get(), x.operand, of.x.get(), &zero,
                       product.y.data, of.y.get(), product.y.data, of.y.get(), &of.algorithm, workspace.data(),
                       workspace.size(), stream),
        "a product did not start");
  if (product.activation == Activation::gelu || product.activation == Activation::silu)
    activate(stream, *product.activation, product.y);
}

}  // namespace pleat::cuda
