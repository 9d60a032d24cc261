#include "core/checkpoint/json_file.h"

#include <vector>

#include "core/checkpoint/file.h"
#include "kernels/check.h"

namespace pleat {

namespace {

using Json = nlohmann::json;

// Builds the values that the parser reports, in a third of the time that its own builder takes with a callback.
class Builder {
 public:
  Builder(const std::string& what, int depth_limit) : what_(what), depth_limit_(depth_limit) {}
  Json root;

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(int64_t value) { return put(value); }
  bool number_unsigned(uint64_t value) { return put(value); }
  bool number_float(double value, const std::string&) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // not in texts

  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& key) {
    const auto [entry, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(key));
    PLEAT_REQUIRE(is_new, what_, " is not valid: '", key, "' stands there twice");
    value_ = &entry->second;
    return true;
  }

  bool parse_error(size_t byte, const std::string&, const Json::exception& error) {
    PLEAT_REQUIRE(dynamic_cast<const Json::parse_error*>(&error), what_,
                  " is not valid JSON: a number is out of range");
    throw Error(ErrorKind::invalid, concat(what_, " is not valid JSON, at byte ", byte));
  }

 private:
  template <class Value>
  bool put(Value&& value) {
    if (open_.empty())
      root = std::forward<Value>(value);
    else if (auto* list = open_.back()->get_ptr<Json::array_t*>())
      value_ = &list->emplace_back(std::forward<Value>(value));
    else
      *value_ = std::forward<Value>(value);
    return true;
  }
  bool open(Json&& empty) {
    PLEAT_REQUIRE(int(open_.size()) < depth_limit_, what_, " is not valid: its JSON is nested more than ", depth_limit_,
                  " deep");
    put(std::move(empty));
    open_.push_back(open_.empty() ? &root : value_);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& what_;
  const int depth_limit_;
  std::vector<Json*> open_;  // objects and lists, outermost first
  Json* value_ = nullptr;    // of the last key, or the last of a list
};

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& what, int depth_limit) {
  Builder builder(what, depth_limit);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.root);
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  const File file(path);
  PLEAT_REQUIRE(file.size() <= kJsonFileLimit, path, " is too large for a JSON file: ", file.size(), " bytes");
  std::string text(file.size(), '\0');
  file.read(0, text.size(), text.data());
  return parse_json(text, concat(path));
}

}  // namespace pleat
