// FFNs that see the largest of their inputs only (TEAL, arXiv 2408.14690).
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "core/checkpoint/checkpoint.h"
#include "core/fold/ffn_tensors.h"
#include "tests/core/fold/folded_models.h"

namespace pleat::test {
namespace {

LayerRecipe cut_recipe(SelectionKind selection, double inputs, WeightFormat format = WeightFormat::bf16) {
  LayerRecipe out;
  out.selection = selection;
  out.inputs = inputs;
  out.exact = selection == SelectionKind::all ? 0 : 0.4;
  out.lines = false;
  out.formats = {format, format, format};
  return out;
}

double activation(Activation kind, double z) {
  if (kind == Activation::gelu_new) return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
  PLEAT_ASSERT(kind == Activation::silu);
  return z / (1 + std::exp(-z));
}

// C, and the lines of neurons.
struct Lines {
  Lines(const Checkpoint& checkpoint, int layer, bool gated)
      : slope(read(checkpoint, layer, "slope")),
        intercept(read(checkpoint, layer, "intercept")),
        gate_slope(gated ? read(checkpoint, layer, "gate_slope") : std::vector<float>(slope.size())),
        fold(read(checkpoint, layer, "fold.weight")),
        bias(read(checkpoint, layer, "fold.bias")) {}
  static std::vector<float> read(const Checkpoint& checkpoint, int layer, const char* tensor) {
    return checkpoint.read_f32(FoldSpec::name(layer, tensor));
  }
  std::vector<float> slope, intercept, gate_slope, fold, bias;
};

// The FFN of every generated row in plain loops, in double, from the checkpoint's matrices, thresholds and lines.
class PlainLoops : public FfnHook {
 public:
  explicit PlainLoops(const std::string& folder)
      : checkpoint_(Checkpoint::open(folder)), blueprint_(read_blueprint(checkpoint_)) {}

  void ffn(int layer, const StepPlan& plan, MatrixView<const float> x, MatrixView<float> y) override {
    const FfnTensors ffn = read_ffn(checkpoint_, blueprint_, layer);
    const float of_input = checkpoint_.read_f32(FoldSpec::name(layer, "input_threshold"))[0];
    const bool by_threshold = blueprint_.layer_fold(layer).selection == SelectionKind::threshold;
    const float of_neuron = by_threshold ? checkpoint_.read_f32(FoldSpec::name(layer, "threshold"))[0] : -1;
    std::optional<Lines> lines;
    if (blueprint_.layer_fold(layer).lines) lines.emplace(checkpoint_, layer, ffn.gated());
    for (int64_t row = 0; row < x.rows; ++row) {
      const bool cuts = plan.rows[size_t(row)].folded != 0;
      const std::vector<float>& bias = cuts && lines ? lines->bias : ffn.down_bias;
      std::vector<double> out(bias.begin(), bias.end());
      for (int64_t i = 0; i < x.cols && cuts && lines; ++i)
        for (int64_t k = 0; k < x.cols; ++k) out[size_t(k)] += double(x[row][i]) * lines->fold[size_t(i * x.cols + k)];
      const auto product = [&](const Table& weight, const std::vector<float>& bias, int64_t n) {
        double sum = bias[size_t(n)];
        for (int64_t i = 0; i < x.cols; ++i)
          if (!cuts || std::fabs(x[row][i]) > of_input) sum += double(x[row][i]) * weight[n][i];
        return sum;
      };
      for (int64_t n = 0; n < ffn.neurons(); ++n) {
        const double u = product(ffn.up, ffn.up_bias, n), g = ffn.gated() ? product(ffn.gate, ffn.gate_bias, n) : 0;
        double h = activation(blueprint_.activation, ffn.gated() ? g : u) * (ffn.gated() ? u : 1);
        if (cuts && std::fabs(h) <= of_neuron) continue;
        if (cuts && lines)
          h -= lines->slope[size_t(n)] * u + lines->gate_slope[size_t(n)] * g + lines->intercept[size_t(n)];
        for (int64_t i = 0; i < x.cols; ++i) out[size_t(i)] += h * ffn.down[n][i];
      }
      for (int64_t i = 0; i < x.cols; ++i) {
        const double error = y[row][i] - out[size_t(i)];
        (cuts ? cut_error : dense_error) += error * error;
        energy += out[size_t(i)] * out[size_t(i)];
      }
    }
  }
  double cut_error = 0, dense_error = 0, energy = 0;

 private:
  Checkpoint checkpoint_;
  Blueprint blueprint_;
};

TEST(CutInputs, AgreeWithPlainLoopsInDoubleAndLeavePromptsWhole) {
  LayerRecipe with_lines = cut_recipe(SelectionKind::threshold, 0.5);
  with_lines.lines = true;
  with_lines.fold_format = WeightFormat::bf16;
  for (const bool gated : {false, true})
    for (const LayerRecipe& recipe :
         {cut_recipe(SelectionKind::all, 0.5), cut_recipe(SelectionKind::threshold, 0.5), with_lines}) {
      const std::string folder = Models::folded(gated, recipe);
      const double tolerance = recipe.lines ? 1e-5 : 1e-10;  // C sees x in bf16
      PlainLoops loops(folder);
      LoadOptions options;
      options.dtype = WeightFormat::f32;
      with_engine(folder, 1, options, [&](Engine& engine, Communicator& communicator) {
        engine.set_ffn_hook(&loops);
        StepPlan plan;
        for (int position = 0; position < 40; ++position)
          plan.rows.push_back({2 + position * 37 % 200, position, 0, uint8_t(position >= 4), 1, position == 3});
        plan.page_tables = {{0, 1, 2}};
        plan.slots = {0};
        run_step(engine, communicator, plan);
      });
      EXPECT_GT(loops.energy, 0);
      EXPECT_LT(loops.cut_error, tolerance * loops.energy) << gated << " " << to_text(recipe, gated);
      EXPECT_LT(loops.dense_error, 1e-10 * loops.energy) << gated << " " << to_text(recipe, gated);
    }
}

TEST(CutInputs, AreReadAsOftenAsAskedForAndCounted) {
  for (const bool gated : {false, true}) {
    const std::string folder = Models::folded(gated, cut_recipe(SelectionKind::all, 0.6));
    std::ifstream in(folder + "/fold_report.json");
    const nlohmann::json report = nlohmann::json::parse(in), total = report["total"];
    EXPECT_NEAR(total["inputs"].get<double>(), 0.6, 0.01);
    const double dense = total["bytes_dense"].get<double>(), up = gated ? 2.0 / 3 : 0.5;
    EXPECT_NEAR(total["bytes_read"]["1"].get<double>() / dense, 1 - up * 0.4, 0.01);
    EXPECT_GT(total["bytes_read"]["4"].get<double>() / dense, 1 - up * 0.2);
    EXPECT_LE(total["bytes_read"]["16"].get<double>() / dense, 1);
    EXPECT_EQ(total["bytes_stored"].get<double>(), dense);
  }
}

TEST(CutInputs, AreRefusedWhereNeuronsAreGatheredByTheirGateAndUp) {
  using enum SelectionKind;
  for (const SelectionKind selection : {range, gate, predictor, prompt, core}) {
    EXPECT_THROW(check(cut_recipe(selection, 0.5), selection != range), Error) << name_of(selection);
    FoldSpec spec;
    spec.layers = {{.selection = selection, .cuts_inputs = true}};
    EXPECT_THROW(fold_spec_from_metadata(to_metadata(spec)), Error) << name_of(selection);
  }
  for (const double share : {0.0, -1.0, 1.5}) EXPECT_THROW(check(cut_recipe(all, share), true), Error) << share;
  for (const SelectionKind selection : {all, threshold, hot}) {
    check(cut_recipe(selection, 0.5), true);
    FoldSpec spec;
    spec.layers = {{.selection = selection, .lines = false, .neurons = selection == hot, .cuts_inputs = true}};
    EXPECT_EQ(fold_spec_from_metadata(to_metadata(spec)).layers, spec.layers);
  }
}

}  // namespace
}  // namespace pleat::test
