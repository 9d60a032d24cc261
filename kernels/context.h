#pragma once
// What an op runs on: the threads, the instruction set, and scratch memory that lives as long as the engine.
#include <cstddef>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/thread_team.h"

namespace pleat {

// AVX-512 here means F, BW, VL, DQ and VNNI together (Cascade Lake and Zen 4 on); AVX2 means AVX2, FMA and F16C.
// avx512_bf16: also dot products of bf16, which round otherwise, on processors where they are the faster ones (AMD's).
enum class Isa : int { portable = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3 };

Isa detect_isa();
const char* name_of(Isa isa);

class Context {
 public:
  Context(int threads, bool oversubscribed, Isa isa = detect_isa()) : team_(threads, oversubscribed), isa_(isa) {}

  ThreadTeam& team() { return team_; }
  Isa isa() const { return isa_; }

  // At least `bytes`, 64-byte aligned, valid until the next scratch() of the same slot. Grows, never shrinks: after one
  // step of the largest size nothing is allocated again. Slots keep a caller's and a callee's scratch apart.
  enum Slot { op_slot, panel_slot, sums_slot, caller_slot, slots };
  void* scratch(Slot slot, size_t bytes);

 private:
  ThreadTeam team_;
  Isa isa_;
  Buffer scratch_[slots];
};

}  // namespace pleat
