#include "core/engine/engine.h"

#include <algorithm>

#include "core/engine/engine_state.h"
#include "kernels/check.h"
#include "kernels/context.h"

namespace pleat {
namespace {

std::vector<TreeNode> single_leaves(Range leaves) {
  std::vector<TreeNode> nodes;
  for (int leaf = int(leaves.begin); leaf < leaves.end; ++leaf) nodes.push_back({leaf, leaf + 1});
  return nodes;
}

// Layers that keep some of their neurons are split apart from the others, so a rank may hold more of them.
int64_t most_neurons(const Weights& weights) {
  int64_t most = 0;
  for (const LayerWeights& layer : weights.layers) most = std::max(most, layer.neurons);
  return most;
}

// Leaves of kGroup inputs: their values share a step where the weights are in low bits.
std::vector<int64_t> input_groups(int64_t hidden) {
  std::vector<int64_t> offsets;
  for (int64_t begin = 0; begin < hidden; begin += kGroup) offsets.push_back(begin);
  offsets.push_back(hidden);
  return offsets;
}

}  // namespace

Engine::State::State(const Blueprint& blueprint_, Weights weights_, const ShardPlan& plan_, Communicator& communicator_,
                     Context& context_, const EngineOptions& options_, ExecutorBuilder* builder)
    : blueprint(blueprint_),
      weights(std::move(weights_)),
      plan(plan_),
      communicator(communicator_),
      context(context_),
      options(options_),
      rank(communicator_.rank()),
      d(blueprint.hidden),
      q_width(plan.heads(rank).size() * blueprint.head_size),
      kv_width(plan.kv_heads(rank).size() * blueprint.head_size),
      neurons(most_neurons(weights)),
      attention_nodes(plan.attention_exchange().nodes[size_t(rank)]),
      ffn_nodes(plan.ffn_exchange().nodes[size_t(rank)]),
      ffn_leaves(single_leaves(plan.ffn_leaves(rank))),
      joint_exchange(plan.joint_exchange()),
      embedding_exchange(communicator.ranks(), communicator.ranks()),
      key_channels({blueprint.layers, blueprint.heads, blueprint.kv_heads, blueprint.head_size, options.max_sequences,
                    options.max_rows, options.key_channels},
                   plan, rank),
      sums(builder ? 0 : attention_nodes.size() + ffn_nodes.size(), options.max_rows, d),
      selection(plan.neuron_offsets(rank)),
      inputs(input_groups(d)) {
  for (const LayerWeights& layer : weights.layers) folds |= layer.folded;
  make_room_for_results();
  if (builder)
    run_on(*builder);
  else
    make_work_space(), allocate_cache();
  start_statistics();
}

void Engine::State::lap(EngineStatistics::Phase phase, size_t bytes) {
  const auto now = std::chrono::steady_clock::now();
  statistics.seconds[phase] += std::chrono::duration<double>(now - last_lap).count();
  statistics.bytes[phase] += int64_t(bytes);
  last_lap = now;
}

void Engine::State::order_rows(const StepPlan& step_plan) {
  rows = int64_t(step_plan.rows.size());
  PLEAT_ASSERT(rows > 0 && rows <= options.max_rows, rows, " rows");
  std::vector<int32_t>& place = best;  // free until the logits
  place.resize(size_t(rows));
  ordered.clear();
  const auto folded = [&](const StepRow& row) { return row.folded && folds; };
  for (const bool want_folded : {false, true}) {
    for (size_t i = 0; i < step_plan.rows.size(); ++i) {
      if (folded(step_plan.rows[i]) != want_folded) continue;
      place[i] = int32_t(ordered.size());
      ordered.push_back(step_plan.rows[i]);
    }
    if (!want_folded) dense_rows = int64_t(ordered.size());
  }
  attention_rows.clear();
  for (const StepRow& row : ordered)
    attention_rows.push_back(
        {row.position, step_plan.page_tables[size_t(row.sequence)].data(), 0, step_plan.slots[size_t(row.sequence)]});
  key_channels.plan_step(ordered, attention_rows);
  logit_rows.clear();
  for (size_t i = 0; i < step_plan.rows.size(); ++i)
    if (step_plan.rows[i].wants_logits) logit_rows.push_back(place[i]);
  PLEAT_ASSERT(int64_t(logit_rows.size()) <= options.max_logit_rows, logit_rows.size(), " rows with logits");
}

// x = norm(token embedding + position embedding). The vocabulary is split: one rank contributes a row, the others
// zeros.
void Engine::State::embed() {
  const Range vocab = plan.vocab(rank);
  const int64_t e = blueprint.embedding;
  std::fill_n(sum.begin(), rows * e, 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t token = ordered[size_t(row)].token;
    if (token < vocab.begin || token >= vocab.end) continue;
    float* out = &sum[size_t(row * e)];
    if (blueprint.tied_head)
      weights.head.column(token - vocab.begin, out);
    else
      weights.token_embedding.unpack(token - vocab.begin, out);
  }
  std::vector<float>& embedded = e == d ? x : normed;
  lap(EngineStatistics::other);
  communicator.tree_all_reduce("embedding", embedding_exchange, sum.data(), rows * e, embedded.data());
  lap(EngineStatistics::collective);
  if (blueprint.embedding_scale != 1)
    for (int64_t i = 0; i < rows * e; ++i) embedded[size_t(i)] *= blueprint.embedding_scale;
  if (e != d) matmul(context, view(embedded, e), weights.embedding_input, nullptr, view(x, d));
  for (int64_t row = 0; row < rows && blueprint.positions == PositionKind::learned; ++row) {
    float* position = &normed[0];
    weights.position_embedding.unpack(ordered[size_t(row)].position + blueprint.position_offset, position);
    for (int64_t i = 0; i < d; ++i) x[size_t(row * d + i)] += position[i];
  }
  normalise(weights.embedding_norm, view(x, d), view(x, d));
}

Engine::Engine(const Blueprint& blueprint, Weights weights, const ShardPlan& plan, Communicator& communicator,
               Context& context, const EngineOptions& options, ExecutorBuilder* builder)
    : state_(std::make_unique<State>(blueprint, std::move(weights), plan, communicator, context, options, builder)) {}
Engine::~Engine() = default;

const Blueprint& Engine::blueprint() const { return state_->blueprint; }
int64_t Engine::kv_pages() const { return state_->pages; }
const EngineOptions& Engine::options() const { return state_->options; }
bool Engine::shares_prefixes() const {
  const State& s = *state_;
  return !s.executor && !s.prompt_selection && s.options.key_channels == 1;
}
bool Engine::chooses_by_prompt() const {
  return std::ranges::any_of(state_->weights.layers,
                             [](const LayerShape& layer) { return layer.folded && by_prompt(layer.spec.selection); });
}
bool Engine::gives_candidates() const { return state_->executor != nullptr; }
void Engine::set_ffn_hook(FfnHook* hook) {
  PLEAT_ASSERT(state_->communicator.ranks() == 1, "a hook sees one rank only");
  state_->hook = hook;
}
void Engine::set_observer(StageObserver* observer) { state_->observer = observer; }
const EngineStatistics& Engine::statistics() const { return state_->statistics; }

void Engine::reset_statistics() { state_->start_statistics(); }

void Engine::State::start_statistics() {
  statistics = {};
  for (auto* counts :
       {&statistics.fallback, &statistics.gathered, &statistics.choices, &statistics.needed, &statistics.found})
    counts->resize(size_t(blueprint.layers));
  for (size_t layer = 0; layer < weights.layers.size(); ++layer) {
    const LayerWeights& w = weights.layers[layer];
    const bool fixed = w.spec.selection == SelectionKind::all || w.spec.selection == SelectionKind::hot;
    if (w.folded && !fixed && !executor) statistics.choices[layer] = w.neurons;
  }
}

EngineStatistics::Waits Engine::State::waits_so_far() {
  return {context.team().barriers(), context.team().barrier_seconds(), communicator.ledger().collectives,
          communicator.seconds(),    communicator.wait_seconds(),      communicator.bytes_sent()};
}

void Engine::State::begin(const StepPlan& step_plan) {
  last_lap = std::chrono::steady_clock::now();
  waits_before = waits_so_far();
  order_rows(step_plan);
  communicator.at(step_plan.step, -1);
  measures_recall = exact_selection && (step_plan.step + 1) % options.recall_every == 0;
  prepare_rotaries();
}

void Engine::State::run_layers(const StepPlan& step_plan, int first) {
  for (int layer = first; layer < blueprint.layers; ++layer) {
    communicator.at(step_plan.step, layer);
    this->layer(layer, step_plan);
  }
  communicator.at(step_plan.step, -1);
  compute_logits(step_plan.logits);
  count_step();
}

void Engine::State::count_step() {
  statistics.steps += 1;
  statistics.rows += rows;
  statistics.folded_rows += rows - dense_rows;
  statistics.folded_steps += rows > dense_rows;
  const EngineStatistics::Waits now = waits_so_far();
  EngineStatistics::Waits& all = statistics.waits;
  all.barriers += now.barriers - waits_before.barriers;
  all.barrier_seconds += now.barrier_seconds - waits_before.barrier_seconds;
  all.collectives += now.collectives - waits_before.collectives;
  all.collective_seconds += now.collective_seconds - waits_before.collective_seconds;
  all.peer_seconds += now.peer_seconds - waits_before.peer_seconds;
  all.bytes_sent += now.bytes_sent - waits_before.bytes_sent;
}

void Engine::State::step_elsewhere(const StepPlan& step_plan) {
  last_lap = std::chrono::steady_clock::now();
  waits_before = waits_so_far();
  order_rows(step_plan);
  communicator.at(step_plan.step, -1);
  executor->step(step_plan);
  lap(EngineStatistics::other);
  const LogitsMode mode = step_plan.logits;
  const MatrixView<const float> there = executor->logits();
  const auto require = [&](int64_t wanted) {
    PLEAT_ASSERT(wanted == int64_t(logit_rows.size()), wanted, " rows instead of ", logit_rows.size());
  };
  if (mode == LogitsMode::argmax) {
    require(int64_t(executor->best().size()));
    gather_best(executor->best());
  }
  if (asks_for_candidates(mode)) {
    require(int64_t(executor->candidates().size()));
    gather_candidates(executor->candidates());
  }
  if (asks_for_logits(mode)) {
    require(there.rows);
    std::copy_n(there.data, there.rows * there.cols, local_logits.data());
    gather_logits({local_logits.data(), there.rows, there.cols});
  }
  count_step();
  lap(EngineStatistics::other);
  const PhaseSeconds phases = executor->phase_seconds();
  for (size_t phase = 0; phase < phases.size(); ++phase) {
    statistics.seconds[phase] += phases[phase];
    statistics.seconds[EngineStatistics::other] -= phases[phase];
  }
}

void Engine::step(const StepPlan& step_plan) {
  State& s = *state_;
  try {
    if (s.executor) return s.step_elsewhere(step_plan);
    s.begin(step_plan);
    s.embed();
    s.observe("x", -1, s.view(s.x, s.d));
    s.lap(EngineStatistics::other);
    s.run_layers(step_plan, 0);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::peer_lost || s.communicator.ranks() == 1) throw;
    throw StepError(error.kind(), error.what());
  }
}

void Engine::resume(const StepPlan& step_plan, int first, MatrixView<const float> x) {
  State& s = *state_;
  PLEAT_ASSERT(s.communicator.ranks() == 1, "only one rank holds the whole residual stream");
  s.begin(step_plan);
  PLEAT_ASSERT(s.dense_rows == s.rows && x.rows == s.rows && x.cols == s.d, x.rows, " x ", x.cols);
  for (int64_t row = 0; row < x.rows; ++row) std::copy_n(x[row], s.d, &s.x[size_t(row * s.d)]);
  s.run_layers(step_plan, first);
}

MatrixView<const float> Engine::logits() const {
  const State& s = *state_;
  const auto& values = s.communicator.ranks() > 1 ? s.all_logits : s.local_logits;
  return {values.data(), int64_t(s.logit_rows.size()), s.blueprint.vocab};
}
const std::vector<int32_t>& Engine::best_tokens() const { return state_->best; }
std::span<const RowCandidates> Engine::candidates() const {
  return std::span(state_->gathered_candidates).first(state_->logit_rows.size());
}
PhaseBytes Engine::executor_bytes() const { return state_->executor ? state_->executor->weight_bytes() : PhaseBytes{}; }

void serve_steps(Engine& engine, Communicator& communicator) {
  StepPlan plan;
  for (;;) {
    broadcast_plan(communicator, plan);
    if (plan.stop) return;
    engine.step(plan);
  }
}

}  // namespace pleat
