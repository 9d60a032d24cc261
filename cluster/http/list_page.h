#pragma once
// Pages of lists, as OpenAI's.
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

// {"object": "list", "data", "has_more", "first_id", "last_id"}. Error(invalid) where `after` is none of them.
nlohmann::ordered_json list_page(std::vector<nlohmann::ordered_json> all, const ListQuery& query);

}  // namespace pleat
