#pragma once
// What a server says about its model.
#include <string>
#include <vector>

#include "cluster/pleat.capnp.h"
#include "core/engine/shard_table.h"

namespace pleat {

struct ModelInfo {
  std::string name;
  Blueprint blueprint;
  std::vector<RankShare> shards;  // in rank order
  std::string fold_report;        // JSON; empty where there is none
  std::string identity;           // the same where one server may go on with another's text

  void write(rpc::Info::Builder out) const;
};

}  // namespace pleat
