#pragma once
// Pages of lists, as OpenAI's.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace pleat {

// What a client asks for behind the '?'.
struct ListQuery {
  std::string after;    // the id before the page; empty: it is the first one
  std::string purpose;  // of files; empty: any
  size_t limit = 0;
  bool oldest_first = false;
};

// limit, most: of a page where nothing is said, and at all. Error(invalid) in one sentence.
ListQuery read_list_query(const std::string& text, bool of_files, size_t limit, size_t most);

// One of a list, that stands somewhere else.
struct ListItem {
  int64_t created = 0;
  const std::string* id = nullptr;
};

// {"object": "list", "data", "has_more", "first_id", "last_id"}: only what is on the page is shown. Error(invalid)
// where `after` is none of them.
nlohmann::ordered_json list_page(std::vector<ListItem> all, const ListQuery& query,
                                 const std::function<nlohmann::ordered_json(const std::string& id)>& show);

}  // namespace pleat
