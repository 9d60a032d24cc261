#include "kernels/activation.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/vector_ops.h"

namespace pleat {

Activation activation_from_name(std::string_view name) {
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new") return Activation::gelu_new;
  if (name == "relu") return Activation::relu;
  throw Error(ErrorKind::invalid, concat("unknown activation '", name, "'; known: gelu, gelu_new, relu"));
}

std::string_view name_of(Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_new:
      return "gelu_new";
    case Activation::relu:
      return "relu";
  }
  return "?";
}

void activate(Isa isa, Activation activation, float* x, int64_t n) { vector_ops(isa).activate(activation, x, n); }

void activate(Context& ctx, Activation activation, MatrixView<float> x) {
  constexpr int64_t chunk = 2048;  // about 2 us of work
  const auto function = vector_ops(ctx.isa()).activate;
  const int64_t chunks = (x.cols + chunk - 1) / chunk;
  const auto task = [&](int, int64_t index) {
    const int64_t begin = index % chunks * chunk;
    function(activation, x[index / chunks] + begin, std::min(chunk, x.cols - begin));
  };
  if (x.rows * chunks <= 1) {
    for (int64_t index = 0; index < x.rows * chunks; ++index) task(0, index);
  } else {
    ctx.team().each(x.rows * chunks, task);
  }
}

}  // namespace pleat
