#pragma once
// A family's tensor names as a table; '#' stands for the layer's number.
#include <map>
#include <string>

#include "core/model/blueprint.h"

namespace pleat {

class Checkpoint;

class PartTable {
 public:
  // Every name begins with `prefix` where the checkpoint has prefix + probe, else with nothing: a model saved without
  // its head has no prefix.
  PartTable(const Checkpoint& checkpoint, const std::string& prefix, const std::string& probe);

  // name + ".weight" and, with `bias`, name + ".bias".
  WeightSource& add(Part part, const std::string& name, bool bias);
  // Query, key and value in one tensor: [q heads][kv heads][kv heads], or a group after the other, each with its query
  // heads, its key and its value.
  enum class Fused { in_a_row, by_group };
  void add_fused(const std::string& name, bool bias, const Blueprint& blueprint, Fused layout);
  // The head: the token embedding where tied, else `name`, which never has the prefix.
  void add_head(const std::string& name, bool tied, bool bias = false);

  WeightSource operator()(Part part, int layer) const;

 private:
  std::string prefix_;
  std::map<Part, WeightSource> sources_;
};

}  // namespace pleat
