#include "core/checkpoint/json_file.h"

#include <unordered_set>
#include <vector>

#include "core/checkpoint/file.h"
#include "kernels/check.h"

namespace pleat {

nlohmann::json parse_json(std::string_view text, const std::string& what, int depth_limit) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::unordered_set<std::string>> keys;  // of the objects now open, by depth
  const auto guard = [&](int depth, Event event, nlohmann::json& parsed) {
    if (event == Event::object_start || event == Event::array_start) {
      PLEAT_REQUIRE(depth < depth_limit, what, " is not valid: its JSON is nested more than ", depth_limit, " deep");
      keys.resize(size_t(depth) + 2);
      keys.back().clear();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      PLEAT_REQUIRE(keys.at(size_t(depth)).insert(key).second, what, " is not valid: '", key, "' stands there twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), guard);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(ErrorKind::invalid, concat(what, " is not valid JSON, at byte ", error.byte));
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::invalid, concat(what, " is not valid JSON: a number is out of range"));
  }
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  const File file(path);
  PLEAT_REQUIRE(file.size() <= kJsonFileLimit, path, " is too large for a JSON file: ", file.size(), " bytes");
  std::string text(file.size(), '\0');
  file.read(0, text.size(), text.data());
  return parse_json(text, concat(path));
}

}  // namespace pleat
