// A pass's products, and its attention.
#include <algorithm>

#include "core/engine/device/device_state.h"
#include "kernels/attention.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/prefill_attention.h"

namespace pleat {

cuda::RowInput DeviceStep::State::input(const float* x, int rows, int width, const cuda::Rows& w) {
  if (w.bits > 8) return cuda::RowInput::of_floats(x, rows, width);
  return quantisers.at(width).quantise(handle(), x, rows, w.protected_inputs, w.protected_input_count);
}

cuda::RowInput DeviceStep::State::input(const DeviceVector& x, int width, const cuda::Rows& w) {
  return input(x.data(), shape.rows, width, w);
}

void DeviceStep::State::multiply(const DeviceVector& x, int width, std::initializer_list<cuda::RowProduct> products,
                                 int64_t all_outputs) {
  if (!shape.prompt) {
    const auto low = std::ranges::find_if(products, [](const cuda::RowProduct& p) { return p.w.bits <= 8; });
    return cuda::multiply_rows(handle(), input(x, width, (low != products.end() ? low : products.begin())->w),
                               products);
  }
  cuda::GemmInput prepared;
  for (const cuda::RowProduct& product : products) {
    if (product.w.rows == 0) continue;
    const MatrixView<const float> of(x.data() + product.first_input, shape.rows, product.w.width, width);
    const cuda::Rows w = product.w.planes ? widened.widen(handle(), product.w) : product.w;
    const bool is_there =
        prepared.bits == 16 && w.bits == 16 && prepared.x.data == of.data && prepared.x.cols == of.cols;
    if (!is_there) prepared = many_rows.prepare(handle(), of, w);
    cuda::GemmProduct out{w, product.bias, product.activation, {product.y, shape.rows, w.rows, product.y_stride}};
    if (is_for_library(product, all_outputs)) {
      library->gemm_by_one_algorithm(handle(), prepared, out, int(all_outputs));
      continue;
    }
    out.leaves = product.leaves;
    out.work = gemm_work.data();
    cuda::gemm(handle(), prepared, out);
  }
}

bool DeviceStep::State::is_for_library(const cuda::RowProduct& product, int64_t all_outputs) const {
  const bool is_whole = product.leaves.count == 0 || plan.reduction() == Reduction::fast;
  return library != nullptr && product.w.bits == 16 && is_whole && all_outputs > 0 && product.y_stride % 4 == 0;
}

void DeviceStep::State::load_library() {
  const auto has_bf16 = [](const DeviceLayer& layer) {
    return layer.attention.query_key_value.view().bits == 16 || layer.ffn.up.view().bits == 16;
  };
  const bool wanted = std::ranges::any_of(weights.layers, has_bf16);
  bool works = wanted && cuda::has_blas_lt();
  if (works) works = run_library();
  if (communicator.agree_min("cuBLASLt", works) == 0) library.reset();
}

// All products that it is for, of one row. False: of one of them it has none.
bool DeviceStep::State::run_library() try {
  library = std::make_unique<cuda::BlasLt>();
  cuda::zero(normed.data(), size_t(d) * sizeof(float), handle());
  cuda::zero(attended.data(), size_t(q_width) * sizeof(float), handle());
  shape.rows = 1;
  shape.prompt = true;
  for (const DeviceLayer& layer : weights.layers) {
    multiply_queries_keys_values(layer.attention);
    project_attended(layer.attention);
    activations(layer);
    project_neurons(layer);
  }
  return true;
} catch (const Error&) {
  return false;
}

void DeviceStep::State::multiply_queries_keys_values(const DeviceAttention& attention) {
  const int width = q_width + 2 * kv_width, head_size = blueprint.head_size;
  multiply(normed, d,
           {{attention.query_key_value.view(), attention.query_key_value_bias.data(), query_key_value.data(), width}},
           all_outputs(int64_t(blueprint.heads + 2 * blueprint.kv_heads) * head_size, head_size));
}

AttentionScores DeviceStep::State::scores(int layer) const {
  AttentionScores scores;
  scores.scale = blueprint.attention_scale;
  scores.soft_cap = blueprint.attention_soft_cap;
  scores.window = blueprint.attention[size_t(layer)].window;
  if (blueprint.positions == PositionKind::alibi) {
    scores.slopes = slopes.data();
    scores.slope_scale = blueprint.alibi_scale;
    scores.bias_in_bf16 = blueprint.alibi_in_bf16;
  }
  return scores;
}

void DeviceStep::State::choose_key_channels(int index) {
  const auto table_of = [&](int64_t row) {
    const int table = host_rows[upload.at(RowsUpload::table_of) + size_t(row)];
    return uploaded(RowsUpload::page_tables) + table * shape.table_pages;
  };
  key_channels->choose(index, caches[size_t(index)], table_of, communicator, *sum, stream);
}

void DeviceStep::State::attend(int index) {
  if (q_width == 0) return choose_key_channels(index);
  const DeviceAttention& a = weights.layers[size_t(index)].attention;
  const int width = q_width + 2 * kv_width, head_size = blueprint.head_size;
  const cuda::PagedRows paged{shape.rows, uploaded(RowsUpload::positions), uploaded(RowsUpload::table_of),
                              uploaded(RowsUpload::page_tables), shape.table_pages};
  multiply_queries_keys_values(a);
  const auto columns = [&](int begin, int count) {
    return MatrixView<float>(query_key_value.data() + begin, shape.rows, count, width);
  };
  const MatrixView<float> q = columns(0, q_width), k = columns(q_width, kv_width);
  if (a.query_norm.weight.size() > 0)
    cuda::norm_heads(handle(), shape.rows, q_width / head_size, head_size, rule(a.query_norm), q.data, width);
  if (a.key_norm.weight.size() > 0)
    cuda::norm_heads(handle(), shape.rows, kv_width / head_size, head_size, rule(a.key_norm), k.data, width);
  const int kind = blueprint.attention[size_t(index)].rotary;
  const bool rotates = blueprint.positions == PositionKind::rotary && kind >= 0;
  const KvCache& cache = caches[size_t(index)];
  cuda::append_kv(handle(), rotates ? rotaries[size_t(kind)].rule : cuda::DeviceRotary{}, q, k,
                  columns(q_width + kv_width, kv_width), paged, cache);
  key_channels->observe(index, q,
                        {uploaded(RowsUpload::positions), uploaded(RowsUpload::slots), uploaded(RowsUpload::observed)},
                        handle());
  choose_key_channels(index);
  const MatrixView<float> out(attended.data(), shape.rows, q_width);
  if (shape.prompt)
    cuda::prefill_attention(handle(), q, paged, cache, kv_of_head, scores(index), attention_work.data(), out);
  else
    cuda::attention(handle(), q, paged, cache, kv_of_head, scores(index),
                    std::min(shape.table_pages * kPageTokens, int(blueprint.max_positions)), attention_work.data(),
                    out);
  project_attended(a);
}

void DeviceStep::State::project_attended(const DeviceAttention& attention) {
  if (q_width == 0) return;
  multiply(attended, q_width, {{attention.output.view(), nullptr, nodes.data(), d, weights.heads.view()}},
           all_outputs(d, d));
}

}  // namespace pleat
