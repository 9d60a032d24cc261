#include "core/fold/quantize.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <span>

#include <nlohmann/json.hpp>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/checkpoint_copy.h"
#include "core/fold/dense_model.h"
#include "core/fold/folded_checkpoint.h"
#include "core/fold/format_text.h"
#include "core/fold/input_moments.h"
#include "core/fold/plane_budget.h"
#include "kernels/check.h"

namespace pleat {
namespace {

constexpr int64_t kMomentBytes = int64_t(4) << 30;  // held at once; more layers take another pass over the text

constexpr size_t kSensitivityWindows = 8;  // that noise in every layer is tried on

constexpr WeightFormat kPlaneFormats[] = {WeightFormat::planes2, WeightFormat::planes3, WeightFormat::planes4};

// One tensor to quantise.
struct Job {
  size_t part = 0;  // of the report
  std::string tensor;
  bool input_major = false;
  bool is_ffn = false;
  int64_t inputs = 0;
  InputStage input;
};

class Quantizing {
 public:
  Quantizing(const QuantizeOptions& options, const QuantizeProgress& progress)
      : options_(options),
        progress_(progress),
        checkpoint_(Checkpoint::open(options.model)),
        blueprint_(read_blueprint(checkpoint_)),
        formats_(blueprint_.quantised) {
    PLEAT_REQUIRE(blueprint_.fold || blueprint_.quantised.empty(), "'", options.model, "' is quantised already");
    PLEAT_REQUIRE(!blueprint_.fold || (!options.down && options.budget == 0), "'", options.model,
                  "' is folded: its FFN stays as the fold made it, only attention and head take another format");
    for (WeightFormat format : {options.gate_up, down(), options.attention, options.head})
      PLEAT_REQUIRE(format != WeightFormat::f32, "weights are quantised, or left in bf16, not in f32");
    PLEAT_REQUIRE(options.budget == 0 || (has_planes(options.gate_up) && has_planes(down())),
                  "a budget is for an FFN in planes");
    PLEAT_REQUIRE(options.budget == 0 || !options.text.empty(), "a budget needs a calibration text");
  }

  QuantizeReport run() {
    const auto start = std::chrono::steady_clock::now();
    FolderInTheMaking out(options_.out);
    // The model runs the calibration text; its context does the products even without.
    model_ = std::make_unique<DenseModel>(options_.model, options_.dtype, options_.threads, options_.oversubscribed);
    list_jobs();
    if (!options_.text.empty()) read_text();
    for (size_t begin = 0; begin < jobs_.size();) begin = quantise_from(begin);
    if (options_.budget > 0) spend_budget();
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write(out.folder());
    tell("write", 1);
    out.commit();
    return std::move(report_);
  }

 private:
  WeightFormat down() const { return options_.down.value_or(options_.gate_up); }

  void tell(const char* stage, double fraction) const {
    if (progress_) progress_(stage, fraction);
  }

  // Returns the part's place in the report; nothing to do where the format is bf16.
  std::optional<size_t> add_part(const char* name, WeightFormat format, const std::string& reason_against = "") {
    QuantizedPart part;
    part.name = name, part.format = format;
    if (format == WeightFormat::bf16) return std::nullopt;
    if (!reason_against.empty()) part.format = WeightFormat::bf16, part.note = reason_against;
    report_.parts.push_back(part);
    if (!reason_against.empty()) return std::nullopt;
    return report_.parts.size() - 1;
  }

  void add_jobs(std::optional<size_t> part, std::initializer_list<Part> kinds, int layer, int64_t inputs,
                const char* stage) {
    if (!part) return;
    for (Part kind : kinds) {
      const WeightSource source = blueprint_.source(kind, std::max(layer, 0));
      if (source.weight.empty() || !seen_.insert(source.weight).second) continue;  // several parts in one tensor
      PLEAT_REQUIRE(!formats_.contains(source.weight), "'", options_.model, "' is quantised already: tensor '",
                    source.weight, "' is in ", name_of(formats_.at(source.weight)));
      const bool is_ffn = kind == Part::ffn_gate || kind == Part::ffn_up || kind == Part::ffn_down;
      jobs_.push_back({*part, source.weight, source.input_major, is_ffn, inputs, {stage, layer}});
    }
  }

  void list_jobs() {
    const std::string heads = blueprint_.head_size % kGroup == 0
                                  ? ""
                                  : concat("heads of ", blueprint_.head_size, " inputs are not groups of ", kGroup);
    const auto attention = add_part("query, key, value", options_.attention);
    const auto output = add_part("attention output", options_.attention, heads);
    const auto ffn_part = [&](const char* name, WeightFormat format) {
      return blueprint_.fold ? std::nullopt : add_part(name, format);
    };
    const auto gate = blueprint_.gated ? ffn_part("gate", options_.gate_up) : std::nullopt;
    const auto up = ffn_part("up", options_.gate_up), down = ffn_part("down", this->down());
    const bool one_norm = blueprint_.parallel_residual && !blueprint_.has(Part::ffn_norm);
    for (int layer = 0; layer < blueprint_.layers; ++layer) {
      const char* const ffn_input = one_norm ? "ln1" : "ln2";
      add_jobs(attention, {Part::query, Part::key, Part::value}, layer, blueprint_.hidden, "ln1");
      add_jobs(output, {Part::attention_output}, layer, int64_t(blueprint_.heads) * blueprint_.head_size, "y");
      add_jobs(gate, {Part::ffn_gate}, layer, blueprint_.hidden, ffn_input);
      add_jobs(up, {Part::ffn_up}, layer, blueprint_.hidden, ffn_input);
      add_jobs(down, {Part::ffn_down}, layer, blueprint_.neurons, "gelu");
    }
    const auto head = add_part("head", options_.head);
    add_jobs(head, {Part::head}, -1, blueprint_.embedding, "head input");
    PLEAT_REQUIRE(!jobs_.empty(), "nothing is to be quantised: every format is bf16");
  }

  void read_text() {
    windows_ =
        calibration_windows(Tokenizer::open(options_.model), options_.text, model_->window(), options_.max_tokens);
    report_.calibration_tokens = tokens_of(windows_);
  }

  // Quantises jobs from `begin` on, as many as one pass's moments allow; returns the next.
  size_t quantise_from(size_t begin) {
    InputMoments moments(model_->context());
    const size_t end = windows_.empty() ? jobs_.size() : take_moments(begin, moments);
    for (size_t i = begin; i < end; ++i) {
      if (windows_.empty())
        quantise(jobs_[i], {}, {});
      else
        quantise(jobs_[i], moments.of(jobs_[i].input), extreme_inputs(moments.largest(jobs_[i].input)));
      tell("quantise", double(i + 1) / double(jobs_.size()));
    }
    return end;
  }

  // Runs the text for the jobs from `begin` on whose moments fit; returns the next.
  size_t take_moments(size_t begin, InputMoments& moments) {
    size_t end = begin;
    int64_t bytes = 0;
    std::set<InputStage> stages;
    for (; end < jobs_.size(); ++end) {
      const Job& job = jobs_[end];
      if (stages.contains(job.input)) continue;
      bytes += job.inputs * job.inputs * int64_t(sizeof(double));
      if (bytes > kMomentBytes && !stages.empty()) break;
      stages.insert(job.input);
      moments.want(job.input, job.inputs);
    }
    model_->set_observer(&moments);
    for (size_t w = 0; w < windows_.size(); ++w) {
      model_->run(windows_[w], nullptr, stages.contains({"head input", -1}));
      tell("calibrate", double(w + 1) / double(windows_.size()));
    }
    model_->set_observer(nullptr);
    return end;
  }

  // [outputs, inputs]
  Table read(const Job& job) const {
    const std::vector<float> values = checkpoint_.read_f32(job.tensor);
    const int64_t outputs = int64_t(values.size()) / job.inputs;
    PLEAT_REQUIRE(outputs * job.inputs == int64_t(values.size()), "tensor '", job.tensor, "' holds ", values.size(),
                  " numbers, not rows of ", job.inputs);
    PLEAT_REQUIRE(std::ranges::all_of(values, [](float value) { return std::isfinite(value); }), "tensor '", job.tensor,
                  "' holds a number that is not finite: there is nothing to quantise it to");
    if (job.input_major) return transposed({values.data(), job.inputs, outputs});
    Table out(outputs, job.inputs);
    out.data = values;
    return out;
  }

  void quantise(const Job& job, const std::vector<double>& second_moment, std::vector<int32_t> protected_inputs) {
    QuantizedPart& part = report_.parts[job.part];
    const Table w = read(job);
    part.protected_inputs += int64_t(protected_inputs.size());
    part.bytes_before += w.rows * w.cols * 2;
    const auto quantised_as = [&](WeightFormat format, OutputError& error) {
      QuantisedWeights weights =
          quantise_weights(model_->context(), w.view(), second_moment, format, options_.scales, protected_inputs);
      error.add(model_->context(), w, weights, second_moment);
      return weights;
    };
    if (options_.budget == 0 || !job.is_ffn) {
      OutputError error;
      QuantisedWeights weights = quantised_as(part.format, error);
      return keep(job.part, job.tensor, part.format, error, std::move(weights));
    }
    PlaneCandidates& candidates = candidates_.emplace_back();
    candidates.tensor = job.tensor, candidates.layer = job.input.layer, candidates.part = job.part;
    candidates.down = part.name == "down", candidates.bytes_bf16 = w.rows * w.cols * 2;
    for (size_t i = 0; i < kPlaneChoices; ++i)
      candidates.weights[i] = quantised_as(kPlaneFormats[i], candidates.errors[i]);
  }

  void keep(size_t in_part, const std::string& tensor, WeightFormat format, const OutputError& error,
            QuantisedWeights weights) {
    QuantizedPart& part = report_.parts[in_part];
    part.bytes_after += bytes_of(weights);
    errors_.resize(report_.parts.size());
    errors_[in_part].error += error.error, errors_[in_part].energy += error.energy;
    part.error = errors_[in_part].relative();
    formats_[tensor] = format;
    done_.emplace_back(tensor, std::move(weights));
  }

  void spend_budget() {
    const std::span<const Window> windows(windows_.data(), std::min(windows_.size(), kSensitivityWindows));
    const std::vector<double> sensitivity =
        plane_sensitivity(*model_, windows, [&](double share) { tell("sensitivity", share); });
    report_.choices = choose_planes(candidates_, sensitivity, options_.budget);
    for (PlaneCandidates& candidates : candidates_)
      for (const PlaneChoice& choice : report_.choices)
        if (choice.layer == candidates.layer && choice.down == candidates.down) {
          const size_t i = size_t(choice.planes - kFewestPlanes);
          report_.parts[candidates.part].mixed = true;
          keep(candidates.part, candidates.tensor, kPlaneFormats[i], candidates.errors[i],
               std::move(candidates.weights[i]));
        }
  }

  void write(const std::filesystem::path& folder) const {
    std::vector<NewTensor> added;
    for (const auto& [name, weights] : done_) append_tensors(name, weights, added);
    std::vector<std::string> kept;
    for (const std::string& name : checkpoint_.names())
      if (!seen_.contains(name)) kept.push_back(name);
    size_t copied = 0;
    const auto read = [&](const std::string& name) {
      tell("write", double(copied++) / double(kept.size()));
      const TensorInfo& info = checkpoint_.require(name);
      const int64_t rows = info.shape.size() < 2 ? 1 : info.shape[0];
      int64_t cols = 1;
      for (size_t i = info.shape.size() < 2 ? 0 : 1; i < info.shape.size(); ++i) cols *= info.shape[i];
      std::vector<std::byte> data(size_t(rows * cols) * size_of(info.dtype));
      checkpoint_.read(name, 0, rows, 0, cols, data.data());
      return data;
    };
    copy_checkpoint(checkpoint_, folder, {{"quantised", to_metadata(formats_)}}, kept, read, added);
    std::ofstream file(folder / "quantize_report.json", std::ios::binary);
    file << to_json(report_).dump(1) << '\n';
    file.close();
    if (!file) throw Error(ErrorKind::failed, concat("cannot write the report in '", folder.string(), "'"));
  }

  const QuantizeOptions& options_;
  const QuantizeProgress& progress_;
  Checkpoint checkpoint_;
  Blueprint blueprint_;
  QuantizeReport report_;
  std::unique_ptr<DenseModel> model_;
  std::vector<Window> windows_;
  std::vector<Job> jobs_;
  std::set<std::string> seen_;
  std::vector<OutputError> errors_;
  std::vector<PlaneCandidates> candidates_;
  std::vector<std::pair<std::string, QuantisedWeights>> done_;
  QuantisedTensors formats_;  // with those of a fold
};

std::string label_of(const QuantizedPart& part) { return part.mixed ? "planes" : std::string(name_of(part.format)); }

}  // namespace

std::string to_text(const QuantizeReport& report) {
  std::string out = report.calibration_tokens > 0
                        ? concat("GPTQ on ", report.calibration_tokens, " calibration tokens\n")
                        : std::string("rounded to nearest: no calibration text was given\n");
  out += format_text("%-18s %-7s %12s %12s %8s %10s  %s\n", "matrices", "format", "bf16 MB", "MB", "share", "protected",
                     report.calibration_tokens > 0 ? "relative squared error of the outputs" : "of the weights");
  for (const QuantizedPart& part : report.parts) {
    if (!part.note.empty()) {
      out += concat(part.name, ": left in bf16, ", part.note, "\n");
      continue;
    }
    out += format_text("%-18s %-7s %12.2f %12.2f %7.1f%% %10lld  %.5f\n", part.name.c_str(), label_of(part).c_str(),
                       double(part.bytes_before) / 1e6, double(part.bytes_after) / 1e6,
                       100 * double(part.bytes_after) / double(part.bytes_before),
                       static_cast<long long>(part.protected_inputs), part.error);
  }
  for (const PlaneChoice& choice : report.choices) {
    out += format_text("layer %-3d %-6s %d planes, estimated KL %.6f\n", choice.layer, choice.down ? "down" : "up",
                       choice.planes, choice.kl);
  }
  return out;
}

nlohmann::json to_json(const QuantizeReport& report) {
  nlohmann::json choices = nlohmann::json::array();
  for (const PlaneChoice& choice : report.choices)
    choices.push_back(
        {{"layer", choice.layer}, {"down", choice.down}, {"planes", choice.planes}, {"estimated_kl", choice.kl}});
  nlohmann::json parts = nlohmann::json::array();
  for (const QuantizedPart& part : report.parts) {
    nlohmann::json entry = {{"name", part.name},
                            {"format", label_of(part)},
                            {"bytes_before", part.bytes_before},
                            {"bytes_after", part.bytes_after},
                            {"protected_inputs", part.protected_inputs},
                            {"error", part.error}};
    if (!part.note.empty()) entry["note"] = part.note;
    parts.push_back(entry);
  }
  nlohmann::json out = {
      {"parts", parts}, {"calibration_tokens", report.calibration_tokens}, {"seconds", report.seconds}};
  if (!choices.empty()) out["planes"] = choices;
  return out;
}

QuantizeReport quantize_model(const QuantizeOptions& options, const QuantizeProgress& progress) {
  return Quantizing(options, progress).run();
}

}  // namespace pleat
