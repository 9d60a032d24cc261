#pragma once
// What tells apart servers that write different texts.
#include <string>

namespace pleat {

// Sixteen hexadecimal digits over a model's files and `ways`, which says how it is run. Small files count whole,
// weights by their headers and by samples all over them: any other training or fold is another model, a single changed
// number may be missed. A hash against mistakes, not against malice (FNV-1a). Error(invalid) where a file cannot be
// read.
std::string identity_of(const std::string& model, const std::string& ways);

}  // namespace pleat
