#pragma once
// A message as JSON, with the schema's names: for people and scripts, not for the wire.
#include <capnp/dynamic.h>

#include <nlohmann/json.hpp>

namespace pleat {

// Pointers that are not set give empty values; of a union the member that is set.
nlohmann::ordered_json to_json(capnp::DynamicStruct::Reader message);

}  // namespace pleat
