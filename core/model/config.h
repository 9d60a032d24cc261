#pragma once
// Typed reads of config.json whose errors name the field.
#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {

class Config {
 public:
  explicit Config(const nlohmann::json& json) : json_(json) {}

  const nlohmann::json& json() const { return json_; }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  int64_t integer(const char* key, int64_t low, int64_t high) const {
    PLEAT_REQUIRE(has(key) && json_[key].is_number_integer(), "config.json has no whole number '", key, "'");
    const int64_t value = json_[key].get<int64_t>();
    PLEAT_REQUIRE(value >= low && value <= high, "config.json: '", key, "' is ", value, ", expected ", low, " to ",
                  high);
    return value;
  }
  int64_t integer_or(const char* key, int64_t fallback, int64_t low, int64_t high) const {
    return has(key) ? integer(key, low, high) : fallback;
  }
  double number(const char* key) const {
    PLEAT_REQUIRE(has(key), "config.json has no number '", key, "'");
    return number_or(key, 0);
  }
  double number_or(const char* key, double fallback) const {
    if (!has(key)) return fallback;
    PLEAT_REQUIRE(json_[key].is_number(), "config.json: '", key, "' is not a number");
    return json_[key].get<double>();
  }
  bool flag_or(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    PLEAT_REQUIRE(json_[key].is_boolean(), "config.json: '", key, "' is neither true nor false");
    return json_[key].get<bool>();
  }
  std::string text_or(const char* key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    PLEAT_REQUIRE(json_[key].is_string(), "config.json: '", key, "' is not a text");
    return json_[key].get<std::string>();
  }
  std::vector<std::string> texts_or(const char* key, const std::vector<std::string>& fallback) const {
    if (!has(key)) return fallback;
    PLEAT_REQUIRE(json_[key].is_array(), "config.json: '", key, "' is not a list");
    std::vector<std::string> texts;
    for (const nlohmann::json& text : json_[key]) {
      PLEAT_REQUIRE(text.is_string(), "config.json: '", key, "' is not a list of texts");
      texts.push_back(text.get<std::string>());
    }
    return texts;
  }
  Config object(const char* key) const {
    PLEAT_REQUIRE(has(key) && json_[key].is_object(), "config.json has no object '", key, "'");
    return Config(json_[key]);
  }

 private:
  const nlohmann::json& json_;
};

}  // namespace pleat
