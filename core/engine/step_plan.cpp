#include "core/engine/step_plan.h"

#include <algorithm>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/check.h"
#include "parallel/communicator.h"

namespace pleat {
namespace {

// Far above any plan; a larger size can only be a message that is not a plan.
constexpr int64_t kMaxBytes = int64_t(1) << 28;

// Ranks of one job run the same program, so integers travel in the machine's own byte order.
class Writer {
 public:
  void put(int32_t value) { put_bytes(&value, sizeof value); }
  void put(int64_t value) { put_bytes(&value, sizeof value); }
  void put(const std::vector<int32_t>& values) {
    put(int32_t(values.size()));
    put_bytes(values.data(), values.size() * sizeof(int32_t));
  }
  std::vector<std::byte> bytes;

 private:
  void put_bytes(const void* data, size_t count) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), begin, begin + count);
  }
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  T get() {
    T value;
    take(&value, sizeof value);
    return value;
  }
  // A number of things of which each takes at least `item_bytes` of what is left.
  size_t count(size_t item_bytes) {
    const int32_t value = get<int32_t>();
    PLEAT_ASSERT(value >= 0 && size_t(value) <= bytes_.size() / item_bytes, "a step plan is cut short");
    return size_t(value);
  }
  std::vector<int32_t> integers() {
    std::vector<int32_t> values(count(sizeof(int32_t)));
    take(values.data(), values.size() * sizeof(int32_t));
    return values;
  }
  bool at_end() const { return bytes_.empty(); }

 private:
  void take(void* out, size_t count) {
    PLEAT_ASSERT(count <= bytes_.size(), "a step plan is cut short");
    if (count > 0) std::memcpy(out, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
  }
  std::span<const std::byte> bytes_;
};

void check_row(const StepRow& row, const StepPlan& plan) {
  PLEAT_ASSERT(row.sequence >= 0 && size_t(row.sequence) < plan.page_tables.size(), "a row of sequence ", row.sequence);
  PLEAT_ASSERT(row.token >= 0 && row.position >= 0, "token ", row.token, " at position ", row.position);
  PLEAT_ASSERT(size_t(row.position / kPageTokens) < plan.page_tables[size_t(row.sequence)].size(),
               "no page for position ", row.position);
}

void check_slots(std::vector<int32_t> slots) {
  std::sort(slots.begin(), slots.end());
  PLEAT_ASSERT(slots.empty() || slots.front() >= 0, "slot ", slots.front());
  const auto twice = std::adjacent_find(slots.begin(), slots.end());
  PLEAT_ASSERT(twice == slots.end(), "slot ", *twice, " has two sequences");
}

bool is_sign_of_life(const StepPlan& plan) { return plan.rows.empty() && !plan.stop; }

}  // namespace

// step, stop, mode; sequences as slot, page table; rows as token, position, sequence * 8 + prompt_end * 4 + folded * 2
// + wants_logits.
std::vector<std::byte> serialise(const StepPlan& plan) {
  PLEAT_ASSERT(plan.slots.size() == plan.page_tables.size(), plan.slots.size(), " slots of ", plan.page_tables.size(),
               " sequences");
  Writer writer;
  writer.put(plan.step);
  writer.put(int32_t(plan.stop));
  writer.put(int32_t(plan.logits));
  writer.put(int32_t(plan.page_tables.size()));
  for (size_t i = 0; i < plan.page_tables.size(); ++i) {
    writer.put(plan.slots[i]);
    writer.put(plan.page_tables[i]);
  }
  writer.put(int32_t(plan.rows.size()));
  for (const StepRow& row : plan.rows) {
    writer.put(row.token);
    writer.put(row.position);
    writer.put(row.sequence * 8 + (row.prompt_end ? 4 : 0) + (row.folded ? 2 : 0) + (row.wants_logits ? 1 : 0));
  }
  return std::move(writer.bytes);
}

StepPlan parse_plan(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  StepPlan plan;
  plan.step = reader.get<int64_t>();
  plan.stop = reader.get<int32_t>() != 0;
  const int32_t mode = reader.get<int32_t>();
  PLEAT_ASSERT(mode >= 0 && mode <= int32_t(LogitsMode::both), "logits mode ", mode);
  plan.logits = LogitsMode(mode);
  plan.page_tables.resize(reader.count(2 * sizeof(int32_t)));
  for (auto& page_table : plan.page_tables) {
    plan.slots.push_back(reader.get<int32_t>());
    page_table = reader.integers();
  }
  check_slots(plan.slots);
  plan.rows.resize(reader.count(3 * sizeof(int32_t)));
  for (StepRow& row : plan.rows) {
    row.token = reader.get<int32_t>();
    row.position = reader.get<int32_t>();
    const int32_t packed = reader.get<int32_t>();
    row.sequence = packed >> 3;
    row.prompt_end = packed >> 2 & 1;
    row.folded = packed >> 1 & 1;
    row.wants_logits = packed & 1;
    check_row(row, plan);
  }
  PLEAT_ASSERT(reader.at_end(), "bytes after the end of a step plan");
  return plan;
}

// The size goes first, as the others cannot know it; they wait for work in its broadcast. Size 0 is a sign of life.
void broadcast_plan(Communicator& communicator, StepPlan& plan) {
  if (communicator.ranks() == 1) return;
  int64_t size = 0;
  const auto size_bytes = std::as_writable_bytes(std::span(&size, 1));
  if (communicator.rank() == 0) {
    std::vector<std::byte> bytes;
    if (!is_sign_of_life(plan)) bytes = serialise(plan);
    size = int64_t(bytes.size());
    communicator.broadcast("plan size", size_bytes);
    if (size > 0) communicator.broadcast("plan", bytes);
    return;
  }
  do communicator.broadcast("plan size", size_bytes);
  while (size == 0);
  PLEAT_ASSERT(size > 0 && size <= kMaxBytes, "a step plan of ", size, " bytes");
  std::vector<std::byte> bytes(static_cast<size_t>(size));
  communicator.broadcast("plan", bytes);
  plan = parse_plan(bytes);
}

}  // namespace pleat
