#include "cluster/http/sampling_fields.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>

#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

constexpr int kMostLogprobs = 20;  // as ServerLimits::logprobs

double number(const std::string& name, const json& value) {
  PLEAT_REQUIRE(value.is_number(), "'", name, "' must be a number");
  return value.get<double>();
}

int integer(const std::string& name, const json& value) {
  PLEAT_REQUIRE(value.is_number_integer(), "'", name, "' must be an integer");
  const auto wide = value.get<int64_t>();
  constexpr auto limits = std::numeric_limits<int>();
  PLEAT_REQUIRE(wide >= limits.min() && wide <= limits.max(), "'", name, "' is out of range");
  return int(wide);
}

// In vLLM's API -1 is all, too.
int top_k(const std::string& name, const json& value) {
  const int count = integer(name, value);
  PLEAT_REQUIRE(count >= -1, name, " is ", count, ", expected 0 (all) or more");
  return std::max(0, count);
}

int logprobs(const std::string& name, const json& value) {
  const int count = integer(name, value);
  PLEAT_REQUIRE(count >= 0 && count <= kMostLogprobs, name, " is ", count, ", expected 0 to ", kMostLogprobs);
  return count;
}

std::vector<std::string> strings(const std::string& name, const json& value) {
  if (value.is_string()) return {value.get<std::string>()};
  PLEAT_REQUIRE(value.is_array(), "'", name, "' must be a string or an array of strings");
  std::vector<std::string> all;
  for (const json& entry : value) {
    PLEAT_REQUIRE(entry.is_string(), "'", name, "' must be a string or an array of strings");
    all.push_back(entry.get<std::string>());
  }
  return all;
}

using Setter = std::function<void(const std::string& name, const json& value, SamplingOptions& sampling)>;

const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> all = {
      {"max_tokens", [](auto& name, auto& value, auto& to) { to.max_tokens = integer(name, value); }},
      {"temperature", [](auto& name, auto& value, auto& to) { to.temperature = float(number(name, value)); }},
      {"top_k", [](auto& name, auto& value, auto& to) { to.top_k = top_k(name, value); }},
      {"top_p", [](auto& name, auto& value, auto& to) { to.top_p = float(number(name, value)); }},
      {"min_p", [](auto& name, auto& value, auto& to) { to.min_p = float(number(name, value)); }},
      {"repetition_penalty",
       [](auto& name, auto& value, auto& to) { to.repetition_penalty = float(number(name, value)); }},
      {"seed",
       [](auto& name, auto& value, auto& to) {
         PLEAT_REQUIRE(value.is_number_integer(), "'", name, "' must be an integer");
         to.seed = value.template get<uint64_t>();
       }},
      {"stop", [](auto& name, auto& value, auto& to) { to.stop = strings(name, value); }},
      {"ignore_eos",
       [](auto& name, auto& value, auto& to) {
         PLEAT_REQUIRE(value.is_boolean(), "'", name, "' must be true or false");
         to.ignore_eos = value.template get<bool>();
       }},
      {"logprobs", [](auto& name, auto& value, auto& to) { to.logprobs = logprobs(name, value); }},
  };
  return all;
}

bool changes_nothing(const std::string& name, const json& value) {
  constexpr std::array<std::string_view, 6> ignored = {"model", "user",           "metadata",
                                                       "store", "stream_options", "service_tier"};
  if (std::find(ignored.begin(), ignored.end(), name) != ignored.end()) return true;
  if (name == "n" || name == "best_of") return value == 1;
  if (name == "echo" || name == "stream") return value == false;
  if (name == "suffix") return value == "";
  if (name == "logit_bias") return value.is_object() && value.empty();
  if (name == "response_format") return value.is_object() && value.value("type", json()) == "text";
  if (name == "presence_penalty" || name == "frequency_penalty") return value == 0;
  return false;
}

// The fields whose meaning differs in chats. In the order of their names, so "logprobs" before "top_logprobs".
bool set_chat_field(const std::string& name, const json& value, SamplingOptions& to) {
  if (name == "max_completion_tokens") {
    to.max_tokens = integer(name, value);
  } else if (name == "logprobs") {
    PLEAT_REQUIRE(value.is_boolean(), "'", name, "' must be true or false in a chat");
    to.logprobs = value.get<bool>() ? std::max(0, to.logprobs) : -1;
  } else if (name == "top_logprobs") {
    const int count = logprobs(name, value);
    PLEAT_REQUIRE(count == 0 || to.logprobs >= 0, "'", name, "' is for chats with 'logprobs': true");
    if (to.logprobs >= 0) to.logprobs = count;
  } else {
    return false;
  }
  return true;
}

}  // namespace

SamplingOptions sampling_from_body(const json& body, bool chat, const SamplingOptions& defaults,
                                   std::span<const std::string_view> others) {
  SamplingOptions sampling = defaults;
  for (const auto& [name, value] : body.items()) {
    if (value.is_null() || std::find(others.begin(), others.end(), name) != others.end()) continue;
    if (chat && name == "max_tokens" && !body.value("max_completion_tokens", json()).is_null())
      continue;  // its old name
    if (chat && set_chat_field(name, value, sampling)) continue;
    if (const auto setter = setters().find(name); setter != setters().end()) {
      setter->second(name, value, sampling);
    } else {
      PLEAT_REQUIRE(changes_nothing(name, value), "'", name, "' is not supported");
    }
  }
  return sampling;
}

}  // namespace pleat
