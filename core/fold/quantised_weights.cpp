#include "core/fold/quantised_weights.h"

namespace pleat {
namespace {

void append_numbers(const std::string& name, const LowBitRows& rows, std::vector<NewTensor>& tensors) {
  const std::vector<int64_t> groups = {rows.rows, rows.groups()};
  tensors.push_back({name + ".scale", DType::bf16, groups, rows.scale.data()});
  if (rows.bits < 8) tensors.push_back({name + ".minimum", DType::bf16, groups, rows.minimum.data()});
  if (!rows.plane_scales.empty())
    tensors.push_back(
        {name + ".row_scales", DType::u8, {rows.rows, rows.groups() * rows.bits}, rows.plane_scales.data()});
}

void append_numbers(const std::string& name, const PlaneRows& rows, std::vector<NewTensor>& tensors) {
  const char* const scales = rows.kind == PlaneScales::column ? ".column_scales" : ".block_scales";
  tensors.push_back({name + scales, DType::u8, {rows.scale_rows(), rows.scale_bytes()}, rows.scales.data()});
  const int64_t output_groups = int64_t(rows.exponents.size()) / rows.groups();
  tensors.push_back({name + ".exponents", DType::i8, {output_groups, rows.groups()}, rows.exponents.data()});
}

size_t number_bytes(const LowBitRows& rows) {
  return 2 * (rows.scale.size() + rows.minimum.size()) + rows.plane_scales.size();
}
size_t number_bytes(const PlaneRows& rows) { return rows.scales.size() + rows.exponents.size(); }

// sum over rows of e H e^T; H the identity where empty.
double quadratic(Context& ctx, const Table& e, const std::vector<double>& h) {
  Table product = e;
  if (!h.empty()) {
    Table moment(e.cols, e.cols);
    for (size_t i = 0; i < h.size(); ++i) moment.data[i] = float(h[i]);
    product = multiply(ctx, e.view(), moment.view());
  }
  double sum = 0;
  for (size_t i = 0; i < e.data.size(); ++i) sum += double(e.data[i]) * product.data[i];
  return sum;
}

}  // namespace

bool takes_columns_by_activation(WeightFormat format) { return format != WeightFormat::int2; }

QuantisedWeights quantise_weights(Context& ctx, MatrixView<const float> w, const std::vector<double>& second_moment,
                                  WeightFormat format, PlaneScales scales, std::vector<int32_t> protected_inputs) {
  if (has_planes(format))
    return quantise_planes(ctx, w, second_moment, bits_of(format), scales, std::move(protected_inputs));
  return gptq(ctx, w, second_moment, bits_of(format), takes_columns_by_activation(format), std::move(protected_inputs));
}

Table dequantised(const QuantisedWeights& weights) {
  return std::visit(
      [](const auto& rows) {
        Table out(rows.rows, rows.inputs);
        for (int64_t n = 0; n < rows.rows; ++n)
          for (int64_t i = 0; i < rows.inputs; ++i) out[n][i] = rows.value(n, i);
        return out;
      },
      weights);
}

int64_t bytes_of(const QuantisedWeights& weights) {
  return std::visit(
      [](const auto& rows) {
        return int64_t(rows.codes.size() + number_bytes(rows) + 2 * rows.protected_weights.size());
      },
      weights);
}

int64_t protected_count(const QuantisedWeights& weights) {
  if (const auto* rows = std::get_if<LowBitRows>(&weights); rows && !rows->protected_rows.empty())
    return int64_t(rows->protected_rows.size());
  return std::visit([](const auto& rows) { return int64_t(rows.protected_inputs.size()); }, weights);
}

namespace {

template <class Rows>
void append_rows(const std::string& name, const Rows& rows, std::vector<NewTensor>& tensors) {
  tensors.push_back({name + ".codes", DType::u8, {rows.rows, rows.code_bytes()}, rows.codes.data()});
  append_numbers(name, rows, tensors);
  const int64_t kept = int64_t(rows.protected_inputs.size());
  if (kept == 0) return;
  tensors.push_back({name + ".protected", DType::i32, {kept}, rows.protected_inputs.data()});
  tensors.push_back({name + ".protected_weights", DType::bf16, {rows.rows, kept}, rows.protected_weights.data()});
}

}  // namespace

void append_tensors(const std::string& name, const LowBitRows& rows, std::vector<NewTensor>& tensors) {
  append_rows(name, rows, tensors);
  const int64_t kept = int64_t(rows.protected_rows.size());
  if (kept == 0) return;
  tensors.push_back({name + ".protected", DType::i32, {kept}, rows.protected_rows.data()});
  tensors.push_back({name + ".protected_weights", DType::bf16, {kept, rows.inputs}, rows.protected_row_weights.data()});
}

void append_tensors(const std::string& name, const PlaneRows& rows, std::vector<NewTensor>& tensors) {
  append_rows(name, rows, tensors);
}

void append_tensors(const std::string& name, const QuantisedWeights& weights, std::vector<NewTensor>& tensors) {
  std::visit([&](const auto& rows) { append_tensors(name, rows, tensors); }, weights);
}

void OutputError::add(Context& ctx, const Table& w, const QuantisedWeights& weights,
                      const std::vector<double>& second_moment) {
  Table difference = dequantised(weights);
  for (size_t i = 0; i < difference.data.size(); ++i) difference.data[i] = w.data[i] - difference.data[i];
  error += quadratic(ctx, difference, second_moment);
  energy += quadratic(ctx, w, second_moment);
}

}  // namespace pleat
