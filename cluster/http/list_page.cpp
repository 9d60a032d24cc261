#include "cluster/http/list_page.h"

#include <kj/compat/url.h>

#include <algorithm>
#include <charconv>

#include "kernels/check.h"

namespace pleat {

using nlohmann::ordered_json;

namespace {

size_t read_limit(const std::string& text, size_t most) {
  size_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  PLEAT_REQUIRE(error == std::errc() && end == text.data() + text.size() && limit >= 1 && limit <= most,
                "'limit' must be 1 to ", most);
  return limit;
}

}  // namespace

ListQuery read_list_query(const std::string& text, bool of_files, size_t limit, size_t most) {
  ListQuery query;
  query.limit = limit;
  const auto url = kj::Url::tryParse(concat("/?", text), kj::Url::HTTP_REQUEST);
  PLEAT_REQUIRE(url != nullptr, "what follows the '?' is no query");
  KJ_IF_MAYBE (parsed, url)
    for (const auto& field : parsed->query) {
      const std::string name = field.name.cStr(), value = field.value.cStr();
      if (name == "limit") {
        query.limit = read_limit(value, most);
      } else if (name == "after") {
        query.after = value;
      } else if (name == "order" && of_files) {
        PLEAT_REQUIRE(value == "asc" || value == "desc", "'order' must be \"asc\" or \"desc\"");
        query.oldest_first = value == "asc";
      } else {
        PLEAT_REQUIRE(name == "purpose" && of_files, "'", name, "' is not supported");
        query.purpose = value;
      }
    }
  return query;
}

ordered_json list_page(std::vector<ordered_json> all, const ListQuery& query) {
  std::ranges::stable_sort(all, [&](const ordered_json& a, const ordered_json& b) {
    return query.oldest_first ? a["created_at"] < b["created_at"] : a["created_at"] > b["created_at"];
  });
  auto begin = all.begin();
  if (!query.after.empty()) {
    begin = std::ranges::find_if(all, [&](const ordered_json& one) { return one["id"] == query.after; });
    PLEAT_REQUIRE(begin != all.end(), "'after' is '", query.after, "', which is not in the list");
    ++begin;
  }
  const size_t left = size_t(all.end() - begin), size = std::min(left, query.limit);
  ordered_json data = std::vector<ordered_json>(begin, begin + ptrdiff_t(size));
  const ordered_json first = data.empty() ? ordered_json() : data.front()["id"];
  const ordered_json last = data.empty() ? ordered_json() : data.back()["id"];
  return {{"object", "list"}, {"data", data}, {"has_more", left > size}, {"first_id", first}, {"last_id", last}};
}

}  // namespace pleat
