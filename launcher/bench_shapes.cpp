// Shapes that models were published with, for measurements on random weights.
#include <cmath>
#include <map>

#include "core/model/families/positions.h"
#include "launcher/bench.h"

namespace pleat {
namespace {

// Rotary positions as Llama has them.
Rotary plain_rotary(int head_size) {
  Rotary rotary;
  for (int i = 0; i < head_size / 2; ++i)
    rotary.frequency.push_back(std::pow(10000.0f, -2.0f * float(i) / float(head_size)));
  return rotary;
}

enum class Kind { gpt2, opt, bloom, falcon, llama };
struct Shape {
  int64_t hidden, neurons, vocab;
  int layers, heads, kv_heads;
  Kind kind;
};

// gpt2-xl, opt-6.7b (ReLU), bloom-7b1 (ALiBi), Falcon (few key-value heads; attention and FFN side by side; of the
// 40B's two norms one), Llama and SmolLM2 (SwiGLU), and two of GPT-2's kind, one that runs in a second and one that an
// emulated device runs.
const std::map<std::string, Shape>& shapes() {
  static const std::map<std::string, Shape> all = {{"gpt2-xl", {1600, 6400, 50257, 48, 25, 25, Kind::gpt2}},
                                                   {"opt-6.7b", {4096, 16384, 50272, 32, 32, 32, Kind::opt}},
                                                   {"bloom-7b1", {4096, 16384, 250880, 30, 32, 32, Kind::bloom}},
                                                   {"falcon-7b", {4544, 18176, 65024, 32, 71, 1, Kind::falcon}},
                                                   {"falcon-40b", {8192, 32768, 65024, 60, 128, 8, Kind::falcon}},
                                                   {"llama-2-7b", {4096, 11008, 32000, 32, 32, 32, Kind::llama}},
                                                   {"llama-3-8b", {4096, 14336, 128256, 32, 32, 8, Kind::llama}},
                                                   {"smollm2-135m", {576, 1536, 49152, 30, 9, 3, Kind::llama}},
                                                   {"small", {1024, 4096, 8192, 4, 16, 16, Kind::gpt2}},
                                                   {"tiny", {128, 512, 512, 2, 2, 2, Kind::gpt2}}};
  return all;
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const auto& [name, _] : shapes()) names.push_back(name);
  return names;
}

Blueprint shape_named(const std::string& name) {
  const Shape& shape = shapes().at(name);
  Blueprint blueprint;
  blueprint.family = name;
  blueprint.hidden = blueprint.embedding = shape.hidden;
  blueprint.neurons = shape.neurons;
  blueprint.vocab = shape.vocab;
  blueprint.max_positions = 2048;
  blueprint.layers = shape.layers;
  blueprint.heads = shape.heads;
  blueprint.kv_heads = shape.kv_heads;
  blueprint.head_size = int(shape.hidden / shape.heads);
  blueprint.attention_scale = 1.0f / std::sqrt(float(blueprint.head_size));
  switch (shape.kind) {
    case Kind::gpt2:
      break;
    case Kind::opt:
      blueprint.activation = Activation::relu;
      break;
    case Kind::bloom:
      blueprint.positions = PositionKind::alibi;
      blueprint.alibi_slopes = alibi_slopes(blueprint.heads);
      break;
    case Kind::falcon:
      blueprint.positions = PositionKind::rotary;
      blueprint.parallel_residual = true;
      break;
    case Kind::llama:
      blueprint.positions = PositionKind::rotary;
      blueprint.norm = NormKind::rms_norm;
      blueprint.activation = Activation::silu;
      blueprint.gated = true;
      break;
  }
  if (blueprint.positions == PositionKind::rotary) blueprint.rotaries = {plain_rotary(blueprint.head_size)};
  return blueprint;
}

}  // namespace pleat
