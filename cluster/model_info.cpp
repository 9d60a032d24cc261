#include "cluster/model_info.h"

#include <capnp/common.h>

namespace pleat {
namespace {

void write_blueprint(const Blueprint& blueprint, rpc::Blueprint::Builder out) {
  out.setFamily(blueprint.family.c_str());
  out.setLayers(uint32_t(blueprint.layers));
  out.setHidden(uint32_t(blueprint.hidden));
  out.setHeads(uint32_t(blueprint.heads));
  out.setKvHeads(uint32_t(blueprint.kv_heads));
  out.setHeadSize(uint32_t(blueprint.head_size));
  out.setNeurons(uint32_t(blueprint.neurons));
  out.setVocab(uint32_t(blueprint.vocab));
  out.setMaxPositions(uint32_t(blueprint.max_positions));
  out.setGated(blueprint.gated);
  out.setFolded(blueprint.fold.has_value());
  if (blueprint.fold) out.setReduction(blueprint.fold->reduction);
}

void write_range(const Range& range, rpc::Shard::Range::Builder out) {
  out.setBegin(uint32_t(range.begin));
  out.setEnd(uint32_t(range.end));
}

void write_shard(const RankShare& share, rpc::Shard::Builder out) {
  write_range(share.heads, out.initHeads());
  write_range(share.neurons, out.initNeurons());
  write_range(share.fold_inputs, out.initFoldInputs());
  write_range(share.vocab, out.initVocab());
  out.setBytesStored(uint64_t(share.bytes_stored));
  out.setBytesReadPerToken(uint64_t(share.bytes_read));
}

}  // namespace

void ModelInfo::write(rpc::Info::Builder out) const {
  out.setModel(name.c_str());
  out.setVersion(PLEAT_VERSION);
  out.setCapnpVersion(kj::str(CAPNP_VERSION_MAJOR, '.', CAPNP_VERSION_MINOR, '.', CAPNP_VERSION_MICRO));
  write_blueprint(blueprint, out.initBlueprint());
  auto table = out.initShards(uint32_t(shards.size()));
  for (uint32_t rank = 0; rank < table.size(); ++rank) write_shard(shards[rank], table[rank]);
  out.setFoldReport(fold_report.c_str());
  out.setIdentity(identity.c_str());
}

}  // namespace pleat
