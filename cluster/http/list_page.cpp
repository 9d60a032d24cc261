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

ordered_json list_page(std::vector<ListItem> all, const ListQuery& query,
                       const std::function<ordered_json(const std::string& id)>& show) {
  std::ranges::stable_sort(all, [&](const ListItem& a, const ListItem& b) {
    return query.oldest_first ? a.created < b.created : a.created > b.created;
  });
  auto item = all.begin();
  if (!query.after.empty()) {
    item = std::ranges::find_if(all, [&](const ListItem& one) { return *one.id == query.after; });
    PLEAT_REQUIRE(item != all.end(), "'after' is '", query.after, "', which is not in the list");
    ++item;
  }
  ordered_json page = {{"object", "list"}, {"data", ordered_json::array()}};
  ordered_json& data = page["data"];
  for (; item != all.end() && data.size() < query.limit; ++item) data.push_back(show(*item->id));
  const ordered_json first = data.empty() ? ordered_json() : data.front()["id"];
  const ordered_json last = data.empty() ? ordered_json() : data.back()["id"];
  page.update({{"has_more", item != all.end()}, {"first_id", first}, {"last_id", last}});
  return page;
}

}  // namespace pleat
