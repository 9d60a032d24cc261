#include <algorithm>

#include "core/fold/gptq.h"
#include "core/fold/gptq_columns.h"
#include "kernels/check.h"

namespace pleat {
namespace {

// Columns are neurons, rows outputs: a group is the 64 rows that come together, and its grid is made when its neuron's
// turn comes.
class NeuronRounding : public ColumnRounding {
 public:
  NeuronRounding(LowBitRows& out, const std::vector<int32_t>& order)
      : out_(out), order_(order), protected_place_(order.size(), -1) {
    for (size_t i = 0; i < out.protected_rows.size(); ++i) protected_place_[size_t(out.protected_rows[i])] = int32_t(i);
  }

  void round(int64_t begin, int64_t end, int64_t at, const Table& rest, const float*, float* stored) override {
    const int64_t neuron = order_[size_t(at)];
    float values[kGroup];
    for (int64_t i = begin; i < end; ++i) values[i - begin] = rest[i][at];
    if (const int32_t kept = protected_place_[size_t(neuron)]; kept >= 0) {
      for (int64_t i = begin; i < end; ++i) {
        const bf16 weight = to_bf16(values[i - begin]);
        out_.protected_row_weights[size_t(kept * out_.inputs + i)] = weight;
        stored[i - begin] = to_f32(weight);
      }
      return;
    }
    const GroupGrid grid = out_.new_grid(values, end - begin);
    out_.set_grid(size_t(neuron * out_.groups() + begin / kGroup), grid);
    for (int64_t i = begin; i < end; ++i) {
      const int code = grid.code(values[i - begin]);
      if (code != 0) out_.set_code(neuron, i, code);
      stored[i - begin] = grid.value(code);
    }
  }

 private:
  LowBitRows& out_;
  const std::vector<int32_t>& order_;
  std::vector<int32_t> protected_place_;  // of a neuron among the protected ones
};

}  // namespace

LowBitRows gptq_by_neuron(Context& ctx, MatrixView<const float> w, const std::vector<double>& neuron_moment, int bits,
                          bool activation_order, std::vector<int32_t> protected_neurons, bool planes) {
  LowBitRows out(bits, w.rows, w.cols, planes);
  out.protected_rows = std::move(protected_neurons);
  out.protected_row_weights.resize(out.protected_rows.size() * size_t(w.cols));
  const std::vector<int32_t> order =
      activation_order ? order_by_activation(neuron_moment, w.rows) : natural_order(w.rows);
  NeuronRounding rounding(out, order);
  gptq_columns(ctx, transposed(w).view(), neuron_moment, order, kGroup, rounding);
  return out;
}

}  // namespace pleat
