#include "core/model/families/positions.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "core/model/config.h"

namespace pleat {
namespace {

// theta^(-2i / dims), in f32 like the models' own code.
std::vector<float> plain_frequencies(double theta, int dims) {
  std::vector<float> frequency;
  for (int i = 0; i < dims; i += 2) frequency.push_back(1.0f / std::pow(float(theta), float(i) / float(dims)));
  return frequency;
}

// Llama 3.1: wavelengths above the original context are stretched by `factor`, short ones stay, those between are
// mixed.
void stretch_llama3(std::vector<float>& frequency, const Config& parameters, double factor, double original) {
  const double low = parameters.number("low_freq_factor"), high = parameters.number("high_freq_factor");
  PLEAT_REQUIRE(low > 0 && high > low, "config.json: low_freq_factor ", low, " and high_freq_factor ", high,
                " are not an ascending pair");
  for (float& f : frequency) {
    const double wavelength = 2 * std::numbers::pi / f;
    if (wavelength > original / low) {
      f = float(f / factor);
    } else if (wavelength > original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      f = float((1 - smooth) * f / factor + smooth * f);
    }
  }
}

// YaRN (arXiv 2309.00071): frequencies that turn often within the original context stay, slow ones are stretched.
void stretch_yarn(Rotary& rotary, const Config& parameters, double theta, double factor, double original) {
  const int dims = rotary.dims();
  const auto dimension = [&](double turns) {
    return dims * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = dimension(parameters.number_or("beta_fast", 32)), high = dimension(parameters.number_or("beta_slow", 1));
  if (parameters.flag_or("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, double(dims - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < rotary.frequency.size(); ++i) {
    const double ramp = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
    float& f = rotary.frequency[i];
    f = float(f / factor * ramp + f * (1 - ramp));
  }
  const auto magnitude = [&](double scale) { return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1; };
  const double scale = parameters.number_or("mscale", 0), scale_all = parameters.number_or("mscale_all_dim", 0);
  const double inferred = scale != 0 && scale_all != 0 ? magnitude(scale) / magnitude(scale_all) : magnitude(1);
  rotary.magnitude = float(parameters.number_or("attention_factor", inferred));
}

}  // namespace

Rotary rotary_of(const Config& parameters, const Blueprint& blueprint, const RotaryDefaults& defaults) {
  const double theta = parameters.number_or("rope_theta", defaults.theta);
  const double part = parameters.number_or("partial_rotary_factor", defaults.part);
  PLEAT_REQUIRE(theta > 1 && part > 0 && part <= 1, "config.json: rotary theta ", theta, " and part ", part,
                " of a head are out of range");
  const int dims = int(blueprint.head_size * part);
  PLEAT_REQUIRE(dims > 0 && dims % 2 == 0, "config.json: ", dims, " rotated values of a head are not pairs");
  Rotary rotary;
  rotary.frequency = plain_frequencies(theta, dims);
  const std::string type = parameters.text_or("rope_type", parameters.text_or("type", "default"));
  if (type == "default") return rotary;
  PLEAT_REQUIRE(type == "linear" || type == "llama3" || type == "yarn", "config.json: unknown rope_type '", type,
                "', known: default, linear, llama3, yarn");
  const double factor = parameters.number("factor");
  PLEAT_REQUIRE(factor > 0, "config.json: the rope factor ", factor, " is not positive");
  const double original = parameters.number_or("original_max_position_embeddings", double(blueprint.max_positions));
  PLEAT_REQUIRE(original > 0, "config.json: original_max_position_embeddings is not positive");
  if (type == "linear")
    for (float& f : rotary.frequency) f = float(f / factor);
  else if (type == "llama3")
    stretch_llama3(rotary.frequency, parameters, factor, original);
  else
    stretch_yarn(rotary, parameters, theta, factor, original);
  return rotary;
}

Rotary read_rotary(const Config& config, const Blueprint& blueprint, const RotaryDefaults& defaults) {
  const RotaryDefaults top{config.number_or("rope_theta", defaults.theta),
                           config.number_or("partial_rotary_factor", defaults.part)};
  if (config.has("rope_parameters")) return rotary_of(config.object("rope_parameters"), blueprint, top);
  if (config.has("rope_scaling")) return rotary_of(config.object("rope_scaling"), blueprint, top);
  const nlohmann::json nothing = nlohmann::json::object();
  return rotary_of(Config(nothing), blueprint, top);
}

void read_windows(const Config& config, Blueprint& blueprint, const std::function<bool(int)>& sliding) {
  blueprint.attention.resize(size_t(blueprint.layers));
  const std::vector<std::string> types = config.texts_or("layer_types", {});
  PLEAT_REQUIRE(types.empty() || int(types.size()) == blueprint.layers, "config.json: layer_types has ", types.size(),
                " entries for ", blueprint.layers, " layers");
  for (int layer = 0; layer < blueprint.layers; ++layer) {
    bool slides = sliding(layer);
    if (!types.empty()) {
      const std::string& type = types[size_t(layer)];
      PLEAT_REQUIRE(type == "sliding_attention" || type == "full_attention", "config.json: unknown layer type '", type,
                    "', known: full_attention, sliding_attention");
      slides = type == "sliding_attention";
    }
    if (slides && config.has("sliding_window"))
      blueprint.attention[size_t(layer)].window = config.integer("sliding_window", 1, int64_t(1) << 32);
  }
}

std::vector<float> alibi_slopes(int heads) {
  const int lower = int(std::bit_floor(unsigned(heads)));
  std::vector<float> slopes;
  const auto add = [&](int of_heads, int first, int step) {
    const float base = float(std::exp2(-8.0 / of_heads));
    for (int power = first; int(slopes.size()) < heads && power <= of_heads; power += step)
      slopes.push_back(float(std::pow(double(base), power)));
  };
  add(lower, 1, 1);
  add(2 * lower, 1, 2);
  return slopes;
}

}  // namespace pleat
