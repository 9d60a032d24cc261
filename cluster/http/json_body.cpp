#include "cluster/http/json_body.h"

#include "core/checkpoint/json_file.h"
#include "kernels/check.h"

namespace pleat {

constexpr int kBodyDepth = 32;  // a request has five, a record six

nlohmann::json read_object(const std::string& text, const std::string& what) {
  nlohmann::json parsed = parse_json(text, what, kBodyDepth);
  PLEAT_REQUIRE(parsed.is_object(), what, " is not a JSON object");
  return parsed;
}

}  // namespace pleat
