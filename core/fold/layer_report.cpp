#include "core/fold/layer_report.h"

#include "core/fold/sample_rows.h"
#include "core/fold/selected_lines.h"

namespace pleat {
namespace {

constexpr int64_t kMeasuredRows = 4096;

// Mean size of the union of the sets of `batch` rows that stand far apart in the text, so that they share no context.
double mean_union(const std::vector<uint8_t>& selected, int64_t rows, int64_t h, int64_t batch) {
  const int64_t groups = rows / batch;
  if (groups == 0) return 0;
  int64_t total = 0;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t n = 0; n < h; ++n) {
      bool any = false;
      for (int64_t i = 0; i < batch && !any; ++i) any = selected[size_t((group + i * groups) * h + n)];
      total += any;
    }
  }
  return double(total) / double(groups);
}

// Which inputs some rows see [rows, d]; empty where they see all.
std::vector<uint8_t> seen_inputs(const FoldedLayer& layer, const Table& x, const std::vector<int64_t>& rows) {
  std::vector<uint8_t> out;
  if (!layer.spec().cuts_inputs) return out;
  const Table cut = cut_inputs(x.view(), layer.input_threshold());
  for (const int64_t row : rows)
    for (int64_t i = 0; i < cut.cols; ++i) out.push_back(cut[row][i] != 0);
  return out;
}

struct Distance {
  double squared = 0, energy = 0;
};

// Over some rows.
Distance distance(const Table& from, const Table& y, const std::vector<int64_t>& rows) {
  Distance out;
  for (const int64_t row : rows) {
    for (int64_t i = 0; i < y.cols; ++i) {
      const double difference = double(y[row][i]) - from[row][i];
      out.squared += difference * difference;
      out.energy += double(from[row][i]) * from[row][i];
    }
  }
  return out;
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace

LayerMeasurement measure_layer(Context& ctx, const FoldedLayer& layer, const Table& sample, const Table& wanted,
                               const FfnBytes& bytes, int64_t dense_neurons) {
  const bool prompts = by_prompt(layer.spec().selection);
  const std::vector<int64_t> taken =
      prompts ? spread_blocks(sample.rows, kMeasuredRows, kSampleBlocks.rows) : spread_rows(sample.rows, kMeasuredRows);
  const Table x = rows_of(sample, taken), dense = rows_of(wanted, taken);
  const RowBlocks blocks = prompts ? kSampleBlocks : RowBlocks{0, 0};
  const FoldedLayer::Neurons neurons = layer.neurons(ctx, x.view(), blocks);
  std::vector<int64_t> generated;  // rows that are not of a prompt
  for (int64_t row = 0; row < x.rows; ++row)
    if (!prompts || row % blocks.rows >= blocks.prompt) generated.push_back(row);
  const int64_t rows = int64_t(generated.size()), h = neurons.up.cols;
  LayerMeasurement out;
  LayerReport& report = out.report;

  std::vector<uint8_t> selected(size_t(rows * h));
  out.frequency.resize(size_t(h));
  int64_t found = 0, outside = 0, both = 0;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t n = 0; n < h; ++n) {
      const int64_t row = generated[size_t(i)];
      const bool is_found = neurons.is_selected(row, n), is_outside = neurons.is_wanted(row, n);
      selected[size_t(i * h + n)] = is_found;
      out.frequency[size_t(n)] += is_found;
      found += is_found, outside += is_outside, both += is_found && is_outside;
    }
  }
  for (double& frequency : out.frequency) frequency /= double(rows);
  report.coverage = 1 - double(outside) / double(rows * dense_neurons);
  report.fallback = double(found) / double(rows * dense_neurons);
  report.recall = outside > 0 ? double(both) / double(outside) : 1;
  report.precision = found > 0 ? double(both) / double(found) : 1;

  const auto error = [&](FfnForm form) {
    const Distance d = distance(dense, layer.output(ctx, form, x.view(), neurons), generated);
    out.output_energy = d.energy;
    return ratio(d.squared, d.energy);
  };
  report.error = error(FfnForm::folded);
  report.error_alone = error(FfnForm::alone);
  report.error_dropped = error(FfnForm::dropped);

  const std::vector<uint8_t> seen = seen_inputs(layer, x, generated);
  if (!seen.empty()) report.inputs = mean_union(seen, rows, x.cols, 1) / double(x.cols);
  for (size_t i = 0; i < kReportBatches.size(); ++i) {
    report.read[i] = double(bytes.fixed) + mean_union(selected, rows, h, kReportBatches[i]) * double(bytes.per_neuron);
    if (!seen.empty()) report.read[i] += mean_union(seen, rows, x.cols, kReportBatches[i]) * double(bytes.per_input);
  }
  report.stored = double(bytes.stored);
  report.dense = double(bytes.dense);
  return out;
}

LayerReport total_of(const std::vector<LayerMeasurement>& layers) {
  LayerReport out;
  out.inputs = 0;
  double energy = 0;
  const double count = double(layers.size());
  for (const LayerMeasurement& layer : layers) {
    const LayerReport& report = layer.report;
    out.weight += report.weight / count;
    out.coverage += report.coverage / count;
    out.fallback += report.fallback / count;
    out.inputs += report.inputs / count;
    out.recall += report.recall * (1 - report.coverage);
    out.precision += report.precision * report.fallback;
    out.error += report.error * layer.output_energy;
    out.error_alone += report.error_alone * layer.output_energy;
    out.error_dropped += report.error_dropped * layer.output_energy;
    energy += layer.output_energy;
    for (size_t i = 0; i < out.read.size(); ++i) out.read[i] += report.read[i];
    out.stored += report.stored;
    out.dense += report.dense;
  }
  out.recall = out.coverage < 1 ? out.recall / (count * (1 - out.coverage)) : 1;
  out.precision = out.fallback > 0 ? out.precision / (count * out.fallback) : 1;
  for (double* error : {&out.error, &out.error_alone, &out.error_dropped}) *error = ratio(*error, energy);
  return out;
}

}  // namespace pleat
