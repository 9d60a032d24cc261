#pragma once
// A job of one rank.
#include "parallel/communicator.h"

namespace pleat {

class SelfCommunicator final : public Communicator {
 public:
  SelfCommunicator() : Communicator(0, 1, {0, 1}, &ledger_) {}
  std::string speak() const override { return ""; }

 private:
  void do_tree_all_reduce(const TreeExchange& exchange, const float* mine, int64_t n, float* out) override;
  void do_all_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override;
  void do_gather(std::span<const std::byte> mine, std::span<const int64_t> counts, std::byte* all) override;
  void do_broadcast(std::span<std::byte> bytes) override;
  void do_barrier() override;

  Ledger ledger_;
};

}  // namespace pleat
