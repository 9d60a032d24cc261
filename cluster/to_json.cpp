#include "cluster/to_json.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

ordered_json value_json(const capnp::DynamicValue::Reader& value) {
  switch (value.getType()) {
    case capnp::DynamicValue::BOOL:
      return value.as<bool>();
    case capnp::DynamicValue::INT:
      return value.as<int64_t>();
    case capnp::DynamicValue::UINT:
      return value.as<uint64_t>();
    case capnp::DynamicValue::FLOAT:
      return value.as<double>();
    case capnp::DynamicValue::TEXT: {
      const auto text = value.as<capnp::Text>();
      return std::string(text.begin(), text.end());
    }
    case capnp::DynamicValue::LIST: {
      ordered_json list = ordered_json::array();
      for (const auto element : value.as<capnp::DynamicList>()) list.push_back(value_json(element));
      return list;
    }
    case capnp::DynamicValue::ENUM:
      KJ_IF_MAYBE (enumerant, value.as<capnp::DynamicEnum>().getEnumerant())
        return enumerant->getProto().getName().cStr();
      return value.as<capnp::DynamicEnum>().getRaw();
    case capnp::DynamicValue::STRUCT:
      return to_json(value.as<capnp::DynamicStruct>());
    default:
      return nullptr;
  }
}

}  // namespace

ordered_json to_json(capnp::DynamicStruct::Reader message) {
  ordered_json out = ordered_json::object();
  const auto add = [&](capnp::StructSchema::Field field) {
    out[field.getProto().getName().cStr()] = value_json(message.get(field));
  };
  for (const auto field : message.getSchema().getNonUnionFields()) add(field);
  KJ_IF_MAYBE (field, message.which()) add(*field);
  return out;
}

}  // namespace pleat
