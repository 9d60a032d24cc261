#include "core/engine/device/device_step.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "core/engine/device/device_state.h"
#include "kernels/cuda/embedding.h"

namespace pleat {

namespace {

// CUDA lets some thousand launches wait and then holds the host, where no deadline is.
constexpr int kLayersAhead = 16;

int power_of_two_from(int n) { return int(std::bit_ceil(unsigned(n))); }

}  // namespace

void DeviceStep::State::order_rows(const StepPlan& step_plan) {
  ordered.clear();
  result_of.assign(step_plan.rows.size(), -1);
  for (const bool folded : {false, true})
    for (size_t i = 0; i < step_plan.rows.size(); ++i)
      if ((step_plan.rows[i].folded != 0) == folded) ordered.push_back(int32_t(i));
  int32_t results = 0;
  for (size_t i = 0; i < step_plan.rows.size() && step_plan.logits != LogitsMode::none; ++i)
    if (step_plan.rows[i].wants_logits) result_of[i] = results++;
  logits.resize(asks_for_logits(step_plan.logits) ? size_t(results) * size_t(vocab) : 0);
  best.resize(step_plan.logits == LogitsMode::argmax ? size_t(results) : 0);
  candidates.resize(asks_for_candidates(step_plan.logits) ? size_t(results) : 0);
}

void DeviceStep::State::lay_out_rows(const StepPlan& step_plan, size_t begin, std::span<const int32_t> rows) {
  const int count = int(rows.size());
  int positions = 0;
  for (const int32_t row : rows) positions = std::max(positions, step_plan.rows[size_t(row)].position + 1);
  PLEAT_ASSERT(positions <= most_pages * kPageTokens, positions, " positions in ", most_pages, " pages");
  const bool prompt = step_plan.rows[size_t(rows[0])].folded == 0;
  shape = {prompt ? count : power_of_two_from(count),
           std::min(most_pages, power_of_two_from((positions + kPageTokens - 1) / kPageTokens)), prompt,
           std::ranges::any_of(rows, [&](int32_t row) { return result_of[size_t(row)] >= 0; }) ? step_plan.logits
                                                                                               : LogitsMode::none};
  const auto put = [&](RowsUpload::Part part, int row, int32_t value) {
    host_rows[upload.at(part) + size_t(row)] = value;
  };
  // Rows of one sequence stand together and have one page table.
  int32_t* const tables = &host_rows[upload.at(RowsUpload::page_tables)];
  int table = -1, sequence = -1;
  for (int i = 0; i < shape.rows; ++i) {
    const StepRow& row = step_plan.rows[size_t(rows[size_t(std::min(i, count - 1))])];
    if (row.sequence != sequence) {
      sequence = row.sequence;
      const std::vector<int32_t>& pages = step_plan.page_tables[size_t(sequence)];
      const size_t used = std::min(pages.size(), size_t(shape.table_pages));
      int32_t* const to = tables + ++table * shape.table_pages;
      std::copy_n(pages.begin(), used, to);
      std::fill(to + used, to + shape.table_pages, 0);
    }
    put(RowsUpload::tokens, i, row.token);
    put(RowsUpload::positions, i, row.position);
    put(RowsUpload::table_of, i, table);
    put(RowsUpload::slots, i, step_plan.slots[size_t(sequence)]);
    put(RowsUpload::ends, i, row.prompt_end);
    put(RowsUpload::observed, i, i < count && key_channels->observes(int64_t(begin) + i));
  }
  const int table_count = prompt ? table + 1 : shape.rows;  // of generated tokens as many as there can be
  upload_words = upload.at(RowsUpload::page_tables) + size_t(table_count * shape.table_pages);
}

cuda::Norm DeviceStep::State::rule(const DeviceNorm& norm) const {
  return {norm.weight.data(), norm.bias.data(), blueprint.norm_epsilon, blueprint.norm == NormKind::layer_norm};
}

// The vocabulary is split: a token's rank contributes its row, rank 0 the position's. Where embeddings have a width of
// their own, every rank projects their sum and adds the positions.
void DeviceStep::State::embed() {
  const cuda::Rows table = (blueprint.tied_head ? weights.head : weights.token_embedding).view();
  const cuda::PositionEmbedding learned{weights.position_embedding.view(), int(blueprint.position_offset)};
  const cuda::TokenEmbedding of_tokens{table, int(plan.vocab(rank).begin), blueprint.embedding_scale};
  const bool projects = e != d, has_positions = rank == 0 && !projects;
  const DeviceVector& embedded = projects ? of_embeddings : residual;
  cuda::embed(handle(), shape.rows, e, uploaded(RowsUpload::tokens), of_tokens, uploaded(RowsUpload::positions),
              has_positions ? learned : cuda::PositionEmbedding(), embedded.data());
  sum->all_reduce(handle(), "embedding", embedding_exchange, shape.rows, e, embedded.data(), embedded.data());
  if (projects) {
    multiply(embedded, e, {{weights.embedding_input.view(), nullptr, residual.data(), d}});
    cuda::embed(handle(), shape.rows, d, uploaded(RowsUpload::tokens), {}, uploaded(RowsUpload::positions), learned,
                normed.data());
    cuda::add_norm(handle(), shape.rows, d, {normed.data()}, {}, residual.data(), normed.data());
  }
  if (weights.embedding_norm.weight.size() > 0)
    cuda::add_norm(handle(), shape.rows, d, {}, rule(weights.embedding_norm), residual.data(), residual.data());
}

void DeviceStep::State::normalise(const DeviceNorm& norm) {
  cuda::add_norm(handle(), shape.rows, d, {}, rule(norm), residual.data(), normed.data());
}

// residual += the sum + bias, or its norm where the model has one for a sub-layer's output; normed = norm(residual).
void DeviceStep::State::add(const char* name, const TreeExchange& exchange, const float* mine, const float* bias,
                            const DeviceNorm& of_output, const DeviceNorm& next) {
  if (of_output.weight.size() == 0)
    return sum->all_reduce_add_norm(handle(), name, exchange, shape.rows, d, mine, bias, rule(next), residual.data(),
                                    normed.data());
  sum->all_reduce(handle(), name, exchange, shape.rows, d, mine, normed.data());
  cuda::add_normed(handle(), shape.rows, d, normed.data(), bias, rule(of_output), rule(next), residual.data(),
                   normed.data());
}

// Where norms stand behind the sub-layers, what is normalised is the residual stream too.
void DeviceStep::State::keep_normed() {
  if (blueprint.norm_place == NormPlace::before) return;
  cuda::copy_on_device(residual.data(), normed.data(), size_t(shape.rows) * size_t(d) * sizeof(float), handle());
}

void DeviceStep::State::add_attention(const DeviceLayer& layer) {
  add("attention", plan.attention_exchange(), nodes.data(), layer.biases.attention.data(), layer.attention.output_norm,
      blueprint.norm_place == NormPlace::before ? layer.ffn_norm : layer.attention_norm);
  keep_normed();
}

void DeviceStep::State::add_ffn(const DeviceLayer& layer, const DeviceNorm& next, bool folded) {
  add("ffn", plan.ffn_exchange(), ffn_nodes(), (folded ? layer.biases.folded : layer.biases.dense).data(),
      layer.ffn.output_norm, blueprint.norm_place == NormPlace::before ? next : layer.ffn_norm);
  keep_normed();
}

// Attention's and the FFN's outputs in one all-reduce.
void DeviceStep::State::add_both(const DeviceLayer& layer, const DeviceNorm& next, bool folded) {
  sum->all_reduce_add_norm(handle(), "attention and ffn", joint_exchange, shape.rows, d, nodes.data(),
                           (folded ? layer.biases.folded : layer.biases.dense).data(), rule(next), residual.data(),
                           normed.data());
}

void DeviceStep::State::layers(int64_t step, bool waits) {
  embed();
  const bool norm_first = blueprint.norm_place == NormPlace::before;
  const DeviceNorm none;
  normalise(norm_first ? weights.layers[0].attention_norm : none);
  mark(EngineStatistics::other);
  for (int index = 0; index < blueprint.layers; ++index) {
    const DeviceLayer& layer = weights.layers[size_t(index)];
    const DeviceNorm& next =
        index + 1 < blueprint.layers ? weights.layers[size_t(index) + 1].attention_norm : weights.final_norm;
    const bool folded = runs_folded(layer, shape.prompt);
    communicator.at(step, index);
    attend(index);
    mark(EngineStatistics::attention);
    if (!blueprint.parallel_residual) {
      add_attention(layer);
      mark(EngineStatistics::collective);
      ffn(layer, folded);
      add_ffn(layer, next, folded);
    } else {
      if (layer.ffn_norm.weight.size() > 0) normalise(layer.ffn_norm), mark(EngineStatistics::other);
      ffn(layer, folded);
      add_both(layer, next, folded);
    }
    mark(EngineStatistics::collective);
    if (waits && index % kLayersAhead == kLayersAhead - 1) sum->wait(stream);
  }
  if (!norm_first) normalise(weights.final_norm);
  communicator.at(step, -1);
}

// A prompt's results are found kMaxRows rows at a time, where they are wanted.
void DeviceStep::State::enqueue(int64_t step, bool waits) {
  if (measures_phases) marks->begin(stream);
  device_rows.copy_from(std::span(host_rows.data(), upload_words), stream);
  layers(step, waits);
  if (!shape.prompt) find_results(0, shape.rows);
  mark(EngineStatistics::head);
}

// Few prompts have the shape of another.
bool DeviceStep::State::may_be_captured() const {
  return sum->in_stream_order() && !shape.prompt && !key_channels->chooses();
}

void DeviceStep::State::run(int64_t step) {
  marks = &uncaptured_marks;
  if (!may_be_captured()) return enqueue(step, true);
  const auto [known, is_new] = captured.try_emplace(shape);
  CapturedPass& mine = known->second;
  marks = &mine.marks;
  if (!is_new && !mine.graph && !mine.has_no_room) capture(mine, step);
  mine.graph ? mine.graph->launch(stream) : enqueue(step, true);
}

// Ranks go on together: to make a graph may wait for kernels of the device, which wait for another rank.
void DeviceStep::State::capture(CapturedPass& pass, int64_t step) {
  pass.graph = std::make_unique<cuda::Graph>(stream, [&] { enqueue(step, false); });
  const int64_t first = communicator.agree_min("graph", pass.graph->has_room() ? communicator.ranks() : rank);
  pass.has_no_room = first < communicator.ranks();
  if (!pass.has_no_room) return;
  pass.graph.reset();
  if (rank == first)
    std::fprintf(
        stderr,
        "pleat: rank %d: its device has no memory for one more graph: steps of %d rows and %d pages run slower\n", rank,
        shape.rows, shape.table_pages);
}

void DeviceStep::State::pass(const StepPlan& step_plan, size_t begin, std::span<const int32_t> rows) {
  lay_out_rows(step_plan, begin, rows);
  key_channels->begin_pass(int64_t(begin), int64_t(rows.size()));
  run(step_plan.step);
  read_results(rows);
  if (measures_phases) marks->add_to(phase_seconds);
}

DeviceStep::DeviceStep(const Blueprint& blueprint, DeviceWeights weights, const ShardPlan& plan,
                       Communicator& communicator, const EngineOptions& options)
    : state_(std::make_unique<State>(blueprint, std::move(weights), plan, communicator, options)) {}
DeviceStep::~DeviceStep() = default;

void DeviceStep::step(const StepPlan& plan) {
  State& s = *state_;
  s.order_rows(plan);
  s.passes[0] = s.passes[1] = 0;
  s.phase_seconds = {};
  const auto folded = [&](size_t i) { return plan.rows[size_t(s.ordered[i])].folded != 0; };
  s.key_channels->plan_step(plan, s.ordered);
  for (const KeyChannels::Run& run : s.key_channels->runs()) {
    s.key_channels->cut(run, s.caches, s.handle());
    const size_t run_end = size_t(run.begin + run.count);
    for (size_t begin = size_t(run.begin), end = begin; begin < run_end; begin = end) {
      const size_t most = size_t(s.most_rows(folded(begin)));
      while (end < run_end && end - begin < most && folded(end) == folded(begin)) ++end;
      ++s.passes[folded(begin)];
      s.pass(plan, begin, std::span(s.ordered).subspan(begin, end - begin));
    }
  }
}

MatrixView<const float> DeviceStep::logits() const {
  return {state_->logits.data(), int64_t(state_->logits.size()) / state_->vocab, state_->vocab};
}

std::span<const TokenCandidate> DeviceStep::best() const { return state_->best; }
int64_t DeviceStep::kv_pages() const { return state_->kv_pages; }
PhaseSeconds DeviceStep::phase_seconds() const { return state_->phase_seconds; }
std::span<const RowCandidates> DeviceStep::candidates() const { return state_->candidates; }

}  // namespace pleat
