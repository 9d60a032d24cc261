#include "cluster/http/json_body.h"

#include <nlohmann/json.hpp>

#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::json;

constexpr size_t kDepth = 32;  // of nested values; a request has five, a record six

}  // namespace

json read_object(const std::string& text, const std::string& what) {
  size_t deepest = 0;
  const auto shallow = [&](int depth, json::parse_event_t, json&) {
    deepest = std::max(deepest, size_t(depth));
    return deepest <= kDepth;
  };
  json parsed = json::parse(text, shallow, false);
  PLEAT_REQUIRE(!parsed.is_discarded() && deepest <= kDepth, what, " is not JSON");
  PLEAT_REQUIRE(parsed.is_object(), what, " is not a JSON object");
  return parsed;
}

}  // namespace pleat
