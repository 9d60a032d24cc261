#include "kernels/cuda/plane_records.h"

#include "kernels/planes_blocks.h"

namespace pleat::cuda {
namespace {

constexpr int64_t kQuads = kPlaneOutputs / 4;

// Bit `bit` of the word at byte `word` of a record.
struct SignPlace {
  int64_t word;
  int bit;
  SignPlace(int planes, int plane, int output, int input) {
    const int l = input % 16, i = input / 16, line = l / 4;
    bit = 16 * (i / 2) + 4 * (output % 4) + 2 * (i % 2) + (plane % 2);
    const bool alone = plane == 2 && planes == 3;
    const int64_t words = alone ? 2 : 4, pair_bytes = kPlaneOutputs * kGroup / 4;
    word = kGroup * planes + (plane < 2 ? 0 : pair_bytes) + 4 * ((line * kQuads + output / 4) * words);
    word += 4 * (alone ? l / 2 % 2 : l % 4);
    if (alone) bit += l % 2;
  }
};

void repack(const uint8_t* from, int planes, PlaneScales kind, unsigned char* to) {
  for (int64_t table = 0; table < kGroup; ++table)
    for (int64_t plane = 0; plane < planes; ++plane) to[plane * kGroup + table] = from[table * planes + plane];
  for (int output = 0; output < kPlaneOutputs; ++output)
    for (int input = 0; input < kGroup; ++input) {
      const PlanePlace place = PlanePlace::of(kind, output, input);
      for (int plane = 0; plane < planes; ++plane) {
        const PlaneBit at(planes, place, plane);
        if ((from[at.byte] >> at.bit & 1) == 0) continue;
        const SignPlace there(planes, plane, output, input);
        to[there.word + there.bit / 8] |= static_cast<unsigned char>(1 << there.bit % 8);
      }
    }
}

}  // namespace

PlaneRecords::PlaneRecords(const PlanesMatrix& matrix, const Stream& stream) {
  const int64_t groups = (matrix.inputs() + kGroup - 1) / kGroup, record = kPlaneRecordBytes * matrix.planes();
  std::vector<unsigned char> records(matrix.blocks().size() * size_t(groups * record));
  std::vector<float> units;
  std::vector<PlaneBlock> blocks;
  for (const PlanesMatrix::Block& block : matrix.blocks()) {
    blocks.push_back({int(block.output), block.lane, block.count, block.kind == PlaneScales::column});
    units.insert(units.end(), block.units, block.units + groups);
  }
  for (int64_t i = 0; i < int64_t(matrix.blocks().size()) * groups; ++i) {
    const PlanesMatrix::Block& block = matrix.blocks()[size_t(i / groups)];
    repack(block.records + i % groups * record, matrix.planes(), block.kind, &records[size_t(i * record)]);
  }
  records_ = {std::span<const unsigned char>(records), stream};
  units_ = {std::span<const float>(units), stream};
  blocks_ = {std::span<const PlaneBlock>(blocks), stream};
  if (matrix.protected_inputs().empty()) return;
  std::vector<uint16_t> weights;
  std::vector<float> row(size_t(matrix.inputs()));
  for (int64_t output = 0; output < matrix.outputs(); ++output) {
    matrix.protected_row(output, row.data());
    for (const int32_t input : matrix.protected_inputs()) weights.push_back(to_bf16(row[size_t(input)]).bits);
  }
  protected_weights_ = {std::span<const uint16_t>(weights), stream};
}

PlaneBlocks PlaneRecords::view() const {
  return {records_.data(), units_.data(), blocks_.data(), int(blocks_.size()), protected_weights_.data()};
}

}  // namespace pleat::cuda
