#include <algorithm>

#include "core/fold/gptq.h"
#include "core/fold/gptq_grid.h"
#include "core/fold/linear_solve.h"
#include "kernels/check.h"

namespace pleat {

// The columns of GPTQ are neurons, its rows outputs: `rest` is the transpose of what gptq() works on, so a neuron's
// outputs, and with them the groups of a grid, are contiguous.
LowBitRows gptq_by_neuron(Context& ctx, MatrixView<const float> w, const std::vector<double>& neuron_moment, int bits,
                          bool activation_order, std::vector<int32_t> protected_neurons) {
  const int64_t neurons = w.rows, d = w.cols;
  const bool compensates = !neuron_moment.empty();
  const std::vector<int32_t> order = column_order(neuron_moment, neurons, activation_order);
  const Table factor = compensates ? inverse_cholesky(reordered(neuron_moment, order), neurons, kDamping) : Table();
  LowBitRows out(bits, neurons, d);
  out.protected_rows = std::move(protected_neurons);
  out.protected_row_weights.resize(out.protected_rows.size() * size_t(d));
  std::vector<int32_t> protected_place(size_t(neurons), -1);
  for (size_t i = 0; i < out.protected_rows.size(); ++i) protected_place[size_t(out.protected_rows[i])] = int32_t(i);
  Table rest(neurons, d);  // in this order, with the errors so far compensated
  for (int64_t k = 0; k < neurons; ++k) std::copy_n(w[order[size_t(k)]], d, rest[k]);

  // Rounds outputs [begin, end) of the k-th neuron; stored [end - begin].
  const auto round_group = [&](int64_t k, int64_t begin, int64_t end, float* stored) {
    const int64_t neuron = order[size_t(k)];
    const float* values = rest[k] + begin;
    if (const int32_t at = protected_place[size_t(neuron)]; at >= 0) {
      for (int64_t i = begin; i < end; ++i) {
        const bf16 kept = to_bf16(rest[k][i]);
        out.protected_row_weights[size_t(at * d + i)] = kept;
        stored[i - begin] = to_f32(kept);
      }
      return;
    }
    const GroupGrid grid = grid_of(values, end - begin, bits);
    const size_t group = size_t(neuron * out.groups() + begin / kGroup);
    out.scale[group] = to_bf16(grid.scale);
    if (bits < 8) out.minimum[group] = to_bf16(grid.minimum);
    for (int64_t i = begin; i < end; ++i) {
      const int code = grid.code(rest[k][i]);
      if (code != 0) out.set_code(neuron, i, code);
      stored[i - begin] = grid.value(code);
    }
  };

  constexpr int64_t kBlock = 64;  // neurons whose errors reach the later ones in one product
  for (int64_t first = 0; first < neurons; first += kBlock) {
    const int64_t last = std::min(first + kBlock, neurons), width = last - first;
    Table errors(width, d);
    ctx.team().each(out.groups(), [&](int, int64_t group) {
      const int64_t begin = group * kGroup, end = std::min(begin + kGroup, d);
      float stored[kGroup];
      for (int64_t k = first; k < last; ++k) {
        round_group(k, begin, end, stored);
        if (!compensates) continue;
        const float* u = factor[k];
        for (int64_t i = begin; i < end; ++i) errors[k - first][i] = (rest[k][i] - stored[i - begin]) / u[k];
        for (int64_t later = k + 1; later < last; ++later)
          for (int64_t i = begin; i < end; ++i) rest[later][i] -= errors[k - first][i] * u[later];
      }
    });
    if (!compensates || last == neurons) continue;
    const Table coupling = transposed({factor[first] + last, width, neurons - last, neurons});
    const Table change = multiply(ctx, coupling.view(), errors.view());
    for (int64_t k = last; k < neurons; ++k)
      for (int64_t i = 0; i < d; ++i) rest[k][i] -= change[k - last][i];
  }
  return out;
}

}  // namespace pleat
