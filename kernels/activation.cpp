#include "kernels/activation.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/context.h"
#include "kernels/vector_ops.h"

namespace pleat {
namespace {

// work(row, first column, columns) for pieces of about 2 us.
template <class Work>
void for_chunks(Context& ctx, int64_t rows, int64_t cols, Work work) {
  constexpr int64_t chunk = 2048;
  const int64_t chunks = (cols + chunk - 1) / chunk;
  const auto task = [&](int, int64_t index) {
    const int64_t begin = index % chunks * chunk;
    work(index / chunks, begin, std::min(chunk, cols - begin));
  };
  if (rows * chunks <= 1) {
    for (int64_t index = 0; index < rows * chunks; ++index) task(0, index);
  } else {
    ctx.team().each(rows * chunks, task);
  }
}

}  // namespace

Activation activation_from_name(std::string_view name) {
  if (name == "gelu") return Activation::gelu;
  for (const std::string_view tanh_form : {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"})
    if (name == tanh_form) return Activation::gelu_new;
  if (name == "relu") return Activation::relu;
  if (name == "silu" || name == "swish") return Activation::silu;
  throw Error(ErrorKind::invalid, concat("unknown activation '", name,
                                         "'; known: gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, swish"));
}

std::string_view name_of(Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_new:
      return "gelu_new";
    case Activation::relu:
      return "relu";
    case Activation::silu:
      return "silu";
  }
  return "?";
}

void activate(Isa isa, Activation activation, float* x, int64_t n) { vector_ops(isa).activate(activation, x, n); }

void activate(Context& ctx, Activation activation, MatrixView<float> x) {
  const auto function = vector_ops(ctx.isa()).activate;
  for_chunks(ctx, x.rows, x.cols,
             [&](int64_t row, int64_t begin, int64_t count) { function(activation, x[row] + begin, count); });
}

void activate_gated(Context& ctx, Activation activation, MatrixView<float> gate, MatrixView<float> up) {
  PLEAT_ASSERT(gate.rows == up.rows && gate.cols == up.cols, gate.rows, " x ", gate.cols, " and ", up.rows, " x ",
               up.cols);
  const VectorOps& ops = vector_ops(ctx.isa());
  for_chunks(ctx, up.rows, up.cols, [&](int64_t row, int64_t begin, int64_t count) {
    ops.activate(activation, gate[row] + begin, count);
    ops.multiply_row(gate[row] + begin, up[row] + begin, count);
  });
}

void soft_cap(Context& ctx, float cap, MatrixView<float> x) {
  const auto function = vector_ops(ctx.isa()).soft_cap;
  for_chunks(ctx, x.rows, x.cols,
             [&](int64_t row, int64_t begin, int64_t count) { function(cap, x[row] + begin, count); });
}

}  // namespace pleat
