// What goes over a step's rows once: norms, activations, embeddings, the head's candidates, sums of leaves.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/candidates.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/gathered_sum.h"
#include "kernels/cuda/leaves.h"
#include "kernels/cuda/norm.h"
#include "lab_matrix.h"

namespace pleat::lab {
namespace {

std::string compare_all(const std::vector<float>& got, const std::vector<double>& expected, double tolerance) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (!(std::fabs(got[i] - expected[i]) <= tolerance * std::max(1.0, std::fabs(expected[i]))))
      return concat("element ", i, " is ", got[i], ", expected ", expected[i]);
  return "";
}

void norm(Lab& lab, int rows, int d) {
  const std::vector<float> x = random_values(size_t(rows * d), 1), weight = random_values(size_t(d), 2);
  const cuda::DeviceArray<float> residual(x, lab.stream()), device_weight(weight, lab.stream()), y(x.size());
  lab.measure(
      {.kernel = "add_norm",
       .shape = concat("[", rows, ", ", d, "]"),
       .bytes = 4.0 * d * (2 * rows + 1),
       .check =
           [&] {
             std::vector<double> expected;
             double mean = 0, squares = 0;
             for (int i = 0; i < d; ++i) mean += double(x[size_t(i)]) / d;
             for (int i = 0; i < d; ++i) squares += std::pow(x[size_t(i)] - mean, 2) / d;
             for (int i = 0; i < d; ++i)
               expected.push_back((x[size_t(i)] - mean) / std::sqrt(squares + 1e-5) * weight[size_t(i)]);
             return compare_all(y.to_host(lab.stream()), expected, 1e-5);
           },
       .call = [&](cuda::StreamHandle stream,
                   int) { cuda::add_norm(stream, rows, d, {}, {device_weight.data()}, residual.data(), y.data()); }});
}

void activations(Lab& lab, int rows, int neurons) {
  const std::vector<float> g = random_values(size_t(rows * neurons), 1), u = random_values(g.size(), 2);
  const cuda::DeviceArray<float> gate(g, lab.stream());
  cuda::DeviceArray<float> up(u, lab.stream());
  bool first = true;
  lab.measure(
      {.kernel = "activate_gated",
       .shape = concat("[", rows, ", ", neurons, "]"),
       .bytes = 12.0 * double(g.size()),
       .check =
           [&] {
             std::vector<double> expected;
             for (size_t i = 0; i < g.size(); ++i) expected.push_back(g[i] / (1 + std::exp(-double(g[i]))) * u[i]);
             return compare_all(up.to_host(lab.stream()), expected, 1e-5);
           },
       .call =
           [&](cuda::StreamHandle stream, int) {
             if (first) up.copy_from(u, lab.stream());
             first = false;
             cuda::activate_gated(stream, Activation::silu, {gate.data(), rows, neurons}, {up.data(), rows, neurons});
           }});
}

void embedding(Lab& lab, int rows, int vocab, int d) {
  const Matrix table(lab, WeightFormat::bf16, vocab, d, 1);
  std::vector<int32_t> tokens;
  for (int row = 0; row < rows; ++row) tokens.push_back(int32_t(int64_t(row + 1) * 7919 % vocab));
  const cuda::DeviceArray<int32_t> device_tokens(tokens, lab.stream());
  const cuda::DeviceArray<float> out(size_t(rows * d));
  lab.measure({.kernel = "embed",
               .shape = concat(rows, " of [", vocab, ", ", d, "]"),
               .bytes = 6.0 * rows * d,
               .check =
                   [&] {
                     const std::vector<float> last = table.row(tokens.back());
                     const std::vector<float> got = out.to_host(lab.stream());
                     return std::equal(last.begin(), last.end(), got.end() - d) ? "" : "the last row is another";
                   },
               .call =
                   [&](cuda::StreamHandle stream, int call) {
                     cuda::embed(stream, rows, d, device_tokens.data(), {table.on_device(call)}, nullptr, {},
                                 out.data());
                   }});
}

void candidates(Lab& lab, int rows, int vocab, int k) {
  const std::vector<float> logits = random_values(size_t(rows * vocab), 1, 10);
  const cuda::DeviceArray<float> device_logits(logits, lab.stream());
  const cuda::DeviceArray<cuda::Candidate> best(size_t(rows * k));
  const cuda::DeviceArray<cuda::LogitSum> sums(static_cast<size_t>(rows));
  cuda::CandidateFinder finder(rows, 0, vocab, 0);
  lab.measure({.kernel = "CandidateFinder::find",
               .shape = concat("the best ", k, " of [", rows, ", ", vocab, "]"),
               .bytes = 4.0 * double(logits.size()),
               .check =
                   [&] {
                     const std::vector<cuda::Candidate> got = best.to_host(lab.stream());
                     for (int row = 0; row < rows; ++row) {
                       const auto begin = logits.begin() + int64_t(row) * vocab;
                       const auto highest = std::max_element(begin, begin + vocab);
                       if (got[size_t(row * k)] != cuda::Candidate{*highest, int32_t(highest - begin)})
                         return concat("row ", row, "'s best is ", got[size_t(row * k)].token);
                     }
                     return std::string();
                   },
               .call = [&](cuda::StreamHandle stream,
                           int) { finder.find(stream, rows, k, device_logits.data(), best.data(), sums.data()); }});
}

void leaf_sums(Lab& lab, int rows, int d, int leaf_count) {
  const std::vector<float> values = random_values(size_t(leaf_count) * size_t(rows * d), 1);
  std::vector<int32_t> offsets;
  for (int leaf = 0; leaf <= leaf_count; ++leaf) offsets.push_back(leaf);
  const cuda::DeviceLeaves leaves(offsets, std::vector<TreeNode>{{0, leaf_count}}, 0, lab.stream());
  const cuda::DeviceArray<float> parts(values, lab.stream()), node(size_t(rows * d));
  lab.measure(
      {.kernel = "sum_leaves",
       .shape = concat(leaf_count, " of [", rows, ", ", d, "]"),
       .bytes = 4.0 * double(values.size() + node.size()),
       .check =
           [&] {
             std::vector<double> expected(node.size());
             for (size_t i = 0; i < values.size(); ++i) expected[i % expected.size()] += values[i];
             return compare_all(node.to_host(lab.stream()), expected, 1e-5);
           },
       .call = [&](cuda::StreamHandle stream,
                   int) { cuda::sum_leaves(stream, leaves.view(), nullptr, parts.data(), rows * d, node.data()); }});
}

void gathered(Lab& lab, int ranks, int rows, int d) {
  const std::vector<float> values = random_values(size_t(ranks) * size_t(rows * d), 1);
  const cuda::DeviceArray<float> all(values, lab.stream()), out(size_t(rows * d));
  lab.measure({.kernel = "sum_gathered",
               .shape = concat(ranks, " of [", rows, ", ", d, "]"),
               .bytes = 4.0 * double(values.size() + out.size()),
               .check =
                   [&] {
                     std::vector<double> expected(out.size());
                     for (size_t i = 0; i < values.size(); ++i) expected[i % expected.size()] += values[i];
                     return compare_all(out.to_host(lab.stream()), expected, 1e-5);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     cuda::sum_gathered(stream, cuda::SumOrder::by_rank(ranks), rows, d, all.data(), out.data());
                   }});
}

void heads(Lab& lab, int rows, int count, int head_size) {
  const std::vector<float> values = random_values(size_t(rows * count * head_size), 1),
                           weight = random_values(size_t(head_size), 2);
  const cuda::DeviceArray<float> device_weight(weight, lab.stream());
  cuda::DeviceArray<float> x(values, lab.stream());
  bool first = true;
  lab.measure({.kernel = "norm_heads",
               .shape = concat("[", rows, ", ", count, " x ", head_size, "]"),
               .bytes = 8.0 * double(values.size()),
               .check =
                   [&] {
                     std::vector<double> expected;
                     double squares = 0;
                     for (int i = 0; i < head_size; ++i) squares += std::pow(values[size_t(i)], 2) / head_size;
                     for (int i = 0; i < head_size; ++i)
                       expected.push_back(values[size_t(i)] / std::sqrt(squares + 1e-5) * weight[size_t(i)]);
                     return compare_all(x.to_host(lab.stream()), expected, 1e-5);
                   },
               .call =
                   [&](cuda::StreamHandle stream, int) {
                     if (first) x.copy_from(values, lab.stream());
                     first = false;
                     cuda::norm_heads(stream, rows, count, head_size, {device_weight.data(), nullptr, 1e-5f, false},
                                      x.data(), count * head_size);
                   }});
}

}  // namespace

void rows(Lab& lab) {
  const int d = lab.size(4096, 300), vocab = lab.size(128256, 2000);
  for (const int count : {1, 16, lab.size(512, 20)}) norm(lab, count, d);
  for (const int count : {1, lab.size(512, 20)}) activations(lab, count, lab.size(14336, 100));
  for (const int count : {1, 16}) embedding(lab, count, vocab, d);
  for (const int count : {1, lab.size(16, 3)})
    for (const int k : {1, 40}) candidates(lab, count, vocab, k);
  leaf_sums(lab, lab.size(16, 2), d, 32);
  gathered(lab, 8, lab.size(16, 2), d);
  heads(lab, lab.size(16, 2), 32, lab.size(128, 36));
}

}  // namespace pleat::lab
