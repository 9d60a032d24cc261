#include "core/model/families/part_table.h"

#include "core/checkpoint/checkpoint.h"

namespace pleat {
namespace {

std::string of_layer(std::string name, int layer) {
  const size_t place = name.find('#');
  return place == std::string::npos ? name : name.replace(place, 1, std::to_string(layer));
}

}  // namespace

PartTable::PartTable(const Checkpoint& checkpoint, const std::string& prefix, const std::string& probe)
    : prefix_(checkpoint.find(prefix + probe) || !checkpoint.find(probe) ? prefix : "") {}

WeightSource& PartTable::add(Part part, const std::string& name, bool bias) {
  WeightSource& source = sources_[part];
  source.weight = prefix_ + name + ".weight";
  source.bias = bias ? prefix_ + name + ".bias" : "";
  return source;
}

void PartTable::add_fused(const std::string& name, bool bias, const Blueprint& blueprint, Fused layout) {
  const int64_t head = blueprint.head_size, queries = blueprint.heads, keys = blueprint.kv_heads;
  const int64_t group = queries / keys, stride = (group + 2) * head;
  const bool grouped = layout == Fused::by_group;
  const auto part = [&](Part which, int64_t begin, int64_t heads_of_group) {
    WeightSource& source = add(which, name, bias);
    source.outputs = (queries + 2 * keys) * head;
    source.output_begin = begin;
    source.group_heads = grouped ? heads_of_group : 1;
    source.group_stride = grouped ? stride : 0;
  };
  part(Part::query, 0, group);
  part(Part::key, grouped ? group * head : queries * head, 1);
  part(Part::value, grouped ? (group + 1) * head : (queries + keys) * head, 1);
}

void PartTable::add_head(const std::string& name, bool tied, bool bias) {
  sources_[Part::head].weight = tied ? sources_.at(Part::token_embedding).weight : name + ".weight";
  if (bias) sources_[Part::head].bias = name + ".bias";
}

WeightSource PartTable::operator()(Part part, int layer) const {
  const auto found = sources_.find(part);
  if (found == sources_.end()) return {};
  WeightSource source = found->second;
  source.weight = of_layer(std::move(source.weight), layer);
  source.bias = of_layer(std::move(source.bias), layer);
  return source;
}

}  // namespace pleat
