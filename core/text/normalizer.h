#pragma once
// What is done to text before it is cut into words.
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pleat {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // text may hold ill-formed UTF-8, whose bytes stay.
  virtual std::string apply(std::string_view text) const = 0;
};

// From the "normalizer" of a tokenizer.json; null: nothing is done, and nullptr.
std::unique_ptr<Normalizer> make_normalizer(const nlohmann::json& description);

}  // namespace pleat
