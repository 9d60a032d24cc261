#pragma once
// Lists that people write, one entry a line: API keys, addresses of replicas.
#include <string>
#include <vector>

namespace pleat {

// Without the byte-order mark that some editors put first. Error(invalid) where the file cannot be read, `what` being
// what it holds.
std::vector<std::string> lines_of(const std::string& file, const char* what);

}  // namespace pleat
